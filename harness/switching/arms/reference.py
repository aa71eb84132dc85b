"""What every token is compared with: the same weights in ordinary tensors, and no arena anywhere.

It shares nothing with the arms but the forward pass and the weights' names and seeds: nothing is packed as a
blob, copied over a link or bound to a place. Matrices are held as they are, not in oneDNN's layout, which
sums in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import torch

from harness.sessions.core.choosing import chosen
from harness.sessions.core.linear import Linear
from harness.sessions.core.model import Model, Span
from harness.sessions.core.slab import Slab
from harness.sessions.core.weights import Layer
from harness.sessions.ring.loading import load_resident
from harness.switching.arms.models import require_model
from harness.switching.base import Answer, Ask
from harness.switching.setting import Setting

__all__ = ["Reference"]


class Reference:
    """All models at once, each in memory of its own."""

    name = "reference"

    def __init__(self, setting: Setting) -> None:
        with torch.inference_mode():
            self._models = {name: _resident(name, setting) for name in setting.models}

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Nothing to begin anew."""

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Compute, and nothing else."""
        require_model(ask.model, self._models)
        began_s = perf_counter()
        with torch.inference_mode():
            tokens, first_s = _greedy(self._models[ask.model], ask)
        return Answer(
            model=ask.model,
            token_ids=tokens,
            began_s=began_s,
            first_token_s=first_s,
            done_s=perf_counter(),
            switch_s=0.0,
            plan_s=0.0,
            bind_s=0.0,
            wait_s=0.0,
            is_hit=True,
            bytes_in=0,
            ahead_bytes=0,
            bytes_out=0,
            evicted_bytes=0,
            needed_bytes=0,
        )

    def checksums(self) -> Mapping[str, str]:
        """No blobs."""
        return {}

    def close(self) -> None:
        """Give the memory back."""
        self._models = {}


def _resident(name: str, setting: Setting) -> Model:
    """A model on the device that the arms compute on, whose kernels may choose other tokens than a CPU's."""
    model = load_resident(name, dtype=setting.dtype, seed=setting.seed)
    device, weights = torch.device(setting.device), model.weights
    embedding = weights.embedding.to(device)
    moved = weights._replace(
        embedding=embedding,
        layers=tuple(Layer(*(_moved(part, device) for part in layer)) for layer in weights.layers),
        norm=weights.norm.to(device),
        head=Linear(embedding, packed=False) if weights.is_tied else _moved(weights.head, device),
        inverse_frequencies=weights.inverse_frequencies.to(device),
    )
    return Model(name, moved)


def _moved(part: Any, device: torch.device) -> Any:
    if isinstance(part, torch.Tensor):
        return part.to(device)
    return Linear(*(tensor.to(device) for tensor in part.tensors()), packed=False)


def _greedy(model: Model, ask: Ask) -> tuple[tuple[int, ...], float]:
    """The likeliest tokens, and when the first was there."""
    slab = Slab(model.slab_shape, len(ask.prompt_ids) + ask.new_tokens)
    fed: Sequence[int] = ask.prompt_ids
    tokens: list[int] = []
    first_s = 0.0
    while len(tokens) < ask.new_tokens:
        fed = chosen(model.forward([Span(slab, fed)]), [None])
        tokens += fed
        first_s = first_s or perf_counter()
    slab.release()
    return tuple(tokens), first_s
