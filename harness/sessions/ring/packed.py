"""A model's weights as a blob: which tensor lies in which chunk, and under which name.

    embed | layer.0 | layer.1 | … | head

A chunk holds the embedding, or all tensors of a layer, or the last norm and the head, fused as the engine
multiplies them. What a forward pass needs besides the tensors is the skeleton; a blob that was read from a
file is checked against it, since a tensor of another shape would be computed with without a word.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from harness.errors import ModelError
from harness.residency.store.base import Manifest
from harness.residency.store.blob import HostBlob
from harness.residency.store.packing import HostTensor, pack
from harness.sessions.core.linear import Linear
from harness.sessions.core.weights import Layer, Shape, Weights

__all__ = ["NORMS", "PARTS", "Skeleton", "check", "layer_name", "pack_model"]

PARTS = ("norm_attention", "qkv", "out", "norm_ffn", "gate_up", "down")
"""Of a layer, in the order of its fields and of the forward pass."""
NORMS = ("norm_attention", "norm_ffn")
_EMBED, _HEAD = "embed", "head"


class Skeleton(NamedTuple):
    """What a forward pass needs of a checkpoint besides its tensors."""

    shape: Shape
    is_tied: bool
    epsilon: float
    inverse_frequencies: torch.Tensor
    rope_scale: float

    @classmethod
    def of(cls, weights: Weights) -> Skeleton:
        """The same without the tensors."""
        w = weights
        return cls(w.shape, w.is_tied, w.epsilon, w.inverse_frequencies, w.rope_scale)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that there must be, biases aside, by name."""
        s = self.shape
        layer: dict[str, tuple[int, ...]] = {
            "norm_attention": (s.width,),
            "qkv": ((s.num_heads + 2 * s.num_kv_heads) * s.head_dim, s.width),
            "out": (s.width, s.num_heads * s.head_dim),
            "norm_ffn": (s.width,),
            "gate_up": (2 * s.ffn, s.width),
            "down": (s.width, s.ffn),
        }
        found: dict[str, tuple[int, ...]] = {"embedding": (s.vocab_size, s.width)}
        for index in range(s.num_layers):
            found |= {f"{layer_name(index)}.{part}": shape for part, shape in layer.items()}
        found["norm"] = (s.width,)
        return found if self.is_tied else {**found, "head": (s.vocab_size, s.width)}


def pack_model(name: str, weights: Weights) -> HostBlob:
    """Copy weights into a blob that nobody can write to.

    Raises
    ------
    UsageError: they are packed as oneDNN does; load them with packed=False.
    BudgetError: the host has no room for a second copy.
    """
    layers = [
        (layer_name(index), _layer_tensors(layer_name(index), layer))
        for index, layer in enumerate(weights.layers)
    ]
    last = [_host("norm", weights.norm)] + ([] if weights.is_tied else _linear("head", weights.head))
    return pack(name, [(_EMBED, [_host("embedding", weights.embedding)]), *layers, (_HEAD, last)])


def check(name: str, skeleton: Skeleton, manifest: Manifest) -> None:
    """Compare a blob with the model that is to compute with it.

    Raises
    ------
    ModelError: a tensor is missing, or of another shape, chunk or type.
    """
    remedy = "pack the model again from its checkpoint"
    chunks = [_EMBED, *(layer_name(index) for index in range(skeleton.shape.num_layers)), _HEAD]
    found = [chunk.name for chunk in manifest.layout.chunks]
    if found != chunks:
        raise ModelError(
            f"{name}: {len(found)} chunks in the blob where the model has {len(chunks)}; {remedy}"
        )
    specs = {spec.name: spec for spec in manifest.tensors}
    for tensor, shape in skeleton.shapes().items():
        spec = specs.get(tensor)
        if spec is None or spec.shape != shape:
            what = "missing from the blob" if spec is None else f"{list(spec.shape)} in the blob"
            raise ModelError(f"{name}: {tensor} is {what}, and {list(shape)} in the model; {remedy}")
        if found[spec.chunk] != _chunk_of(tensor):
            raise ModelError(f"{name}: {tensor} lies in chunk {found[spec.chunk]}; {remedy}")
    kinds = sorted({spec.dtype for spec in manifest.tensors})
    if len(kinds) > 1:
        raise ModelError(f"{name}: its tensors are of types {', '.join(kinds)}; load it with one dtype")


def _chunk_of(tensor: str) -> str:
    if tensor == "embedding":
        return _EMBED
    return tensor.rpartition(".")[0] if tensor.startswith("layer.") else _HEAD


def layer_name(index: int) -> str:
    """The name of a layer's chunk; its tensors' begin with it."""
    return f"layer.{index}"


def _layer_tensors(prefix: str, layer: Layer) -> list[HostTensor]:
    tensors: list[HostTensor] = []
    for part in PARTS:
        name, held = f"{prefix}.{part}", getattr(layer, part)
        tensors += [_host(name, held)] if part in NORMS else _linear(name, held)
    return tensors


def _linear(name: str, linear: Linear) -> list[HostTensor]:
    found = linear.tensors()
    return [_host(n, t) for n, t in zip((name, f"{name}.bias"), found, strict=False)]


def _host(name: str, tensor: torch.Tensor) -> HostTensor:
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
    return HostTensor(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), flat.data)
