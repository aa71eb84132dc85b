"""Continuous batching: which sessions compute in a step, and what each of them computes.

A step admits the turns that find room, then computes one batch: the next token of every turn that decodes,
and at most `prefill_chunk` tokens of those that prefill, so that a long prompt delays the others by one
chunk at a time. A turn's chunks are always whole ones from its own beginning: how a prompt is cut depends on
nothing else that runs, nor then do its numbers.

Of those that prefill, who has least left goes first: an agent that reflects on an observation waits for one
chunk of the long prompts before it, not for all of them, and they for a few tokens. A turn is passed over
only `MAX_PASSED` times for each of its chunks; then it goes first, so a steady stream of short ones costs a
long prompt a constant factor and no more.

Turns are admitted in the order in which they came; one that finds no room may be overtaken, since those
behind it may hold their slabs already, but only `MAX_OVERTAKEN` times: then nothing is admitted before it,
and sessions whose turns wait behind it have to make room as well.

Sources: Yu et al., "Orca", OSDI 2022 (iteration-level scheduling); Agrawal et al., "Sarathi-Serve", OSDI 2024
(decodes and a chunk of a prompt in one batch); Schrage, "A proof of the optimality of the shortest remaining
processing time discipline", Operations Research 16, 1968.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.errors import BudgetError
from harness.sessions.core.choosing import Draws, chosen
from harness.sessions.core.costs import Costs
from harness.sessions.core.decoding import Decoder
from harness.sessions.core.model import Model, Span
from harness.sessions.core.session import Session
from harness.sessions.core.store import Store
from harness.sessions.core.turns import Event, Timings, Turn

__all__ = ["MAX_OVERTAKEN", "MAX_PASSED", "Counts", "Scheduler"]

MAX_OVERTAKEN = 64
MAX_PASSED = 8


@dataclass(slots=True)
class _Work:
    """A turn that is queued or runs."""

    id: int
    turn: Turn
    session: Session
    mark_s: float
    """When it was submitted, then when its last token was given out."""
    num_before: int = 0
    """Tokens of the session before the turn."""
    num_decoded: int = 0
    num_overtaken: int = 0
    num_passed: int = 0
    """Steps that computed prompts of others and not its own, since its last chunk."""
    reused: int = 0
    restored: int = 0
    recomputed: int = 0
    compute_s: float = 0.0
    transfer_s: float = 0.0
    """These two since `mark_s`."""
    stop_ids: frozenset[int] = field(default_factory=frozenset)
    draws: Draws | None = None
    """Where its tokens are drawn."""

    @property
    def pending(self) -> int:
        """Tokens that are to be computed before the next one is known."""
        assert self.session.slab is not None
        return len(self.session.tokens) - self.session.slab.num_tokens

    @property
    def prompt_order(self) -> tuple[int, int]:
        """Who was passed over too often, as they came; then who has least left."""
        return (0 if self.num_passed >= MAX_PASSED else self.pending), self.id


class _Part(NamedTuple):
    """What a turn computes in a step."""

    work: _Work
    num_tokens: int
    gives_token: bool

    def span(self) -> Span:
        """The same for the model."""
        session = self.work.session
        assert session.slab is not None
        begin = session.slab.num_tokens
        return Span(session.slab, session.tokens[begin : begin + self.num_tokens], self.gives_token)


class Counts(NamedTuple):
    """Since the start."""

    steps: int
    decode_steps: int
    """Steps in which at least one turn decoded."""
    decoded_tokens: int
    """Computed by decoding: tokens given out, but for each turn's first."""
    prefilled_tokens: int
    reused_tokens: int
    restored_tokens: int
    recomputed_tokens: int
    finished_turns: int
    cancelled_turns: int
    compute_s: float
    """Time in the model."""


