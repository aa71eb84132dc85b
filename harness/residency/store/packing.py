"""Packs the tensors of a model into one blob: chunk behind chunk, tensor behind tensor, each on 64 bytes.

The order is that of the forward pass, so that a range of chunks is one copy. What lies between tensors is
zeros, and part of the checksum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import ModelError
from harness.residency.layout import ModelLayout, aligned
from harness.residency.store.base import Manifest, TensorSpec
from harness.residency.store.blob import HostBlob, checksum_of
from harness.residency.store.memory import HostMemory

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ITEM_BYTES", "HostTensor", "check_tensor", "pack"]

ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
"""Bytes of an element, by what torch calls its type."""


class HostTensor(NamedTuple):
    """A tensor to be packed."""

    name: str
    dtype: str
    """As torch calls it: "float32", "bfloat16"."""
    shape: tuple[int, ...]
    data: Buffer
    """Its elements, contiguous, in C order; of any item size, since numpy knows no bfloat16."""


def pack(name: str, chunks: Sequence[tuple[str, Sequence[HostTensor]]]) -> HostBlob:
    """Pack a model of (chunk's name, tensors), in the order of a forward pass.

    Raises
    ------
    ModelError: a tensor's bytes are not what its type and shape need, or a name occurs twice.
    BudgetError: the host has no memory for another copy of the weights.
    """
    specs, sizes = _place(name, chunks)
    layout = ModelLayout.packed(name, sizes)
    draft = Manifest(layout=layout, tensors=tuple(specs), checksum="")
    memory = HostMemory(layout.num_bytes, owner=name)
    view = memory.view
    tensors = (tensor for _, inside in chunks for tensor in inside)
    for spec, tensor in zip(specs, tensors, strict=True):
        at = layout.starts[spec.chunk] + spec.offset_bytes
        view[at : at + spec.num_bytes] = _bytes_of(name, tensor)
    checksum = checksum_of(view)
    view.release()
    return HostBlob(replace(draft, checksum=checksum), memory)


def check_tensor(name: str, dtype: str, shape: Sequence[int], num_bytes: int) -> None:
    """Check that a tensor has the bytes that its type and shape need.

    Raises
    ------
    ModelError: it has others, or none, or its type is unknown.
    """
    item_bytes = ITEM_BYTES.get(dtype)
    if item_bytes is None:
        raise ModelError(f"{name}: type {dtype!r} is unknown; use {', '.join(ITEM_BYTES)}")
    needed = prod(shape) * item_bytes
    if num_bytes != needed or not needed:
        raise ModelError(
            f"{name}: {num_bytes} bytes where {dtype} {list(shape)} needs {needed}; "
            "give the tensor whole and of its own shape"
        )


def _place(
    name: str, chunks: Sequence[tuple[str, Sequence[HostTensor]]]
) -> tuple[list[TensorSpec], list[tuple[str, int]]]:
    """Where each tensor goes, and how large each chunk is."""
    specs: list[TensorSpec] = []
    sizes: list[tuple[str, int]] = []
    for index, (chunk, tensors) in enumerate(chunks):
        at = 0
        for tensor in tensors:
            num_bytes = memoryview(tensor.data).nbytes
            check_tensor(f"{name}: {tensor.name}", tensor.dtype, tensor.shape, num_bytes)
            specs.append(TensorSpec(tensor.name, tensor.dtype, tuple(tensor.shape), index, at, num_bytes))
            at += aligned(num_bytes)
        sizes.append((chunk, at))
    for names in ([spec.name for spec in specs], [chunk for chunk, _ in sizes]):
        twice = next((one for one in names if names.count(one) > 1), None)
        if twice is not None:
            raise ModelError(f"{name}: {twice} occurs twice; give each tensor and chunk a name of its own")
    return specs, sizes


def _bytes_of(name: str, tensor: HostTensor) -> memoryview:
    view = memoryview(tensor.data)
    if not view.c_contiguous:
        raise ModelError(f"{name}: tensor {tensor.name} is not contiguous; give a contiguous copy")
    return view.cast("B") if view.ndim else memoryview(bytes(view))
