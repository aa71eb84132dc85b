"""The tensors of a Llama-like model of the transformers library, fused and held once.

Query, key and value projections become one matrix, and so do gate and up: at small batches a product costs
little more than starting it. Each layer of the donor is let go as soon as it is taken over, so that at most
one layer is held twice. Only architectures whose forward pass is Llama's are taken; another one would be
computed wrongly without a word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from harness.errors import ModelError
from harness.sessions.core.linear import Linear, can_pack

__all__ = ["ARCHITECTURES", "Layer", "Shape", "Weights", "take_over"]

ARCHITECTURES = ("llama", "mistral", "qwen2")
"""The `model_type`s whose forward pass is computed here."""

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Those whose frequencies do not depend on the length of the text."""


class Shape(NamedTuple):
    """Sizes of a network."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn: int
    max_positions: int


class Layer(NamedTuple):
    """One block."""

    norm_attention: torch.Tensor
    qkv: Linear
    out: Linear
    norm_ffn: torch.Tensor
    gate_up: Linear
    down: Linear


class Weights(NamedTuple):
    """All that a forward pass needs of a checkpoint."""

    shape: Shape
    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: Linear
    is_tied: bool
    """Whether the head's weights are the embedding's."""
    epsilon: float
    inverse_frequencies: torch.Tensor
    rope_scale: float
    """Factor of cosine and sine (YaRN's attention factor)."""
    num_bytes: int
    """In memory. Tied embeddings that are packed for the head are held, and counted, twice."""
    step_bytes: int
    """Read by a decode step, whatever its batch: all but the table of embeddings, of which it reads rows."""

    def tensors(self) -> list[torch.Tensor]:
        """Every distinct tensor in a fixed order. Raises UsageError when they are packed."""
        parts = [part for layer in self.layers for part in layer]
        found = [self.embedding, self.norm]
        for part in parts if self.is_tied else [*parts, self.head]:
            found += [part] if isinstance(part, torch.Tensor) else part.tensors()
        return found


def take_over(name: str, donor: Any, *, packed: bool | None, release: bool) -> Weights:
    """Fuse the tensors of a transformers model.

    Arguments: `packed`, whether to hold matrices in oneDNN's layout, None for wherever that is possible;
    `release`, whether to take the donor apart on the way, so that the weights are in memory once.

    Raises
    ------
    ModelError: its forward pass is not Llama's.
    """
    config = donor.config
    _check(name, donor, config)
    body = donor.model
    embedding = body.embed_tokens.weight.detach()
    packs = can_pack(embedding) if packed is None else packed
    layers = []
    for index, block in enumerate(body.layers):
        layers.append(_layer(block, packs))
        if release:
            body.layers[index] = torch.nn.Identity()
    head = Linear(donor.lm_head.weight.detach(), packed=packs)
    is_tied = donor.lm_head.weight.data_ptr() == embedding.data_ptr()
    if release:
        donor.lm_head = torch.nn.Identity()
    blocks_bytes = sum(
        part.nbytes if isinstance(part, torch.Tensor) else part.num_bytes
        for layer in layers
        for part in layer
    )
    step_bytes = blocks_bytes + body.norm.weight.nbytes + head.num_bytes
    return Weights(
        shape=_shape(config),
        embedding=embedding,
        layers=tuple(layers),
        norm=body.norm.weight.detach(),
        head=head,
        is_tied=is_tied,
        epsilon=config.rms_norm_eps,
        inverse_frequencies=body.rotary_emb.inv_freq.detach().float(),
        rope_scale=float(body.rotary_emb.attention_scaling),
        num_bytes=step_bytes + (0 if is_tied and not packs else embedding.nbytes),
        step_bytes=step_bytes,
    )


def _layer(block: Any, packed: bool) -> Layer:
    attention, ffn = block.self_attn, block.mlp
    return Layer(
        norm_attention=block.input_layernorm.weight.detach(),
        qkv=_fused((attention.q_proj, attention.k_proj, attention.v_proj), packed),
        out=_fused((attention.o_proj,), packed),
        norm_ffn=block.post_attention_layernorm.weight.detach(),
        gate_up=_fused((ffn.gate_proj, ffn.up_proj), packed),
        down=_fused((ffn.down_proj,), packed),
    )


def _fused(parts: tuple[Any, ...], packed: bool) -> Linear:
    weights = [part.weight.detach() for part in parts]
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    bias = None if parts[0].bias is None else torch.cat([part.bias.detach() for part in parts])
    return Linear(weight, bias, packed=packed)


def _shape(config: Any) -> Shape:
    heads = config.num_attention_heads
    return Shape(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        ffn=config.intermediate_size,
        max_positions=config.max_position_embeddings,
    )


def _check(name: str, donor: Any, config: Any) -> None:
    remedy = f"choose a model of {', '.join(ARCHITECTURES)}"
    if config.model_type not in ARCHITECTURES:
        raise ModelError(f"{name}: the architecture is {config.model_type!r}, not Llama's; {remedy}")
    if config.hidden_act != "silu":
        raise ModelError(f"{name}: the activation is {config.hidden_act!r}, not silu; {remedy} with silu")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    is_sliding = kinds != {"full_attention"} if config.model_type != "mistral" else window is not None
    if is_sliding:
        raise ModelError(f"{name}: attends to a window of {window} tokens; {remedy} with full attention")
    rope = donor.model.rotary_emb.rope_type
    if rope not in _ROPE_TYPES:
        raise ModelError(f"{name}: rope type {rope!r} is not computed here; it is to be one of {_ROPE_TYPES}")
