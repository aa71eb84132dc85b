"""One model after the other in one process: a request's prefill and decode, through the arena.

    generator = RingGenerator(arena, {name: StreamedModel(…), …})
    answer = generator.generate("a", prompt_ids, 2, upcoming="b")

Physics: a request's switch is deciding, binding and waiting for chunks; a hit's is some tens of microseconds.
Keys and values are a slab of the request's own, taken before its turn begins, so that they are in no arm's
time and hold nothing that an earlier request left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import torch

from harness.errors import ModelError, UsageError
from harness.residency.live import LiveArena, Pass, PassStats
from harness.sessions.core.model import Model, Span
from harness.sessions.core.slab import Slab
from harness.sessions.ring.loading import HostModel
from harness.sessions.ring.weights import StreamedModel

__all__ = ["Generated", "RingGenerator", "greedy"]


class Generated(NamedTuple):
    """One request as it went; seconds of `time.perf_counter`."""

    token_ids: tuple[int, ...]
    began_s: float
    first_token_s: float
    done_s: float
    bind_s: float
    """Making views of the chunks that lie elsewhere than before."""
    stats: PassStats


class RingGenerator:
    """Answers requests greedily, one at a time. For one thread."""

    def __init__(self, arena: LiveArena, models: Mapping[str, StreamedModel]) -> None:
        self.arena = arena
        self.models = dict(models)

    @classmethod
    def over(cls, arena: LiveArena, hosts: Mapping[str, HostModel]) -> RingGenerator:
        """Make the models over an arena whose blobs these are."""
        streamed = {
            name: StreamedModel(name, host.skeleton, host.blob.manifest, arena.lane.arena)
            for name, host in hosts.items()
        }
        return cls(arena, streamed)

    def generate(
        self, model: str, prompt_ids: Sequence[int], new_tokens: int, *, upcoming: str | None = None
    ) -> Generated:
        """Answer a request.

        upcoming: whose turn is next, where that is known; what can be is copied for it ahead.

        Raises
        ------
        ModelError: the model is unknown here.
        UsageError: the prompt is empty, a token is not in the vocabulary, or no token is asked for.
        BudgetError: the model is larger than the arena and cannot be streamed.
        ArenaError: a copy failed; the model's next request copies again.
        """
        streamed = self._checked(model, prompt_ids, new_tokens)
        with torch.inference_mode():
            slab = Slab(streamed.slab_shape, len(prompt_ids) + new_tokens)
            began_s = perf_counter()
            running = self.arena.begin(model, upcoming=upcoming)
            if upcoming is not None:
                self.arena.look_ahead(upcoming)
            return self._run(streamed, running, slab, prompt_ids, new_tokens, began_s)

    def _run(
        self,
        model: StreamedModel,
        running: Pass,
        slab: Slab,
        prompt_ids: Sequence[int],
        new_tokens: int,
        began_s: float,
    ) -> Generated:
        bound_s = perf_counter()
        with model.using(running):
            bind_s = perf_counter() - bound_s
            token_ids = [_next(model, slab, prompt_ids)]
            first_token_s = done_s = perf_counter()
            while len(token_ids) < new_tokens:
                token_ids.append(_next(model, slab, token_ids[-1:]))
                done_s = perf_counter()
        return Generated(tuple(token_ids), began_s, first_token_s, done_s, bind_s, running.end())

    def _checked(self, name: str, prompt_ids: Sequence[int], new_tokens: int) -> StreamedModel:
        model = self.models.get(name)
        if model is None:
            raise ModelError(f"model {name!r}: not served here; use {', '.join(self.models)}")
        _check(model, prompt_ids, new_tokens)
        return model


def greedy(model: Model, prompt_ids: Sequence[int], new_tokens: int) -> tuple[int, ...]:
    """The same of a model whose weights are always there: the resident reference.

    Raises
    ------
    UsageError: as `RingGenerator.generate`.
    """
    _check(model, prompt_ids, new_tokens)
    with torch.inference_mode():
        slab = Slab(model.slab_shape, len(prompt_ids) + new_tokens)
        token_ids = [_next(model, slab, prompt_ids)]
        while len(token_ids) < new_tokens:
            token_ids.append(_next(model, slab, token_ids[-1:]))
    return tuple(token_ids)


def _next(model: Model, slab: Slab, token_ids: Sequence[int]) -> int:
    return int(model.forward([Span(slab, token_ids)]).argmax())


def _check(model: Model, prompt_ids: Sequence[int], new_tokens: int) -> None:
    vocab_size = model.shape.vocab_size
    if not prompt_ids or not 0 <= min(prompt_ids) <= max(prompt_ids) < vocab_size or new_tokens < 1:
        raise UsageError(
            f"{model.name}: a prompt of {len(prompt_ids)} tokens and {new_tokens} new ones; give at least "
            f"one of each, ids from 0 to {vocab_size - 1}"
        )