class Scheduler:
    """The queue, the running turns and the batch.

    Arguments: `prefill_chunk`, prompt tokens per step; `max_batch`, turns that run at once; `clock`, seconds;
    `turn_ids`, rising; `decoder`, what runs the steps that only decode, None for the model as any other.
    """

    def __init__(
        self,
        model: Model,
        store: Store,
        costs: Costs,
        *,
        prefill_chunk: int,
        max_batch: int,
        clock: Callable[[], float],
        turn_ids: Iterator[int],
        decoder: Decoder | None = None,
    ) -> None:
        self._model = model
        self._store = store
        self._costs = costs
        self._chunk = prefill_chunk
        self._max_batch = max_batch
        self._clock = clock
        self._turn_ids = turn_ids
        self.decoder = decoder
        """May be another one from any step on."""
        self._work: dict[int, _Work] = {}
        self._queue: list[_Work] = []
        self._running: list[_Work] = []
        self.counts = Counts(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)

    @property
    def num_queued(self) -> int:
        """Turns that are not admitted yet."""
        return len(self._queue)

    @property
    def num_running(self) -> int:
        """Turns that prefill or decode."""
        return len(self._running)

    @property
    def running(self) -> list[int]:
        """The ids of these."""
        return [work.id for work in self._running]

    def add(self, turn: Turn, session: Session) -> int:
        """Queue a turn of a session that has none; its id."""
        now_s = self._clock()
        session.end_pause(now_s)
        work = _Work(next(self._turn_ids), turn, session, now_s, draws=Draws.of(turn.sampling))
        work.stop_ids = frozenset(turn.stop_ids)
        session.turn_id = work.id
        self._work[work.id] = work
        self._queue.append(work)
        return work.id

    def cancel(self, turn_id: int) -> bool:
        """End a turn and undo it: its session is as it was before. False when there is no such turn."""
        work = self._work.pop(turn_id, None)
        if work is None:
            return False
        if work in self._running:
            self._running.remove(work)
            # The last token before the turn was not computed, unless it was so from the start.
            work.session.cut(work.num_before, max(work.reused, work.num_before - 1))
        else:
            self._queue.remove(work)
        self._leave(work)
        self._count(cancelled_turns=1)
        return True

    def step(self) -> list[Event]:
        """Admit turns, and compute one batch; the tokens that it gave."""
        self.admit()
        batch = self._batch()
        if not batch:
            return []
        # Spans of one token first: they share their copies.
        batch.sort(key=lambda part: part.num_tokens > 1)
        spans = [part.span() for part in batch]
        began_s = self._clock()
        logits = self._model.forward(spans, self.decoder)
        ready = [part.work for part in batch if part.gives_token]
        tokens = chosen(logits, [work.draws for work in ready])
        self._model.copies.down(8 * len(tokens))
        if not tokens:
            # Nothing was waited for: a chunk of a prompt would seem to take no time, and the next step its.
            self._model.synchronize()
        now_s = self._clock()
        # What was waited for weights is no computing.
        self._learn(batch, now_s - began_s - self._model.blocked_s)
        return [
            self._event(work, token, logits[row] if work.turn.want_logits else None, now_s)
            for row, (work, token) in enumerate(zip(ready, tokens, strict=True))
        ]

    def admit(self) -> None:
        """Give room to the turns that find it, in their order but for those that may be overtaken."""
        waiting: list[_Work] = []
        refused_tokens = sys.maxsize
        for index, work in enumerate(self._queue):
            if len(self._running) >= self._max_batch:
                waiting += self._queue[index:]
                break
            # A slab that is no smaller than one just refused need not be asked for.
            is_hopeless = work.session.slab is None and work.session.max_tokens >= refused_tokens
            if not is_hopeless and self._try_admit(work):
                for passed in waiting:
                    passed.num_overtaken += 1
                continue
            refused_tokens = min(refused_tokens, work.session.max_tokens)
            waiting.append(work)
            # Where nothing runs, others hold the memory: waiting for them would stop everybody.
            if work.num_overtaken >= MAX_OVERTAKEN and self._running:
                waiting += self._queue[index + 1 :]
                break
        self._queue = waiting

    def _try_admit(self, work: _Work) -> bool:
        session = work.session
        try:
            restored = self._store.bring(session, evicts_queued=work.num_overtaken >= MAX_OVERTAKEN)
        except BudgetError:
            return False
        assert session.slab is not None
        work.restored, work.transfer_s = restored
        session.is_running = True
        work.num_before = len(session.tokens)
        session.tokens.extend(work.turn.new_token_ids)
        # The logits after the last token are needed, and not kept.
        session.slab.cut(len(session.tokens) - 1)
        work.reused = session.slab.num_tokens
        work.recomputed = max(0, session.num_known - work.reused)
        self._running.append(work)
        self._count(
            reused_tokens=work.reused,
            restored_tokens=work.restored,
            recomputed_tokens=work.recomputed,
        )
        return True

    def _batch(self) -> list[_Part]:
        parts = [_Part(work, work.pending, True) for work in self._running if work.num_decoded]
        prompts = [work for work in self._running if not work.num_decoded]
        prompts.sort(key=lambda work: work.prompt_order)
        room, passed = self._chunk, []
        for work in prompts:
            num = min(work.pending, self._chunk)
            # Whole chunks only, see above; and nobody slips in before one that was passed over too often.
            if num > room:
                passed.append(work)
                if work.num_passed >= MAX_PASSED:
                    room = 0
                continue
            room -= num
            work.num_passed = 0
            parts.append(_Part(work, num, num == work.pending))
        for work in passed:
            work.num_passed += 1
        return parts

    def _learn(self, batch: Sequence[_Part], seconds: float) -> None:
        prefilled = sum(part.num_tokens for part in batch if part.work.num_decoded == 0)
        decoded = sum(part.work.num_decoded > 0 for part in batch)
        for part in batch:
            part.work.compute_s += seconds
        if prefilled >= min(16, self._chunk) and not decoded:
            self._costs.prefilled(prefilled, seconds)
        self._count(
            steps=1,
            decode_steps=int(decoded > 0),
            decoded_tokens=decoded,
            prefilled_tokens=prefilled,
            compute_s=seconds,
        )

    def _event(self, work: _Work, token: int, row: Any, now_s: float) -> Event:
        session, turn = work.session, work.turn
        session.tokens.append(token)
        work.num_decoded += 1
        reason = None
        if token in work.stop_ids:
            reason = "stop"
        elif work.num_decoded == turn.max_new_tokens:
            reason = "length"
        held = work.num_before + len(turn.new_token_ids)
        timings = Timings(
            queue_s=max(0.0, now_s - work.mark_s - work.compute_s - work.transfer_s),
            compute_s=work.compute_s,
            transfer_s=work.transfer_s,
            reused_tokens=work.reused,
            prefilled_tokens=held - work.reused,
            restored_tokens=work.restored,
            recomputed_tokens=work.recomputed,
        )
        work.mark_s, work.compute_s, work.transfer_s = now_s, 0.0, 0.0
        logits = None if row is None else row.to(device="cpu", copy=True).float()
        self._model.copies.down(0 if row is None else row.nbytes)
        if reason is not None:
            self._running.remove(work)
            del self._work[work.id]
            self._leave(work)
            self._count(finished_turns=1)
        return Event(work.id, session.id, token, logits, reason, timings)

    def _leave(self, work: _Work) -> None:
        work.session.turn_id = None
        work.session.is_running = False
        work.session.idle_since_s = self._clock()

    def _count(self, **more: float) -> None:
        self.counts = self.counts._replace(
            **{name: getattr(self.counts, name) + value for name, value in more.items()}
        )
