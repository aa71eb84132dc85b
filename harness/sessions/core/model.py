"""The forward pass: one ragged batch of new tokens, each session's keys and values read and written in place.

A batch is a list of spans: a session's slab and its next tokens, one when it decodes, many when it prefills.
Projections, norms and feed-forward run over the rows of all spans at once, which is where batching pays: the
weights are read once for all. Attention runs span by span over views of the slabs, so nothing is padded,
gathered or concatenated.

Rotation pairs element i with i + head_dim/2 as the checkpoints do; the sine is held with the sign of its
half, which saves a negation per layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from harness.sessions.core.attention import Attention
from harness.sessions.core.copies import Copies
from harness.sessions.core.slab import Slab, SlabShape
from harness.sessions.core.weights import Layer, Weights, take_over

if TYPE_CHECKING:
    from harness.sessions.core.decoding.decoder import Decoder

__all__ = ["Model", "Span"]

_FIRST_POSITIONS = 1024


class Span(NamedTuple):
    """The next tokens of a session, and whether the logits after the last of them are wanted."""

    slab: Slab
    token_ids: Sequence[int]
    wants_logits: bool = True


class Rotation(NamedTuple):
    """Of the rows of a batch, cosine and signed sine: [rows, 1, head_dim]."""

    cos: torch.Tensor
    sin: torch.Tensor

    def at(self, rows: torch.Tensor) -> Rotation:
        """Of some of the rows, by their int64 numbers."""
        return Rotation(self.cos[rows], self.sin[rows])


class Attend(Protocol):
    """Stores the rows' keys and values, then attends; see `attention.Attention`."""

    def __call__(self, layer: int, query: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor: ...


class Model:
    """Weights, and the tables of their rotary positions. For one thread, in inference mode."""

    blocked_s: float = 0.0
    """Of the last forward pass, spent waiting for weights on their way; none where they are always there."""
    is_in_place: bool = True
    """Whether the weights lie in one place for as long as the model is there."""

    def __init__(self, name: str, weights: Weights) -> None:
        self.name = name
        self.weights = weights
        self.shape = weights.shape
        self.device: torch.device = weights.embedding.device
        self.dtype: torch.dtype = weights.embedding.dtype
        self.copies = Copies(self.device)
        nothing = torch.empty(0, device=self.device)
        self._rotations = Rotation(nothing, nothing)
        self.groups = self.shape.num_heads // self.shape.num_kv_heads
        """Queries per key head."""

    @classmethod
    def from_transformers(
        cls, name: str, donor: Any, *, packed: bool | None = None, release: bool = False
    ) -> Model:
        """Take over the tensors of a transformers model; see `weights.take_over`."""
        with torch.inference_mode():
            return cls(name, take_over(name, donor, packed=packed, release=release))

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights."""
        return self.weights.num_bytes

    @property
    def step_bytes(self) -> int:
        """Weights that a decode step reads, whatever its batch: all but the table of embeddings."""
        return self.weights.step_bytes

    @property
    def slab_shape(self) -> SlabShape:
        """What decides the size of a token's keys and values."""
        shape = self.shape
        return SlabShape(shape.num_layers, shape.num_kv_heads, shape.head_dim, self.dtype, self.device)

    def tensors(self) -> list[torch.Tensor]:
        """The weights themselves, each once, in a fixed order; writing to them changes the model.

        Raises
        ------
        UsageError: they are packed; load the model with packed=False.
        """
        return self.weights.tensors()

    def synchronize(self) -> None:
        """Wait until all that was asked of the device is done: a GPU computes behind the caller's back."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forward(self, spans: Sequence[Span], decoder: Decoder | None = None) -> torch.Tensor:
        """Compute the spans' tokens, put their keys and values into the slabs, and extend these.

        Arguments: spans of distinct slabs with room for their tokens, at least one token each, and those of
        one token first (later ones are computed as well, but one by one); `decoder`, of this model, which
        runs the steps that it can and else attends for spans of one token; None for neither.

        Returns the logits [spans that want them, vocab_size] after each span's last token.
        """
        if decoder is not None and decoder.can_run(spans):
            return decoder.step(spans)
        rotation = self._rotation_of(spans)
        tokens = self._put([token for span in spans for token in span.token_ids])
        # Asked for before the layers run: on a GPU what is put up waits for all that was asked before.
        wanted = _ends(spans)
        rows = self._put(wanted) if wanted and len(wanted) < len(tokens) else None
        attention = Attention(spans, self.groups, None if decoder is None else decoder.rows)
        x = self._hidden(tokens, rotation, attention)
        for span in spans:
            span.slab.num_tokens += len(span.token_ids)
        if not wanted:
            return self._without_logits(x)
        return self._logits(x if rows is None else x[rows])

    def rows_logits(self, tokens: torch.Tensor, rotation: Rotation, attention: Attend) -> torch.Tensor:
        """The logits [rows, vocab_size] after each of these tokens; asks the device for nothing but kernels.

        Arguments: `tokens`, int64 [rows] on the device; `attention`, which knows where their keys are.
        """
        return self._logits(self._hidden(tokens, rotation, attention))

    def rotations(self, num_positions: int) -> Rotation:
        """Of all positions up to so many, at least; longer ones take their place when they are needed."""
        if num_positions > len(self._rotations.cos):
            self._rotations = self._extended(num_positions)
        return self._rotations

    def _hidden(self, tokens: torch.Tensor, rotation: Rotation, attention: Attend) -> torch.Tensor:
        x = self._embed(tokens)
        for index, layer in enumerate(self._layers()):
            x = self._block(x, index, layer, attention, rotation)
        return x

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding(tokens, self.weights.embedding)

    def _layers(self) -> Iterable[Layer]:
        return self.weights.layers

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.weights.head(self._norm(x, self.weights.norm))

    def _without_logits(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_empty(0, self.shape.vocab_size)

    def _block(
        self,
        x: torch.Tensor,
        index: int,
        layer: Layer,
        attention: Attend,
        rotation: Rotation,
    ) -> torch.Tensor:
        heads, kv_heads, dim = self.shape.num_heads, self.shape.num_kv_heads, self.shape.head_dim
        mixed = layer.qkv(self._norm(x, layer.norm_attention)).view(len(x), heads + 2 * kv_heads, dim)
        rotated = mixed[:, : heads + kv_heads]
        low, high = rotated.chunk(2, -1)
        torch.addcmul(rotated * rotation.cos, torch.cat((high, low), -1), rotation.sin, out=rotated)
        query = mixed[:, :heads].view(-1, kv_heads, self.groups, dim)
        fresh = mixed[:, heads:].view(-1, 2, kv_heads, dim)
        x = x + layer.out(attention(index, query, fresh))
        gate, up = layer.gate_up(self._norm(x, layer.norm_ffn)).chunk(2, -1)
        return x + layer.down(F.silu(gate).mul_(up))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (self.shape.width,), weight, self.weights.epsilon)

    def _rotation_of(self, spans: Sequence[Span]) -> Rotation:
        positions: list[int] = []
        for span in spans:
            begin = span.slab.num_tokens
            positions.extend(range(begin, begin + len(span.token_ids)))
        end = max(positions) + 1
        known = len(self._rotations.cos)
        rotations = self.rotations(end if end <= known else max(end, 2 * known, _FIRST_POSITIONS))
        return rotations.at(self._put(positions))

    def _put(self, numbers: Sequence[int]) -> torch.Tensor:
        found = torch.tensor(numbers, device=self.device)
        self.copies.up(found.nbytes)
        return found

    def _extended(self, num_positions: int) -> Rotation:
        places = torch.arange(num_positions, device=self.device, dtype=torch.float32)
        angles = torch.outer(places, self.weights.inverse_frequencies)
        cos, sin = angles.cos() * self.weights.rope_scale, angles.sin() * self.weights.rope_scale
        return Rotation(
            torch.cat((cos, cos), -1)[:, None].to(self.dtype),
            torch.cat((-sin, sin), -1)[:, None].to(self.dtype),
        )


def _ends(spans: Sequence[Span]) -> list[int]:
    """The rows whose logits are wanted."""
    ends = accumulate(len(span.token_ids) for span in spans)
    return [end - 1 for end, span in zip(ends, spans, strict=True) if span.wants_logits]
