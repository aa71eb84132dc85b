"""Decode steps on a GPU: attention of all sessions at once, and one recorded graph a step.

Graphs have one size each, so a batch is run by the next larger one of BATCHES; its further rows are nobody's,
read one token and are thrown away. What is recorded reads the table of `rows`, the weights where they lie and
the rotations of all positions, which are made to their full length before.

Not for the processor, where slab by slab needs no compiler, and not for a step that prefills: that one is
bound by arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from harness.sessions.core.decoding.recorders import Recorder, Step
from harness.sessions.core.decoding.rows import Rows

if TYPE_CHECKING:
    from harness.sessions.core.model import Model, Span

__all__ = ["BATCHES", "Decoder"]

BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


class Decoder:
    """The decode steps of a model.

    Arguments
    ---------
    max_batch: rows of the largest step.
    max_tokens: the most that a session's slab holds.
    recorder: how a step is run again; None for asking each time.

    Recording is done here, largest batch first, so that the smaller ones find memory in its pool.
    """

    def __init__(self, model: Model, *, max_batch: int, max_tokens: int, recorder: Recorder | None) -> None:
        self._model = model
        # Held, for what is recorded reads them where they are.
        self._rotations = model.rotations(max_tokens)
        self.rows = Rows(
            model.slab_shape, model.groups, max_rows=max_batch, max_tokens=max_tokens, copies=model.copies
        )
        self.is_replaying = recorder is not None
        """Whether what was recorded is used."""
        self.num_steps = self.num_replayed = 0
        """Since the start."""
        self._recorded: dict[int, Step] = {}
        if recorder is not None:
            for size in (max_batch, *(size for size in reversed(BATCHES) if size < max_batch)):
                self.rows.put((), size)
                self._recorded[size] = recorder.record(self._step(size))

    def can_run(self, spans: Sequence[Span]) -> bool:
        """Whether this is a step of it: rows that it takes, each of one token whose logits are wanted."""
        return self.rows.can_take(spans) and all(
            span.wants_logits and len(span.token_ids) == 1 for span in spans
        )

    def step(self, spans: Sequence[Span]) -> torch.Tensor:
        """The logits [spans, vocab_size] after the spans' tokens, which are then in their slabs."""
        # Of the same size whether it is replayed or not, so that just this differs.
        size = min((size for size in self._recorded if size >= len(spans)), default=len(spans))
        self.rows.put(spans, size)
        step = self._recorded[size] if self.is_replaying else self._step(size)
        logits = step()[: len(spans)].clone()
        for span in spans:
            span.slab.num_tokens += 1
        self.num_steps += 1
        self.num_replayed += int(self.is_replaying)
        return logits

    def _step(self, size: int) -> Step:
        def step() -> torch.Tensor:
            rotation = self._rotations.at(self.rows.positions(size))
            return self._model.rows_logits(self.rows.tokens(size), rotation, self.rows)

        return step
