"""What a model is made of: chunks that are copied as one, in the order in which a forward pass needs them.

    embed | layer.0 | layer.1 | … | head

A model is one packed host blob. Every chunk begins on a boundary of 64 bytes, so that a tensor in it can be
viewed wherever the chunk lies in the arena, and neighbours in the blob are neighbours there too: a range of
chunks is one copy.

Traps: a chunk is never split, so the arena loses up to one chunk where a model wraps. Tied embeddings have no
head of their own: leave the head out, or it is loaded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from harness.errors import ModelError

__all__ = ["ALIGNMENT_BYTES", "Chunk", "ModelLayout", "aligned", "whole_lines"]

ALIGNMENT_BYTES = 64
"""A cache line, and enough for every vector unit and for torch's own allocator."""


class Chunk(NamedTuple):
    """A stretch of a model's blob that is resident or not."""

    name: str
    offset_bytes: int
    """From the start of the blob."""
    num_bytes: int
    """With the padding up to the next chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLayout:
    """A model's chunks, in the order of a forward pass."""

    name: str
    chunks: tuple[Chunk, ...]
    starts: tuple[int, ...] = field(init=False, repr=False)
    """Where each chunk begins in the blob, and behind them the blob's size."""

    def __post_init__(self) -> None:
        if not self.chunks:
            raise ModelError(f"{self.name}: no chunks; give at least one")
        at = 0
        for chunk in self.chunks:
            if chunk.num_bytes <= 0 or chunk.num_bytes % ALIGNMENT_BYTES or chunk.offset_bytes != at:
                raise ModelError(
                    f"{self.name}: chunk {chunk.name} has {chunk.num_bytes} bytes at {chunk.offset_bytes}; "
                    f"give multiples of {ALIGNMENT_BYTES} without gaps (next is {at})"
                )
            at += chunk.num_bytes
        object.__setattr__(self, "starts", (*(chunk.offset_bytes for chunk in self.chunks), at))

    @property
    def num_chunks(self) -> int:
        """How many chunks there are."""
        return len(self.chunks)

    @property
    def num_bytes(self) -> int:
        """Size of the blob."""
        return self.starts[-1]

    def span_bytes(self, first: int, last: int) -> int:
        """Bytes of the chunks `first` up to, not including, `last`."""
        return self.starts[last] - self.starts[first]

    @classmethod
    def packed(cls, name: str, sizes: Sequence[tuple[str, int]]) -> ModelLayout:
        """Pack chunks of (name, bytes) one behind the other, each padded to the alignment.

        Raises
        ------
        ModelError: there is no chunk, or one without bytes.
        """
        padded = [(chunk, aligned(num_bytes)) for chunk, num_bytes in sizes]
        offsets = accumulate((num_bytes for _, num_bytes in padded), initial=0)
        return cls(
            name=name, chunks=tuple(Chunk(c, at, n) for (c, n), at in zip(padded, offsets, strict=False))
        )

    @classmethod
    def of_layers(
        cls, name: str, num_layers: int, num_bytes: int, *, embed_bytes: int = 0, head_bytes: int = 0
    ) -> ModelLayout:
        """Lay out a model of equal layers; an embedding or head of 0 bytes is left out.

        Raises
        ------
        ModelError: embedding and head leave nothing for the layers.
        """
        layers_bytes = num_bytes - embed_bytes - head_bytes
        if num_layers < 1 or layers_bytes < num_layers:
            raise ModelError(
                f"{name}: {layers_bytes} bytes for {num_layers} layers; give at least one byte each"
            )
        sizes = [("embed", embed_bytes)] if embed_bytes else []
        sizes += [(f"layer.{i}", layers_bytes // num_layers) for i in range(num_layers)]
        sizes += [("head", head_bytes)] if head_bytes else []
        return cls.packed(name, sizes)


def aligned(num_bytes: int) -> int:
    """`num_bytes` rounded up to the alignment."""
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def whole_lines(capacity_bytes: int) -> int:
    """`capacity_bytes` rounded down to the alignment: a place counted back from the end is aligned, too."""
    return capacity_bytes // ALIGNMENT_BYTES * ALIGNMENT_BYTES
