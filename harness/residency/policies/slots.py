"""Chunks that go wherever there is room: what the policies with dynamic places share.

A request keeps what it has of its model and packs the missing chunks in layer order, as many side by side as
go: first into holes; then into holes and what the first model in the policy's order holds, where the least of
it is in the way and the least room is left over; and so on. By whole models, models go in that order until
there is room.

Physics and traps: a chunk is contiguous, and layers of different models differ in size, so total room is not
room. At paper scale a layer is 0.4 GB: that costs 2 to 4 % more bytes by frequency, and 4 to 12 % by recency,
than if models could be cut and lie anywhere (10,000 requests at 20 and 25 GB). Paged memory, as CUDA's
virtual memory calls give it, would save them. When even evicting all others leaves no room, because the
model's own scattered chunks are in the way, the arena is emptied and the model loaded whole. A model's chunks
move about, so its parameters have to be bound anew after a miss.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Collection
from typing import ClassVar

from harness.residency.arena_map import Placed
from harness.residency.policies.base import Copy, Plan, Policy

__all__ = ["SlotPolicy"]


class SlotPolicy(Policy):
    """Evicts model after model in an order, by the chunks in the way or whole."""

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
        free_bytes = self.arena.free_bytes
        copies, evictions = self._bring(model, keep=(model, running), last_of_all=None)
        needed_bytes = max(0, sum(copy.num_bytes for copy in copies) - free_bytes)
        return self._plan(model, copies, evictions, needed_bytes=needed_bytes)

    def _fill(self, model: str) -> Plan:
        if self.evicts_whole and self._needed_bytes(model):
            return self._plan(model, (), ())
        return self._plan(model, self._into(model, (), []), ())

    def _bring(
        self, model: str, *, keep: tuple[str, ...], last_of_all: str | None
    ) -> tuple[list[Copy], list[Placed]]:
        """Place what is missing, as far as that goes without touching `keep`."""
        arena = self.arena
        order = self._order([one for one in arena.models if one not in keep])
        if last_of_all in order:
            order.remove(last_of_all)
            order.append(last_of_all)
        evictions: list[Placed] = []
        copies = self._into(model, (), evictions)
        for number, victim in enumerate(order, start=1):
            if arena.is_whole(model):
                break
            self._gone(victim)
            if self.evicts_whole:
                evictions += arena.evict(victim)
            copies += self._into(model, order[:number], evictions)
        return sorted(copies), evictions

    def _into(self, model: str, going: Collection[str], evictions: list[Placed]) -> list[Copy]:
        """Pack what is missing, as far as that goes, where only `going` has to give way."""
        copies: list[Copy] = []
        for run in self.arena.missing(model):
            first = run.first
            while first < run.last and (copy := self._pack(model, first, run.last, going, evictions)):
                copies.append(copy)
                first = copy.last
        return copies

    def _pack(
        self, model: str, first: int, last: int, going: Collection[str], evictions: list[Placed]
    ) -> Copy | None:
        """Place as many chunks as go side by side, at an end of a hole; None if not one does."""
        arena, starts = self.arena, self.arena.layouts[model].starts
        best: tuple[int, int, int, int, int] | None = None
        for hole in arena.holes(going):
            size = hole.end - hole.start
            until = min(last, bisect_right(starts, starts[first] + size) - 1)
            num_bytes = starts[until] - starts[first]
            for at in (hole.start, hole.end - num_bytes) if until > first else ():
                lying = arena.overlapping(at, at + num_bytes) if going else []
                in_the_way = sum(placed.end - placed.start for placed in lying)
                front = min((placed.chunk for placed in lying), default=0)
                found = (-until, in_the_way, size - num_bytes, -front, at)
                best = found if best is None else min(best, found)
        if best is None:
            return None
        until, at = -best[0], best[-1]
        evictions += arena.clear(at, at + starts[until] - starts[first])
        return self._place(model, first, until, at)
