"""A residency policy: which chunks are copied where, and what is evicted for them.

A policy owns an `ArenaMap` and nothing else: no memory, no clock, no thread. The simulator and the live arena
drive the same objects through the same calls, so their hits and bytes agree by construction:

    plan = policy.request(model)             a request begins: what is missing, as copies in layer order
    plan = policy.again(model)               its next forward pass; empty unless the model must stream
    plan = policy.lookahead(next, running=…) what can be copied now for the next request
    policy.undo(plan, num_started)           the lookahead was called off before load number `num_started`
    policy.drop(model)                       a copy failed: nothing of the model may be computed on

The map changes when a plan is made, not when a copy lands: until it has landed, a chunk is on the map and
must not be computed on. One thread makes plans; a plan's copies are begun in order, and before the next plan.

Physics: a miss costs missing bytes ÷ link, and with streaming, layer i runs while layer i + 1 arrives, so
what blocks is max over chunks (landed + compute from there on) − compute. Eviction costs nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from harness.errors import BudgetError, UsageError
from harness.residency.arena_map import ArenaMap, Placed
from harness.residency.layout import ModelLayout, whole_lines

__all__ = ["Copy", "Load", "Plan", "Policy"]


class Copy(NamedTuple):
    """Chunks that lie side by side in the blob and in the arena: one copy."""

    first: int
    last: int
    """Not included."""
    host_offset: int
    arena_offset: int
    num_bytes: int
    after: int | None = None
    """The model's own chunk that lay there: the copy waits until this pass has computed it."""


class Load(NamedTuple):
    """A chunk on its way into the arena."""

    chunk: int
    host_offset: int
    arena_offset: int
    num_bytes: int
    after: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request, one pass or one lookahead moves."""

    model: str
    layout: ModelLayout
    copies: tuple[Copy, ...] = ()
    """In the order of the forward pass, coalesced."""
    evictions: tuple[Placed, ...] = ()
    """What went off the map for them."""
    copy_out_bytes: int = 0
    """Written back to the host before the first copy; 0 for every policy but the seed's."""
    needed_bytes: int = 0
    """What had to be evicted at the least: the bytes that come less the free ones."""

    @property
    def num_bytes(self) -> int:
        """Bytes from host to device."""
        return sum(copy.num_bytes for copy in self.copies)

    @property
    def evicted_bytes(self) -> int:
        """Bytes taken off the map."""
        return sum(placed.num_bytes for placed in self.evictions)

    def needed_for(self, num_loads: int) -> int:
        """What had to be evicted at the least for the first so many loads alone."""
        undone_bytes = sum(load.num_bytes for load in self.loads[num_loads:])
        return max(0, self.needed_bytes - undone_bytes)

    @property
    def loads(self) -> tuple[Load, ...]:
        """The copies chunk by chunk: the steps after which a layer may run."""
        starts = self.layout.starts
        return tuple(
            Load(
                chunk,
                starts[chunk],
                copy.arena_offset + starts[chunk] - copy.host_offset,
                starts[chunk + 1] - starts[chunk],
                copy.after,
            )
            for copy in self.copies
            for chunk in range(copy.first, copy.last)
        )


class Policy(ABC):
    """Decides what is resident."""

    name: ClassVar[str]
    is_streaming: ClassVar[bool] = False
    """Does a forward pass begin before the whole model is there?"""
    can_look_ahead: ClassVar[bool] = False
    has_fixed_places: ClassVar[bool] = False
    """Does a chunk lie in one place for good, so that parameters are bound once?"""

    def __init__(self, layouts: Mapping[str, ModelLayout], capacity_bytes: int) -> None:
        capacity_bytes = whole_lines(capacity_bytes)
        self.arena = ArenaMap(layouts, capacity_bytes)
        self.capacity_bytes = capacity_bytes

    def request(self, model: str, *, upcoming: str | None = None) -> Plan:
        """Begin a request for a model; `upcoming` is whose turn is next, where a queue is visible.

        Raises
        ------
        UsageError: the model is unknown.
        BudgetError: it is larger than the arena, and this policy cannot stream it.
        """
        self._check(model)
        return self._request(model, upcoming)

    def again(self, model: str) -> Plan:
        """The next forward pass of the running request: nothing, as long as the model fits."""
        return Plan(model, self.arena.layouts[model])

    def lookahead(self, model: str, *, running: str) -> Plan:
        """Copy what can be copied for the next request, never over a chunk of the running model."""
        self._check(model)
        return Plan(model, self.arena.layouts[model])

    def fill(self, models: Iterable[str]) -> list[Plan]:
        """Warm up: of these, in their order, copy what fits without evicting anything."""
        plans = []
        for model in models:
            self._check(model)
            plans.append(self._fill(model))
        return plans

    def places(self, plan: Plan) -> tuple[int, ...]:
        """Where each chunk of the model lies while the pass of a request's plan runs.

        Raises
        ------
        UsageError: a chunk is not resident; the plan is a lookahead's, or an old one.
        """
        offsets = {load.chunk: load.arena_offset for load in plan.loads}
        places = [
            offsets[chunk] if chunk in offsets else self.arena.offset_of(plan.model, chunk)
            for chunk in range(plan.layout.num_chunks)
        ]
        if None in places:
            missing = plan.layout.chunks[places.index(None)].name
            raise UsageError(f"{plan.model}: {missing} is not resident; request the model first")
        return tuple(at for at in places if at is not None)

    def undo(self, plan: Plan, num_started: int) -> list[Placed]:
        """Take back a lookahead's loads from number `num_started` on; return the evicted that came back.

        No other plan may have been made since. Loads, not copies: a coalesced copy can stop at any chunk.
        """
        for load in plan.loads[num_started:]:
            self.arena.evict(plan.model, load.chunk, load.chunk + 1)
        return self.arena.restore(plan.evictions)

    def drop(self, model: str) -> None:
        """Take a model off the map: its bytes in the arena cannot be trusted."""
        self.arena.evict(model)

    @abstractmethod
    def _request(self, model: str, upcoming: str | None) -> Plan: ...

    @abstractmethod
    def _fill(self, model: str) -> Plan: ...

    def _check(self, model: str) -> None:
        layout = self.arena.layouts.get(model)
        if layout is None:
            raise UsageError(f"model {model!r}: not in the arena; it has {', '.join(self.arena.layouts)}")
        if layout.num_bytes > self.capacity_bytes:
            self._check_oversize(layout)

    def _check_oversize(self, layout: ModelLayout) -> None:
        raise BudgetError(
            f"{layout.name}: {layout.num_bytes} bytes in an arena of {self.capacity_bytes}; "
            f"give the arena {layout.num_bytes}, or use home-slot, which streams it"
        )

    def _plan(self, model: str, copies: Sequence[Copy], evictions: Sequence[Placed], **more: int) -> Plan:
        return Plan(model, self.arena.layouts[model], tuple(copies), tuple(evictions), **more)

    def _needed_bytes(self, model: str) -> int:
        arena = self.arena
        missing_bytes = arena.layouts[model].num_bytes - arena.resident_bytes(model)
        return max(0, missing_bytes - arena.free_bytes)

    def _place(self, model: str, first: int, last: int, offset: int) -> Copy:
        """Put chunks on the map and return the copy that makes it true."""
        self.arena.place(model, first, last, offset)
        layout = self.arena.layouts[model]
        return Copy(first, last, layout.starts[first], offset, layout.span_bytes(first, last))
