"""home-slot: every chunk has one place for good, modulo the arena. The default.

Physics: a switch is exactly the missing bytes, and nothing has to be chosen: what lies in the way goes.
Parameters are bound once (0.009 ms per switch against 0.7 to 0.9 ms to bind 84 tensors anew), and pointers
stay as they are, as CUDA graphs need. Where models overlap they take turns; where they do not, they stay:
residency is partial, and by layers. The price is that a cold model in an unlucky place may drive out a hot
one's bytes, which the choice of places keeps small when popularity is known (`harness.residency.homes`).

Lookahead copies only into places that the running model does not use, so what overlaps it always blocks.

A model larger than the arena streams: its first chunks stay, the others pass through a window, in every pass.

Source: this project (facts on switching, "the design that wins"); a direct-mapped cache with placed tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import ClassVar

from harness.residency.arena_map import Placed
from harness.residency.homes import Home, expected_bytes, find_homes
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Copy, Plan, Policy

__all__ = ["HomeSlot"]


class HomeSlot(Policy):
    """A ring of homes."""

    name: ClassVar[str] = "home-slot"
    has_fixed_places: ClassVar[bool] = True
    is_streaming: ClassVar[bool] = True
    can_look_ahead: ClassVar[bool] = True

    def __init__(
        self,
        layouts: Mapping[str, ModelLayout],
        capacity_bytes: int,
        *,
        popularity: Mapping[str, float] | None = None,
        homes: Mapping[str, Home] | None = None,
    ) -> None:
        super().__init__(layouts, capacity_bytes)
        self.homes = homes or find_homes(layouts, self.capacity_bytes, popularity)
        self._in_the_way = cache(self._find_in_the_way)

    def again(self, model: str) -> Plan:
        """The next forward pass: what of a model that streams has been written over."""
        return self._request(model, None)

    def lookahead(self, model: str, *, running: str) -> Plan:
        """Copy for the next request into the places that the running model does not use."""
        self._check(model)
        too_large = [one for one in (model, running) if self._streams(one)]
        if model == running or too_large:
            return self._plan(model, (), ())
        return self._bring(model, self._in_the_way(model, running))

    def rehome(self, popularity: Mapping[str, float]) -> tuple[str, ...]:
        """Find better places under another popularity; return whose parameters have to be bound anew.

        Between requests only. What moves is off the map; nothing moves unless fewer bytes are expected.

        Raises
        ------
        UsageError: the popularity of a model is missing, or is not positive.
        """
        arena = self.arena
        homes = find_homes(arena.layouts, arena.capacity_bytes, popularity)
        before_bytes, after_bytes = (
            expected_bytes(arena.layouts, one, popularity) for one in (self.homes, homes)
        )
        if after_bytes >= before_bytes:
            return ()
        moved = tuple(model for model, home in homes.items() if home.offsets != self.homes[model].offsets)
        for model in moved:
            arena.evict(model)
        self.homes = homes
        self._in_the_way.cache_clear()
        return moved

    def _check_oversize(self, layout: ModelLayout) -> None:
        """It streams; `find_homes` has refused it if it cannot."""

    def _streams(self, model: str) -> bool:
        return self.homes[model].num_fixed < self.arena.layouts[model].num_chunks

    def _request(self, model: str, upcoming: str | None) -> Plan:
        if self.arena.is_whole(model):
            return self._plan(model, (), ())
        if self._streams(model):
            return self._stream(model)
        return self._bring(model, frozenset())

    def _fill(self, model: str) -> Plan:
        offsets, starts = self.homes[model].offsets, self.arena.layouts[model].starts
        taken = {
            chunk
            for chunk, at in enumerate(offsets)
            if self.arena.overlapping(at, at + starts[chunk + 1] - starts[chunk])
        }
        return self._bring(
            model, frozenset(range(len(offsets))) if self._streams(model) else frozenset(taken)
        )

    def _bring(self, model: str, barred: frozenset[int]) -> Plan:
        """Copy every missing chunk that is not barred to its home, over whatever lies there."""
        free_bytes = self.arena.free_bytes
        copies: list[Copy] = []
        evictions: list[Placed] = []
        for first, last in self._stretches(model, barred):
            at = self.homes[model].offsets[first]
            evictions += self.arena.clear(at, at + self.arena.layouts[model].span_bytes(first, last))
            copies.append(self._place(model, first, last, at))
        needed_bytes = max(0, sum(copy.num_bytes for copy in copies) - free_bytes)
        return self._plan(model, copies, evictions, needed_bytes=needed_bytes)

    def _stretches(self, model: str, barred: frozenset[int]) -> list[tuple[int, int]]:
        """The missing runs, cut where the home wraps and where a chunk is barred."""
        offsets = self.homes[model].offsets
        stretches: list[tuple[int, int]] = []
        for run in self.arena.missing(model):
            first = run.first
            for chunk in range(run.first, run.last):
                if chunk in barred:
                    if first < chunk:
                        stretches.append((first, chunk))
                    first = chunk + 1
                elif chunk > first and offsets[chunk] < offsets[chunk - 1]:
                    stretches.append((first, chunk))
                    first = chunk
            if first < run.last:
                stretches.append((first, run.last))
        return stretches

    def _stream(self, model: str) -> Plan:
        """Copy the missing first chunks to stay, and the others one by one through the window."""
        home, starts = self.homes[model], self.arena.layouts[model].starts
        room_bytes = self.arena.resident_bytes(model) + self.arena.free_bytes
        copies: list[Copy] = []
        evictions = self.arena.evict(model, home.num_fixed)
        for chunk, at in enumerate(home.offsets):
            if self.arena.offset_of(model, chunk) is not None:
                continue
            over = self.arena.clear(at, at + starts[chunk + 1] - starts[chunk])
            own = [placed.chunk for placed in over if placed.model == model]
            evictions += [placed for placed in over if placed.model != model]
            copies.append(self._place(model, chunk, chunk + 1, at)._replace(after=max(own, default=None)))
        # Its own chunks lie on each other: it never has room for all of them.
        needed_bytes = max(0, self.arena.resident_bytes(model) - room_bytes)
        return self._plan(model, copies, evictions, needed_bytes=needed_bytes)

    def _find_in_the_way(self, model: str, running: str) -> frozenset[int]:
        starts, offsets = self.arena.layouts[model].starts, self.homes[model].offsets
        return frozenset(
            chunk
            for chunk, at in enumerate(offsets)
            if any(at < end and start < at + starts[chunk + 1] - starts[chunk]
                   for start, end in self.homes[running].arcs)
        )  # fmt: skip
