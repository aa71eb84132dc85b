"""The keys and values of one session, in memory that is taken whole when the session gets it.

A slab never grows and is never copied to make room for a token: a step writes its rows in place and reads the
valid part through a view. Its bytes are drawn from the device budget before the memory is, and given back
with it. A slab that is cut back keeps what stands before the cut: keys and values depend on earlier tokens
only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from harness.errors import UsageError
from harness.hardware.allocation import Allocation
from harness.hardware.budget import DeviceBudget
from harness.hardware.memory import out_of_memory
from harness.sessions.core import pages

__all__ = ["Slab", "SlabShape"]


class SlabShape(NamedTuple):
    """What decides the size of a token's keys and values."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes per token: keys and values of all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.dtype.itemsize


class Slab:
    """Keys and values for at most `max_tokens` tokens, of which the first `num_tokens` are valid.

    `kv` is [layers, 2, kv_heads, max_tokens, head_dim]; 0 are the keys, rotated to their positions.
    """

    __slots__ = ("_allocation", "_flat", "kv", "max_tokens", "num_tokens")

    def __init__(self, shape: SlabShape, max_tokens: int, allocation: Allocation | None = None) -> None:
        layers, heads, dim, dtype, device = shape
        self._allocation = allocation
        memory = pages.allocate(max_tokens * shape.token_bytes, device)
        self._flat = memory.view(dtype).view(2 * layers, 1, heads, max_tokens, dim)
        self.kv = self._flat.view(layers, 2, heads, max_tokens, dim)
        self.max_tokens = max_tokens
        self.num_tokens = 0

    @classmethod
    def draw(cls, shape: SlabShape, max_tokens: int, budget: DeviceBudget, *, owner: str) -> Slab:
        """Take a slab's bytes from the budget, then its memory.

        Raises
        ------
        BudgetError: the bytes are not free, or the device has them not.
        """
        allocation = budget.allocate(max_tokens * shape.token_bytes, owner=owner)
        try:
            with out_of_memory():
                return cls(shape, max_tokens, allocation)
        except BaseException:
            allocation.release()
            raise

    @property
    def num_bytes(self) -> int:
        """All its memory, whether tokens stand in it or not."""
        return self._flat.nbytes

    @property
    def used_bytes(self) -> int:
        """Memory of the valid tokens."""
        return self._flat.nbytes // self.max_tokens * self.num_tokens

    def places(self, num: int) -> tuple[torch.Tensor, ...]:
        """Per layer, where the next `num` tokens go: views [2, kv_heads, num, head_dim]."""
        return self.kv[:, :, :, self.num_tokens : self.num_tokens + num].unbind(0)

    def place(self) -> tuple[torch.Tensor, ...]:
        """Per layer, where the next token goes: views [2, kv_heads, head_dim]."""
        return self.kv[:, :, :, self.num_tokens].unbind(0)

    def views(self, num_tokens: int) -> tuple[torch.Tensor, ...]:
        """Keys and values of layer 0, of layer 1, …: views [1, kv_heads, num_tokens, head_dim]."""
        return self._flat[:, :, :, :num_tokens].unbind(0)

    def read(self, begin: int, end: int) -> torch.Tensor:
        """Copy the tokens `begin` to `end`: [layers, 2, kv_heads, end - begin, head_dim], on the device."""
        if not 0 <= begin <= end <= self.num_tokens:
            raise UsageError(f"tokens {begin} to {end} of a slab that holds {self.num_tokens}; ask for less")
        return self.kv[:, :, :, begin:end].clone(memory_format=torch.contiguous_format)

    def write(self, begin: int, kv: torch.Tensor) -> None:
        """Put tokens at `begin`, and end there; `kv` is shaped as `read` gives it, on any device.

        Raises
        ------
        UsageError: they leave a gap, do not fit, or are of another model's shape.
        """
        end = begin + (kv.shape[3] if kv.dim() == 5 else 0)
        place = self.kv[:, :, :, begin:end]
        if begin > self.num_tokens or end > self.max_tokens or place.shape != kv.shape:
            raise UsageError(
                f"keys and values of shape {list(kv.shape)} at token {begin} do not fit a slab of shape "
                f"{list(self.kv.shape)} that holds {self.num_tokens} tokens; send them as they were read"
            )
        place.copy_(kv)
        self.num_tokens = end

    def cut(self, num_tokens: int) -> None:
        """Keep at most the first `num_tokens` tokens."""
        self.num_tokens = min(self.num_tokens, num_tokens)

    def release(self) -> None:
        """Give memory and bytes back; a second call does nothing."""
        self._flat = self.kv = torch.empty(0)
        self.num_tokens = self.max_tokens = 0
        if self._allocation is not None:
            self._allocation.release()
            self._allocation = None
