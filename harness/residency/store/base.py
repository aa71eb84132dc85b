"""A model as bytes that wait on the host: what each chunk is made of, and one blob that nobody can write to.

Weights are read-only, so evicting a chunk copies nothing: the host has had its bytes all along. The blob's
checksum is that of the day it was packed, or something has written where nothing may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import ModelError
from harness.residency.layout import ALIGNMENT_BYTES, ModelLayout

__all__ = ["Manifest", "TensorSpec"]


class TensorSpec(NamedTuple):
    """A tensor of a model, and where it lies."""

    name: str
    dtype: str
    """As torch calls it: "float32", "bfloat16"."""
    shape: tuple[int, ...]
    chunk: int
    offset_bytes: int
    """From the start of its chunk: views move with the chunk."""
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a blob holds."""

    layout: ModelLayout
    tensors: tuple[TensorSpec, ...]
    """In the order of the blob."""
    checksum: str
    """BLAKE2b of the blob, padding included, as hexadecimal digits."""

    def __post_init__(self) -> None:
        ends = [0] * self.layout.num_chunks
        for tensor in self.tensors:
            if not 0 <= tensor.chunk < len(ends):
                raise ModelError(f"{self.layout.name}: tensor {tensor.name} is in no chunk; pack it again")
            end = tensor.offset_bytes + tensor.num_bytes
            is_over = end > self.layout.chunks[tensor.chunk].num_bytes
            if tensor.offset_bytes < ends[tensor.chunk] or tensor.offset_bytes % ALIGNMENT_BYTES or is_over:
                raise ModelError(
                    f"{self.layout.name}: tensor {tensor.name} lies at {tensor.offset_bytes} of "
                    f"{self.layout.chunks[tensor.chunk].name}, over its neighbour or its end; pack it again"
                )
            ends[tensor.chunk] = end
