"""The rows of a decode step on the device: where they stay, and attention over their slabs.

Everything a step needs of its sessions is in one small table that is written before it: which token, where it
goes, where the slab lies. All else has a place for good, so that a recorded step can be run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import torch

from harness.sessions.core.copies import Copies
from harness.sessions.core.slab import Slab, SlabShape

__all__ = ["DTYPES", "SPLIT_TOKENS", "Piece", "Rows"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""What the kernels compute in; sums are float32."""
SPLIT_TOKENS = 256
_BLOCK_BYTES = 16384
"""Of keys that a program holds at once: more do not fit into the memory of a multiprocessor."""
_LEAST_GROUP = 16
"""Rows of the smallest matrix product that tensor cores take."""


class Piece(Protocol):
    """What is read of a span."""

    @property
    def slab(self) -> Slab: ...  # noqa: D102
    @property
    def token_ids(self) -> Sequence[int]: ...  # noqa: D102


class Rows:
    """At most `max_rows` sessions, each with one new token.

    Arguments: `groups`, queries per key head; `max_tokens`, the most that a slab holds; `copies`, which
    counts what goes up.
    """

    def __init__(
        self, shape: SlabShape, groups: int, *, max_rows: int, max_tokens: int, copies: Copies
    ) -> None:
        self._kernels: Any = import_module("harness.sessions.core.decoding.kernels")
        self._shape, self._groups = shape, groups
        self._max_tokens = max_tokens
        self._num_splits = -(-max_tokens // SPLIT_TOKENS)
        self._copies = copies
        # Where rows that nobody asked for leave their keys and values.
        self._nowhere = Slab(shape, 1)
        self._table = torch.zeros(max_rows, 4, dtype=torch.int64, device=shape.device)
        heads, dim = shape.num_kv_heads, shape.head_dim
        places = (max_rows, heads, self._num_splits)
        self._parts = torch.empty(*places, groups, dim, dtype=torch.float32, device=shape.device)
        self._sums = torch.empty(*places, 2, groups, dtype=torch.float32, device=shape.device)

    @property
    def max_rows(self) -> int:
        """The most of a step."""
        return len(self._table)

    @property
    def num_bytes(self) -> int:
        """Memory of its own on the device, whatever its sessions hold."""
        return self._nowhere.num_bytes + sum(t.nbytes for t in (self._table, self._parts, self._sums))

    def take(self, pieces: Sequence[Piece]) -> bool:
        """Whether there are not too many, nor slabs with more tokens than there are splits for."""
        return len(pieces) <= self.max_rows and all(
            piece.slab.max_tokens <= self._max_tokens for piece in pieces
        )

    def put(self, pieces: Sequence[Piece], num_rows: int) -> None:
        """Have the first of `num_rows` rows be those of `pieces`, and the others nobody's."""
        table = [
            (piece.token_ids[0], piece.slab.num_tokens, piece.slab.kv.data_ptr(), piece.slab.max_tokens)
            for piece in pieces
        ]
        table += [(0, 0, self._nowhere.kv.data_ptr(), 1)] * (num_rows - len(table))
        found = torch.tensor(table, dtype=torch.int64)
        self._table[:num_rows].copy_(found)
        self._copies.up(found.nbytes)

    def tokens(self, num_rows: int) -> torch.Tensor:
        """The rows' new tokens: int64 [num_rows]."""
        return self._table[:num_rows, 0]

    def positions(self, num_rows: int) -> torch.Tensor:
        """Where these stand in their sessions: int64 [num_rows]."""
        return self._table[:num_rows, 1]

    def __call__(self, layer: int, query: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """Store the rows' keys and values, then attend; as `core.attention.Attention` has it."""
        heads, dim = self._shape.num_kv_heads, self._shape.head_dim
        num = len(query)
        # Views into one product of all projections: only their rows are apart.
        assert query.stride()[1:] == (self._groups * dim, dim, 1)
        assert fresh.stride()[1:] == (heads * dim, dim, 1)
        itemsize = query.dtype.itemsize
        dim_block = max(_LEAST_GROUP, 1 << (dim - 1).bit_length())
        group_block = max(_LEAST_GROUP, 1 << (self._groups - 1).bit_length())
        self._kernels.store[(num, heads)](
            fresh, fresh.stride(0), self._table, layer, KV_HEADS=heads, DIM=dim, DIM_BLOCK=dim_block
        )
        sizes = {
            "KV_HEADS": heads, "GROUPS": self._groups, "DIM": dim, "SPLITS": self._num_splits,
            "SPLIT_TOKENS": SPLIT_TOKENS, "GROUP_BLOCK": group_block, "DIM_BLOCK": dim_block,
        }  # fmt: skip
        self._kernels.attend[(num, heads, self._num_splits)](
            query, query.stride(0), self._table, layer, dim**-0.5, self._parts, self._sums,
            BLOCK=min(64, _BLOCK_BYTES // (dim_block * itemsize)), **sizes,
        )  # fmt: skip
        out = query.new_empty(num, heads * self._groups * dim)
        self._kernels.combine[(num, heads)](self._parts, self._sums, self._table, out, **sizes)
        return out
