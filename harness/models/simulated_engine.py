"""A serving engine as a queue: slots, iterations, and how long each takes. It computes nothing.

Iteration-level scheduling (Yu et al., "Orca", OSDI 2022). One iteration runs at a time, and is either

    the prefill of one prompt, which gives the answer's first token, or
    a decode step, which gives every answer in the engine a token.

Between iterations waiting requests take free slots in the order of their arrival, and prefills come before
decoding: a new request holds up the others for its prefill. A request keeps its slot to its last token.

What arrives while an iteration runs waits for its end; what arrives at the very time of its end is in time
for the next, in whatever order tasks were made. Requests of the same time are served in the order of their
calls. In virtual time all of this is exact. On an ordinary loop iterations end when they are due and the
machine is a little late: their times say so, and the lateness does not add up.

A faster device does not make every answer come sooner. With several slots an earlier iteration may end in
between two arrivals and take in one more before the other: the anomaly of Graham (1969). With one slot, or
when all requests are there from the start, nothing is ever later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from harness.clock import call_at_rest, call_at_time, now_s
from harness.models.simulated import Timing

__all__ = ["EngineGone", "Sequence", "SimulatedEngine"]


class EngineGone(Exception):
    """The engine was stopped before it answered."""


class Sequence:
    """One request in the engine; awaiting `done` gives its end."""

    __slots__ = (
        "arrived_s", "begun_s", "done", "last_s", "num_tokens", "on_token", "output_tokens", "prefilled_s",
        "prompt_tokens",
    )  # fmt: skip

    def __init__(
        self,
        prompt_tokens: int,
        output_tokens: int,
        on_token: Callable[[float], None] | None,
        done: asyncio.Future[None],
    ) -> None:
        self.prompt_tokens, self.output_tokens = prompt_tokens, output_tokens
        self.on_token = on_token
        self.done = done
        self.num_tokens = 0
        self.arrived_s = now_s()
        # When its prefill began and ended and its last token came, by the engine's own schedule.
        self.begun_s = self.prefilled_s = self.last_s = self.arrived_s


class SimulatedEngine:
    """One engine, for one event loop at a time."""

    def __init__(
        self,
        *,
        model: str,
        timing: Timing,
        slots: int,
        context_tokens: int = 1 << 30,
        mean_tokens: float | None = None,
    ) -> None:
        """Describe the engine.

        Parameters
        ----------
        slots: requests that are decoded together.
        context_tokens: prompt and answer together, at most; for the client to hold requests to.
        mean_tokens: of the geometric distribution of its answers' lengths, for the client to draw from;
            `None` when an answer is as long as allowed.
        """
        if slots < 1:
            raise ValueError(f"{model}: slots is {slots}, and must be at least 1")
        self.model, self.timing = model, timing
        self.slots, self.context_tokens = slots, context_tokens
        self.mean_tokens = mean_tokens
        self.is_stopped = False
        self.busy_s = 0.0
        """Seconds spent in iterations, the one that runs included whole."""
        self._next: asyncio.Handle | None = None
        self._reset(None)

    @property
    def num_running(self) -> int:
        """Requests that wait or are worked on."""
        return len(self._waiting) + len(self._running)

    def submit(
        self, prompt_tokens: int, output_tokens: int, on_token: Callable[[float], None] | None = None
    ) -> Sequence:
        """Queue a request of the running event loop.

        Arguments: `on_token` is called with the time of each token as it comes; what it raises ends the
        request, and comes out of `done`.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._reset(loop)
        sequence = Sequence(prompt_tokens, output_tokens, on_token, loop.create_future())
        self._waiting.append(sequence)
        self._wake(None)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """Take a request out, if it is still there; the iteration that runs is not shortened."""
        if sequence.num_tokens >= sequence.output_tokens:
            return
        if sequence in self._running:
            self._leave(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        sequence.done.cancel()

    def stop(self) -> None:
        """Answer no more: every request in the engine ends with `EngineGone`."""
        self.is_stopped = True
        for sequence in (*self._running, *self._waiting):
            if not sequence.done.done():
                sequence.done.set_exception(EngineGone(self.model))
        self._reset(None)

    def _reset(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin empty: what was left on a loop that has ended will never be asked for."""
        self._loop = loop
        self._waiting: deque[Sequence] = deque()
        self._running: dict[Sequence, None] = {}
        self._kv_tokens = 0
        self._in_work: tuple[Sequence, ...] = ()
        if self._next is not None:
            self._next.cancel()
        self._next = None

    def _wake(self, at_s: float | None) -> None:
        """See to it that an iteration begins when all of this time has happened."""
        if self._next is None:
            self._next = call_at_rest(partial(self._begin, at_s))

    def _begin(self, at_s: float | None) -> None:
        """Begin an iteration at the end of the last one, or now."""
        begin_s = now_s() if at_s is None else at_s
        self._next = None
        while self._waiting and len(self._running) < self.slots:
            self._running[self._waiting.popleft()] = None
        new = next((sequence for sequence in self._running if not sequence.num_tokens), None)
        if new is not None:
            self._in_work = (new,)
            # On an ordinary loop it may have come after the iteration before was due to end.
            begin_s = new.begun_s = max(begin_s, new.arrived_s)
            duration_s = self.timing.prefill_s(new.prompt_tokens)
        elif self._running:
            self._in_work = tuple(self._running)
            duration_s = self.timing.step_s(len(self._in_work), self._kv_tokens)
        else:
            return
        due_s = begin_s + duration_s
        self.busy_s += duration_s
        self._next = call_at_time(due_s, partial(self._end, due_s))

    def _end(self, due_s: float) -> None:
        """Give each request of the iteration its token."""
        seen_s = now_s()
        for sequence in self._in_work:
            if sequence.done.done() and sequence in self._running:
                self._leave(sequence)  # cancelled at this very time
            elif sequence in self._running:
                self._give(sequence, due_s, seen_s)
        self._next = None
        self._wake(due_s)

    def _give(self, sequence: Sequence, due_s: float, seen_s: float) -> None:
        if not sequence.num_tokens:
            sequence.prefilled_s = due_s
            self._kv_tokens += sequence.prompt_tokens
        sequence.num_tokens += 1
        self._kv_tokens += 1
        sequence.last_s = due_s
        if sequence.on_token is not None:
            try:
                sequence.on_token(seen_s)
            except Exception as exc:
                self._leave(sequence)
                sequence.done.set_exception(exc)
                return
        if sequence.num_tokens >= sequence.output_tokens:
            self._leave(sequence)
            sequence.done.set_result(None)

    def _leave(self, sequence: Sequence) -> None:
        del self._running[sequence]
        if sequence.num_tokens:
            self._kv_tokens -= sequence.prompt_tokens + sequence.num_tokens
