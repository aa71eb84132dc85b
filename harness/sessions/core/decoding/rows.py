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
from harness.sessions.core.decoding.columns import NUM_COLUMNS, POSITION, TOKEN
from harness.sessions.core.slab import Slab, SlabShape

__all__ = ["DTYPES", "MAX_SPLITS", "MIN_SPLIT_TOKENS", "Piece", "Rows"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""What the kernels compute in; sums are float32."""
MAX_SPLITS = 32
MIN_SPLIT_TOKENS = 256
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

    Its own memory is no session's: of each row, key head and split a sum of the head's width, in float32.
    """

    def __init__(
        self, shape: SlabShape, groups: int, *, max_rows: int, max_tokens: int, copies: Copies
    ) -> None:
        self._kernels: Any = import_module("harness.sessions.core.decoding.kernels")
        self.max_rows, self._max_tokens = max_rows, max_tokens
        heads, dim, device = shape.num_kv_heads, shape.head_dim, shape.device
        split_tokens = MIN_SPLIT_TOKENS
        while -(-max_tokens // split_tokens) > MAX_SPLITS:
            split_tokens *= 2
        self._num_splits = -(-max_tokens // split_tokens)
        self._copies = copies
        # Where rows that nobody asked for leave their keys and values.
        self._nowhere = Slab(shape, 1)
        self._table = torch.zeros(max_rows, NUM_COLUMNS, dtype=torch.int64, device=device)
        places = (max_rows, heads, self._num_splits)
        self._parts = torch.empty(*places, groups, dim, dtype=torch.float32, device=device)
        self._sums = torch.empty(*places, 2, groups, dtype=torch.float32, device=device)
        self._scale = dim**-0.5
        self._head = {"KV_HEADS": heads, "DIM": dim, "DIM_BLOCK": _power_of_two(dim)}
        self._group = {
            "GROUPS": groups, "GROUP_BLOCK": _power_of_two(groups), "SPLIT_TOKENS": split_tokens
        }  # fmt: skip
        self._block = min(64, _BLOCK_BYTES // (_power_of_two(dim) * shape.dtype.itemsize))

    def can_take(self, pieces: Sequence[Piece]) -> bool:
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
        return self._table[:num_rows, TOKEN]

    def positions(self, num_rows: int) -> torch.Tensor:
        """Where these stand in their sessions: int64 [num_rows]."""
        return self._table[:num_rows, POSITION]

    def __call__(self, layer: int, query: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """Store the rows' keys and values, then attend; as `core.attention.Attention` has it."""
        num, heads, groups, dim = query.shape
        # Views into one product of all projections: only their rows are apart.
        assert query.stride()[1:] == (groups * dim, dim, 1)
        assert fresh.stride()[1:] == (heads * dim, dim, 1)
        out = query.new_empty(num, heads * groups * dim)
        sizes = self._head | self._group
        kernels, parts, sums, splits = self._kernels, self._parts, self._sums, self._num_splits
        # Triton asks on the thread's device, whatever the tensors' is.
        device_of: Any = torch.cuda.device_of
        with device_of(query):
            kernels.store[(num, heads)](fresh, fresh.stride(0), self._table, layer, **self._head)
            kernels.attend[(num, heads, splits)](
                query, query.stride(0), self._table, layer, self._scale, parts, sums, splits,
                BLOCK=self._block, **sizes,
            )  # fmt: skip
            kernels.combine[(num, heads)](parts, sums, self._table, out, splits, **sizes)
        return out


def _power_of_two(number: int) -> int:
    """The next one, and no less than a matrix product takes."""
    return max(_LEAST_GROUP, 1 << (number - 1).bit_length())
