"""One request on a live arena: its forward passes, what they wait for and what they cost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import ArenaError, UsageError
from harness.residency.arena_map import Placed
from harness.residency.device.base import Landing
from harness.residency.policies.base import Load, Plan

if TYPE_CHECKING:
    from harness.residency.live import LiveArena

__all__ = ["Guess", "Pass", "PassStats"]


class PassStats(NamedTuple):
    """What one request cost."""

    is_hit: bool
    """Nothing was left to copy when its turn came."""
    bytes_in: int
    """Copied after its turn came; further passes included, of a model that streams."""
    ahead_bytes: int
    """Copied before, by lookahead; also what was copied for another, who did not come."""
    bytes_out: int
    """From device to host."""
    evicted_bytes: int
    needed_bytes: int
    """Of them, what had to go at the least."""
    plan_s: float
    """Deciding, and asking for the copies."""
    wait_s: float
    """In `wait`, up to the first `again`; on a GPU also what its stream stood still for."""
    later_wait_s: float
    copied_s: tuple[float, float] | None
    """When its copies began and ended; None without any."""
    ahead_s: tuple[float, float] | None
    """The same of those made ahead."""


class Guess(NamedTuple):
    """What came of the copies made ahead, for the request that finds them so."""

    num_bytes: int = 0
    evicted_bytes: int = 0
    needed_bytes: int = 0
    landings: tuple[Landing, ...] = ()


class Pass:
    """A request that runs; `LiveArena.begin` makes it."""

    def __init__(self, arena: LiveArena, plan: Plan, guess: Guess, *, is_hit: bool, began_s: float) -> None:
        self.model = plan.model
        self.plan = plan
        """Of the first forward pass."""
        self.places = arena.places(plan)
        """Offset in the arena per chunk."""
        self.is_hit = is_hit
        self._arena = arena
        self._under_way = arena.under_way(plan.model)
        self._guess = guess
        self._began_s = began_s
        self._coming: deque[Load] = deque()
        self._computed: set[int] = set()
        self._copied: list[Landing] = []
        self._bytes_in = 0
        self._plan_s = 0.0
        self._waited_s = [0.0, 0.0]
        self._waited: tuple[list[Landing], list[Landing]] = ([], [])
        self._is_later = False
        self._has_ended = False

    def start(self) -> None:
        """Ask for the copies; `LiveArena.begin` has called it.

        Raises
        ------
        ArenaError: the lane is closed, or there is no thread for it.
        BudgetError: the host has no room for what is to be written back.
        """
        try:
            if self.plan.copy_out_bytes:
                lane, spans = self._arena.lane, _spans(self.plan.evictions)
                self._copied += [lane.copy_out(start, end - start) for start, end in spans]
            self._bring(self.plan)
        except BaseException:  # the map says what no copy has made true
            self._break()
            raise
        self._plan_s = time.perf_counter() - self._began_s

    def wait(self, chunk: int) -> None:
        """Have what is computed from now on come after the chunk's landing; without streaming, after all.

        Raises
        ------
        ArenaError: a copy failed; the model is off the map and the pass has ended.
        UsageError: the pass has ended, or the chunk comes only when another one has been computed.
        """
        if not self._under_way and not self._coming and not self._has_ended:
            return  # a hit, or all is there: the path that has to be short
        self._check()
        began_s = time.perf_counter()
        if not self._arena.streaming and not self._coming:
            self._wait_for(list(self._under_way))
        elif chunk in self._under_way:
            self._wait_for([chunk])
        else:
            self._check_is_not_coming(chunk)
        self._waited_s[self._is_later] += time.perf_counter() - began_s

    def done(self, chunk: int) -> None:
        """Mark that the chunk is computed; copies that waited for it are asked for.

        Raises
        ------
        UsageError: the pass has ended.
        ArenaError: the lane is closed.
        """
        self._check()
        self._arena.mark(self.places[chunk], self.plan.layout.chunks[chunk].num_bytes)
        if self._coming:
            self._computed.add(chunk)
            self._ask()

    def again(self) -> None:
        """Begin the next forward pass of the request: a model that streams is copied anew.

        Raises
        ------
        UsageError: the pass has ended, or chunks of the one before were never computed.
        ArenaError: the lane is closed.
        """
        self._check()
        if self._coming:
            chunk = self._coming[0].chunk
            raise UsageError(f"{self.model}: chunk {chunk} was not reached; compute the whole pass first")
        self._is_later = True
        plan = self._arena.policy.again(self.model)
        if plan.copies:
            self._bring(plan)

    def end(self) -> PassStats:
        """End the request; a second call returns the same."""
        if not self._has_ended:
            self._has_ended = True
            self._arena.ended(self, is_whole=not self._coming)
        plan, guess = self.plan, self._guess
        stalled_s = [sum(landing.stalled_s for landing in landings) for landings in self._waited]
        return PassStats(
            is_hit=self.is_hit,
            bytes_in=self._bytes_in,
            ahead_bytes=guess.num_bytes,
            bytes_out=plan.copy_out_bytes,
            evicted_bytes=plan.evicted_bytes + guess.evicted_bytes,
            needed_bytes=plan.needed_bytes + guess.needed_bytes,
            plan_s=self._plan_s,
            wait_s=self._waited_s[0] + stalled_s[0],
            later_wait_s=self._waited_s[1] + stalled_s[1],
            copied_s=_span(self._copied),
            ahead_s=_span(guess.landings),
        )

    def _bring(self, plan: Plan) -> None:
        self._arena.replan(plan)
        self._computed.clear()
        self._coming.extend(plan.loads)
        self._bytes_in += plan.num_bytes
        self._ask()

    def _ask(self) -> None:
        """Ask for the next copies, as far as what they lie on has been computed."""
        coming = self._coming
        while coming and (coming[0].after is None or coming[0].after in self._computed):
            self._copied.append(self._arena.ask(self.model, coming[0]))
            coming.popleft()

    def _wait_for(self, chunks: Sequence[int]) -> None:
        try:
            for chunk in chunks:
                self._waited[self._is_later].append(self._arena.landed(self.model, chunk))
        except ArenaError:
            self._break()
            raise

    def _break(self) -> None:
        self._has_ended = True
        self._arena.ended(self, is_whole=False)

    def _check(self) -> None:
        if self._has_ended:
            raise UsageError(f"{self.model}: its pass has ended; begin another request")

    def _check_is_not_coming(self, chunk: int) -> None:
        load = next((one for one in self._coming if one.chunk == chunk), None)
        if load is not None:
            first = self._coming[0].after
            raise UsageError(
                f"{self.model}: chunk {chunk} comes only after chunk {first}; call done({first})"
            )


def _spans(evicted: Sequence[Placed]) -> list[tuple[int, int]]:
    """Stretches of the arena, neighbours as one."""
    spans: list[tuple[int, int]] = []
    for placed in sorted(evicted):
        begins_at = spans.pop()[0] if spans and spans[-1][1] == placed.start else placed.start
        spans.append((begins_at, placed.end))
    return spans


def _span(landings: Sequence[Landing]) -> tuple[float, float] | None:
    landed = [one.landed for one in landings if one.landed is not None]
    return (min(one.began_s for one in landed), max(one.ended_s for one in landed)) if landed else None
