"""The Llama architecture written for training on one core, and its exchange with Hugging Face.

The forward pass is the one of `transformers.LlamaForCausalLM`; the query, key and value
projections are one matrix, and so are gate and up, because at this size a matrix product costs
less than starting it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Network", "Shape", "compile_blocks", "from_hugging_face", "grow", "to_hugging_face"]

_EPSILON = 1e-5
_ROPE_THETA = 10_000.0
_CONTEXT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of a network."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    head_dim: int
    ffn: int
    """Width inside the feed-forward part."""

    def with_layers(self, layers: int) -> Shape:
        """The same shape with another depth."""
        return Shape(**{**asdict(self), "layers": layers})


class Block(nn.Module):
    """One layer: attention and feed-forward, each behind a norm and added to its input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner = shape.width, shape.heads * shape.head_dim
        self.heads, self.head_dim = shape.heads, shape.head_dim
        deviation = 0.5 / width**0.5
        self.qkv = nn.Parameter(torch.randn(3 * inner, width) * deviation)
        self.out = nn.Parameter(torch.randn(width, inner) * deviation)
        self.gate_up = nn.Parameter(torch.randn(2 * shape.ffn, width) * deviation)
        self.down = nn.Parameter(torch.randn(width, shape.ffn) * deviation)
        self.norm_attention = nn.Parameter(torch.ones(width))
        self.norm_ffn = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map activations [batch, length, width] to the same shape; cos and sin are [length, head_dim]."""
        batch, length, width = x.shape
        mixed = F.linear(F.rms_norm(x, (width,), self.norm_attention, _EPSILON), self.qkv)
        mixed = mixed.view(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key = _rotate(mixed[0], cos, sin), _rotate(mixed[1], cos, sin)
        attended = F.scaled_dot_product_attention(query, key, mixed[2], is_causal=True)
        x = x + F.linear(attended.transpose(1, 2).reshape(batch, length, -1), self.out)
        gate, up = F.linear(F.rms_norm(x, (width,), self.norm_ffn, _EPSILON), self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down)


class Network(nn.Module):
    """Decoder-only transformer with tied embeddings."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocab_size, shape.width) * 0.5 / shape.width**0.5)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        frequencies = _ROPE_THETA ** (-torch.arange(0, shape.head_dim, 2) / shape.head_dim)
        angles = torch.outer(torch.arange(_CONTEXT), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    @property
    def layers(self) -> list[Block]:
        """The blocks, the first one applied first."""
        return [cast(Block, block) for block in self.blocks]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids [batch, length] to activations [batch, length, width].

        Padding stands on the right, where a causal mask keeps it from mattering.
        """
        length = tokens.shape[1]
        x = F.embedding(tokens, self.embedding)
        cos, sin = self.cos[:length], self.sin[:length]
        for block in self.layers:
            x = block(x, cos, sin)
        return F.rms_norm(x, (self.shape.width,), self.norm, _EPSILON)

    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the positions whose label is not -100; both are [batch, length]."""
        is_learnt = labels != -100
        return F.cross_entropy(F.linear(self(tokens)[is_learnt], self.embedding), labels[is_learnt])


def compile_blocks() -> None:
    """Compile the forward pass of a layer, for every network of this process; about 1.2 times faster.

    The first steps take some seconds more. Needs a C++ compiler.
    """
    Block.forward = torch.compile(Block.forward, dynamic=True)  # type: ignore[method-assign]


def grow(network: Network, layers: int) -> Network:
    """Deepen a network by repeating layers, evenly spread, their output projections divided by the repeats.

    Each group of copies then adds about what the one layer added, so training goes on from where
    it was. Raises ValueError when `layers` is less than the present number.
    """
    present = network.shape.layers
    if layers < present:
        raise ValueError(f"cannot grow {present} layers to {layers}; choose more")
    repeats = [(place + 1) * layers // present - place * layers // present for place in range(present)]
    origins = [place for place, times in enumerate(repeats) for _ in range(times)]
    grown = Network(network.shape.with_layers(layers))
    with torch.no_grad():
        grown.embedding.copy_(network.embedding)
        grown.norm.copy_(network.norm)
        for block, origin in zip(grown.layers, origins, strict=True):
            for name, parameter in network.layers[origin].named_parameters():
                share = repeats[origin] if name in ("out", "down") else 1
                block.get_parameter(name).copy_(parameter / share)
    return grown


def to_hugging_face(network: Network) -> dict[str, Tensor]:
    """The weights under the names of `transformers.LlamaForCausalLM`, fp16."""
    return {name: view.detach().half().contiguous() for name, view in _hugging_face_views(network).items()}


def from_hugging_face(network: Network, weights: dict[str, Tensor]) -> None:
    """Copy weights under the names of `transformers.LlamaForCausalLM` into a network of their shape."""
    with torch.no_grad():
        for name, view in _hugging_face_views(network).items():
            view.copy_(weights[name])


def _hugging_face_views(network: Network) -> dict[str, Tensor]:
    views: dict[str, Tensor] = {
        "model.embed_tokens.weight": network.embedding,
        "model.norm.weight": network.norm,
    }
    for place, block in enumerate(network.layers):
        query, key, value = block.qkv.chunk(3)
        gate, up = block.gate_up.chunk(2)
        parts = {
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.out,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.down,
            "input_layernorm": block.norm_attention,
            "post_attention_layernorm": block.norm_ffn,
        }
        views |= {f"model.layers.{place}.{name}.weight": part for name, part in parts.items()}
    return views


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to [batch, heads, length, head_dim], halves paired as in Llama."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin
