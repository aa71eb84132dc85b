"""Chunks that go wherever there is room: what the policies with dynamic places share.

A request keeps what it has of its model, frees the missing bytes in the policy's order of models, each from
its last layer to its first, and puts the missing chunks into the holes in layer order, as many side by side
as fit. The last layers go first because they are needed last and arrive while the first ones run.

Physics and traps: a chunk is contiguous, and layers of different models differ in size, so total room is not
room. At paper scale a layer is 0.4 GB: rounding to chunks costs 5 % more bytes than cutting anywhere would,
and lying side by side another 2 to 3 %. When even evicting all others leaves no room, because the model's own
scattered chunks are in the way, the arena is emptied and the model loaded whole. A model's chunks move about,
so its parameters have to be bound anew after a miss.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from typing import ClassVar

from harness.residency.arena_map import Placed, Run
from harness.residency.policies.base import Copy, Plan, Policy

__all__ = ["SlotPolicy"]


class SlotPolicy(Policy):
    """Evicts model after model, from the last layer to the first, or whole."""

    evicts_whole: ClassVar[bool] = False

    @abstractmethod
    def _touch(self, model: str) -> None:
        """Take note of a request."""

    @abstractmethod
    def _order(self, models: list[str]) -> list[str]:
        """The models from the first to be evicted to the last."""

    def _gone(self, model: str) -> None:
        """Take note that a model begins to give way."""
        return

    def _request(self, model: str, upcoming: str | None) -> Plan:
        self._touch(model)
        arena = self.arena
        if arena.is_whole(model):
            return self._plan(model, (), ())
        needed_bytes = self._needed_bytes(model)
        copies, evictions = self._bring(model, keep=(model,), last_of_all=upcoming)
        if not arena.is_whole(model):
            for copy in copies:  # never made: the model comes whole instead
                arena.evict(model, copy.first, copy.last)
            evictions += arena.clear_all()
            copies = [self._place(model, 0, arena.layouts[model].num_chunks, 0)]
        return self._plan(model, copies, evictions, needed_bytes=needed_bytes)

    def _look(self, model: str, running: str) -> Plan:
        if model == running:
            return self._plan(model, (), ())
        needed_bytes = self._needed_bytes(model)
        copies, evictions = self._bring(model, keep=(model, running), last_of_all=None)
        return self._plan(model, copies, evictions, needed_bytes=needed_bytes)

    def _fill(self, model: str) -> Plan:
        if self.evicts_whole and self._needed_bytes(model):
            return self._plan(model, (), ())
        copies: list[Copy] = []
        for run in self.arena.missing(model):
            self._into_holes(model, run, copies)
        return self._plan(model, copies, ())

    def _bring(
        self, model: str, *, keep: tuple[str, ...], last_of_all: str | None
    ) -> tuple[list[Copy], list[Placed]]:
        """Make room and place what is missing, as far as that goes without touching `keep`."""
        copies: list[Copy] = []
        victims = self._victims(keep, last_of_all)
        evictions = _taken(victims, self._needed_bytes(model))
        for run in self.arena.missing(model):
            first = self._into_holes(model, run, copies)
            while first < run.last:
                more = _taken(victims, 1)
                if not more:
                    return copies, evictions
                evictions += more
                first = self._into_holes(model, Run(first, run.last), copies)
        return copies, evictions

    def _victims(self, keep: tuple[str, ...], last_of_all: str | None) -> Iterator[list[Placed]]:
        """Evict one unit after another: a model, or a model's last chunk."""
        arena = self.arena
        order = self._order([one for one in arena.models if one not in keep])
        if last_of_all in order:
            order.remove(last_of_all)
            order.append(last_of_all)
        for model in order:
            self._gone(model)
            if self.evicts_whole:
                yield arena.evict(model)
                continue
            for chunk in reversed(range(arena.layouts[model].num_chunks)):
                if arena.offset_of(model, chunk) is not None:
                    yield arena.evict(model, chunk, chunk + 1)

    def _into_holes(self, model: str, run: Run, copies: list[Copy]) -> int:
        """Place the run's chunks into holes; return the first that found no room."""
        starts = self.arena.layouts[model].starts
        first, last = run
        while first < last:
            rest_bytes = starts[last] - starts[first]
            holes = [(end - start, start) for start, end in self.arena.holes()]
            size, start = min((h for h in holes if h[0] >= rest_bytes), default=max(holes, default=(0, 0)))
            until = min(last, bisect_right(starts, starts[first] + size) - 1)
            if until == first:
                break
            copies.append(self._place(model, first, until, start))
            first = until
        return first


def _taken(victims: Iterator[list[Placed]], num_bytes: int) -> list[Placed]:
    """Evict until so many bytes are free, or nothing is left that may go."""
    evicted: list[Placed] = []
    while num_bytes > 0 and (unit := next(victims, None)) is not None:
        evicted += unit
        num_bytes -= sum(placed.num_bytes for placed in unit)
    return evicted
