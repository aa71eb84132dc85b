"""Attention of a ragged batch: each span's rows against its own slab, read in place.

Spans of one token, the decoding ones, take one call each and share the copies into and out of the batch, or
one in all on a GPU (`decoding.rows`). Longer ones see their own earlier tokens through a mask.

Grouped queries: the queries that share a key head are laid out as further rows of that head, so keys and
values are never repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from harness.sessions.core.decoding.rows import Piece, Rows

__all__ = ["Attention"]


class _Chunk(NamedTuple):
    """A span of several tokens: its rows in the batch, its place in the slab, and what it may see."""

    begin: int
    end: int
    places: tuple[torch.Tensor, ...]
    views: tuple[torch.Tensor, ...]
    mask: torch.Tensor | None
    is_causal: bool


class Attention:
    """The views of one batch, made once and used by every layer.

    Arguments: `spans`, whose slabs have room for their tokens; `groups`, queries per key head; `rows`, which
    attends for all spans of one token if it takes them; None for each by itself.
    """

    def __init__(self, spans: Sequence[Piece], groups: int, rows: Rows | None = None) -> None:
        num = next((i for i, span in enumerate(spans) if len(span.token_ids) > 1), len(spans))
        self._num_singles = num
        self._rows = rows if rows is not None and num and rows.can_take(spans[:num]) else None
        if self._rows is not None:
            self._rows.put(spans[:num], num)
        slabs = [] if self._rows is not None else [span.slab for span in spans[:num]]
        self._single_places = list(zip(*(slab.place() for slab in slabs), strict=True))
        self._single_views = [slab.views(slab.num_tokens + 1) for slab in slabs]
        self._chunks: list[_Chunk] = []
        begin = num
        for span in spans[num:]:
            end = begin + len(span.token_ids)
            self._chunks.append(_chunk(span, begin, end, groups))
            begin = end

    def __call__(self, layer: int, query: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """Store the rows' keys and values, then attend.

        Arguments: `query` [rows, kv_heads, groups, head_dim]; `fresh` [rows, 2, kv_heads, head_dim], the keys
        and values of these rows.

        Returns [rows, kv_heads · groups · head_dim].
        """
        found = []
        if self._num_singles:
            found.append(self._singles(layer, query[: self._num_singles], fresh[: self._num_singles]))
        for chunk in self._chunks:
            rows = slice(chunk.begin, chunk.end)
            found.append(_attend(layer, chunk, query[rows], fresh[rows]))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _singles(self, layer: int, query: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        if self._rows is not None:
            return self._rows(layer, query, fresh)
        torch._foreach_copy_(self._single_places[layer], fresh.unbind(0))
        key, value = 2 * layer, 2 * layer + 1
        attended = [
            F.scaled_dot_product_attention(row, views[key], views[value])
            for row, views in zip(query[:, None].unbind(0), self._single_views, strict=True)
        ]
        return (attended[0] if len(attended) == 1 else torch.cat(attended)).reshape(len(query), -1)


def _attend(layer: int, chunk: _Chunk, query: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    num, heads, groups, dim = query.shape
    chunk.places[layer].copy_(fresh.permute(1, 2, 0, 3))
    attended = F.scaled_dot_product_attention(
        query.permute(1, 2, 0, 3).reshape(1, heads, groups * num, dim),
        chunk.views[2 * layer],
        chunk.views[2 * layer + 1],
        attn_mask=chunk.mask,
        is_causal=chunk.is_causal,
    )
    return attended.reshape(heads, groups, num, dim).permute(2, 0, 1, 3).reshape(num, -1)


def _chunk(span: Piece, begin: int, end: int, groups: int) -> _Chunk:
    slab, num = span.slab, len(span.token_ids)
    total = slab.num_tokens + num
    is_causal = groups == 1 and total == num
    mask = None
    if not is_causal and num > 1:
        # Row i sees all tokens up to its own. Only the square of the new ones is masked.
        mask = torch.zeros(num, total, dtype=slab.kv.dtype, device=slab.kv.device)
        mask[:, total - num :] = torch.full_like(mask[:, :num], float("-inf")).triu_(1)
        mask = mask.repeat(groups, 1)
    return _Chunk(begin, end, slab.places(num), slab.views(total), mask, is_causal)
