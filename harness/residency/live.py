"""An arena that serves: the policies of the simulator over memory, a copier and a clock.

    running = arena.begin("a")          the missing chunks are on their way, in layer order
    arena.look_ahead("b")               behind them, what can come now for whoever is next
    for chunk in range(num_chunks):
        running.wait(chunk)             its bytes are at running.places[chunk]
        ...                             compute
        running.done(chunk)
    running.again()                     before every further forward pass
    stats = running.end()

Whoever computes on a chunk between `wait` and `done` finds the blob's own bytes there. That holds because the
lane copies in order, because a chunk that may be written over has been computed on (`after`, and on a GPU the
marks), and because the next `begin` ends the pass before it: a pass that has ended refuses to go on.

A failed copy is an `ArenaError` for whoever waits for it, and takes its model off the map: the next request
for it copies again. A copy that was made ahead and failed takes its model off the map without a word. Nothing
is trusted before it has landed, however old: chunks of a pass that broke off and of a wrong guess are waited
for like any other.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harness.errors import UsageError
from harness.residency.device.base import Landing, Lane
from harness.residency.marks import Marks, Use
from harness.residency.policies.base import Load, Plan, Policy
from harness.residency.running import Guess, Pass, PassStats
from harness.residency.store.blob import HostBlob

__all__ = ["LiveArena", "Pass", "PassStats"]

_LOOK_S = 1e-4


class _Issued(NamedTuple):
    """A copy that the lane has."""

    load: Load
    landing: Landing
    uses: list[Use]
    """What it waits for on the device."""


class _Ahead(NamedTuple):
    """A lookahead under way."""

    plan: Plan
    issued: list[_Issued]


class LiveArena:
    """Models that take turns in one arena. One thread plans and computes."""

    def __init__(
        self,
        policy: Policy,
        lane: Lane,
        blobs: Mapping[str, HostBlob],
        *,
        streaming: bool | None = None,
    ) -> None:
        """Take a policy whose map is empty; the lane becomes the arena's own, and is closed with it.

        blobs: by model, of the policy's layouts. streaming: may a pass begin before the whole model is there;
        None for what the policy is made for.

        Raises
        ------
        UsageError: a blob is missing or of another layout, the lane's arena is too small for the policy, or
            something is on the map already.
        BudgetError: the host has no memory to pin.
        """
        self.policy = policy
        self.lane = lane
        self.blobs = dict(blobs)
        self._streaming = streaming
        self._marks = Marks()
        self._landings: dict[str, dict[int, _Issued]] = {}
        self._places: dict[str, tuple[int, ...]] = {}
        self._ahead: _Ahead | None = None
        self._guess = Guess()
        self._running: Pass | None = None
        self._model: str | None = None
        self.reset(policy)
        for blob in self.blobs.values():
            lane.register(blob)

    @property
    def streaming(self) -> bool:
        """May a pass begin before the whole model is there?"""
        return self.policy.is_streaming if self._streaming is None else self._streaming

    def begin(self, model: str, *, upcoming: str | None = None) -> Pass:
        """Begin a request: a lookahead is settled, the missing chunks are asked for.

        Raises
        ------
        UsageError: the model is unknown.
        BudgetError: it is larger than the arena, and the policy cannot stream it; or as `Pass.start`.
        ArenaError: as `Pass.start`.
        """
        began_s = time.perf_counter()
        if self._running is not None:
            self._running.end()
        self._settle()
        self._collect()
        late = bool(self._landings.get(model))
        plan = self.policy.request(model, upcoming=upcoming)
        guess, self._guess = self._guess, Guess()
        self._model = model
        running = Pass(self, plan, guess, is_hit=not plan.copies and not late, began_s=began_s)
        self._running = running
        running.start()
        return running

    def look_ahead(self, model: str) -> None:
        """Copy for the next request what can come beside the running model; nothing, if the policy cannot.

        Raises
        ------
        UsageError: the model is unknown, or none has begun yet.
        """
        if self._model is None:
            raise UsageError("arena: nothing runs that could be looked ahead from; begin a request first")
        self._settle()
        plan = self.policy.lookahead(model, running=self._model)
        if plan.copies:
            self._ahead = _Ahead(plan, [])
            for load in plan.loads:
                self._ahead.issued.append(self._ask(model, load))

    def fill(self, models: Iterable[str]) -> None:
        """Warm up: of these, in their order, copy what fits without evicting, and wait for it.

        Raises
        ------
        ArenaError: a copy failed.
        """
        self._settle()
        for plan in self.policy.fill(models):
            for load in plan.loads:
                self._ask(plan.model, load)
        self.drain()

    def drain(self) -> None:
        """Wait for every copy under way, those made ahead included.

        Raises
        ------
        ArenaError: one failed; its model is off the map with the next request.
        """
        for landings in self._landings.values():
            for one in landings.values():
                self.lane.wait(one.landing)
                while one.landing.landed is None:  # where waiting is the device's
                    time.sleep(_LOOK_S)

    def reset(self, policy: Policy) -> None:
        """Begin anew with another policy of the same layouts, and nothing in the arena.

        Raises
        ------
        UsageError: as when the arena is made.
        """
        self._check(policy)
        if self._running is not None:
            self._running.end()
        self._settle()
        for model, landings in self._landings.items():
            self._forget(model, list(landings))
        self.policy = policy
        self._landings = {model: {} for model in policy.arena.layouts}
        self._places.clear()
        self._guess = Guess()
        self._model = None

    def close(self) -> None:
        """Close the lane; the blobs are the caller's. A second call does nothing."""
        if self._running is not None:
            self._running.end()
        self.lane.close()

    def _check(self, policy: Policy) -> None:
        for model, layout in policy.arena.layouts.items():
            if model not in self.blobs or self.blobs[model].manifest.layout != layout:
                raise UsageError(f"{model}: no blob of the policy's layout; pack it from the same chunks")
        if policy.arena.capacity_bytes > self.lane.capacity_bytes:
            raise UsageError(
                f"{policy.name}: plans for {policy.arena.capacity_bytes} bytes, the lane's arena has "
                f"{self.lane.capacity_bytes}; make both alike"
            )
        if policy.arena.live:
            raise UsageError(f"{policy.name}: {policy.arena.live[0]} is on the map; give it cold, then fill")

    def under_way(self, model: str) -> Mapping[int, object]:
        """A model's chunks that nobody has waited for yet, as it stands from now on; a pass asks."""
        return self._landings[model]

    def places(self, plan: Plan) -> tuple[int, ...]:
        """Where each chunk lies, found once per model until one of its chunks is copied; a pass asks."""
        places = None if plan.copies else self._places.get(plan.model)
        if places is None:
            places = self._places[plan.model] = self.policy.places(plan)
        return places

    def ask(self, model: str, load: Load) -> Landing:
        """Hand a copy to the lane; a pass asks.

        Raises
        ------
        ArenaError: the lane is closed.
        """
        return self._ask(model, load).landing

    def replan(self, plan: Plan) -> None:
        """What is to be copied anew has not landed by what is still under way; a pass says so."""
        if self._landings[plan.model]:
            self._forget(plan.model, [load.chunk for load in plan.loads])

    def landed(self, model: str, chunk: int) -> Landing:
        """Wait for a chunk that is under way, and return its copy; a pass asks.

        Raises
        ------
        ArenaError: it failed.
        """
        landing = self._landings[model][chunk].landing
        self.lane.wait(landing)
        del self._landings[model][chunk]
        return landing

    def mark(self, offset: int, num_bytes: int) -> None:
        """Note that a stretch was computed on; a pass says so."""
        self._marks.put(offset, offset + num_bytes, self.lane.mark())

    def ended(self, one: Pass, *, is_whole: bool) -> None:
        """Let a pass go; what was planned and never asked for takes its model off the map."""
        if not is_whole:
            self._drop(one.model)
        if self._running is one:
            self._running = None

    def _ask(self, model: str, load: Load) -> _Issued:
        self._places.pop(model, None)
        uses = self._marks.take(load.arena_offset, load.arena_offset + load.num_bytes)
        landing = self.lane.copy_in(model, load, after=[use.mark for use in uses])
        issued = self._landings[model][load.chunk] = _Issued(load, landing, uses)
        return issued

    def _settle(self) -> None:
        """Call a lookahead off; what had begun stays, and counts for the request that comes."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        num_begun = self.lane.call_off([one.landing for one in ahead.issued])
        for one in ahead.issued[num_begun:]:
            self._landings[ahead.plan.model].pop(one.load.chunk, None)
            self._marks.put_back(one.uses)  # nothing was asked for since
        restored = self.policy.undo(ahead.plan, num_begun)
        begun = ahead.issued[:num_begun]
        if begun:
            back_bytes = sum(placed.num_bytes for placed in restored)
            self._guess = Guess(
                self._guess.num_bytes + sum(one.load.num_bytes for one in begun),
                self._guess.evicted_bytes + ahead.plan.evicted_bytes - back_bytes,
                self._guess.needed_bytes + ahead.plan.needed_for(num_begun),
                (*self._guess.landings, *(one.landing for one in begun)),
            )

    def _forget(self, model: str, chunks: Iterable[int]) -> None:
        """Wait no more for copies under way; those behind which nothing has to wait are called off.

        One that waits for the device does so for whatever was asked for later: it has to take its turn.
        """
        landings = self._landings[model]
        gone = [landings.pop(chunk) for chunk in chunks if chunk in landings]
        if gone:
            self.lane.call_off([one.landing for one in gone if not one.uses])

    def _collect(self) -> None:
        """Forget what has landed or gone; take models off the map whose copies failed."""
        for model, landings in self._landings.items():
            for chunk, one in list(landings.items()) if landings else ():
                is_live = self.policy.arena.offset_of(model, chunk) is not None
                if one.landing.landed is not None or not is_live:
                    del landings[chunk]
                elif one.landing.has_failed:
                    self._drop(model)
                    break

    def _drop(self, model: str) -> None:
        """Nothing of the model may be computed on."""
        self._settle()
        self._forget(model, list(self._landings[model]))
        self.policy.drop(model)
