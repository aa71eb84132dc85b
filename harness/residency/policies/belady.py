"""belady: knows the future. Whoever is needed furthest from now goes first, by layers; a bound, not a policy.

`Belady` makes plans like the others, so that it has times and hits, but pays nothing for places: its memory
is paged, with room on the map for every model and a capacity that only counts bytes. No arena can follow it.
The last layers go first, because they are needed last and arrive while the first ones run.

`bound_bytes` is the floor under every policy without exception: models as fluids that may be cut anywhere.
The bytes that any schedule moves are at least these, with lookahead or without, because copying earlier does
not copy less. `whole_model_bytes` is the least for policies that keep or evict whole models.

Source: Belady, A Study of Replacement Algorithms for a Virtual-Storage Computer, IBM Systems Journal 5(2),
1966; for requests that need many pages at once the same exchange argument holds, with the pages of the
running request kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, combinations
from typing import ClassVar

from harness.errors import BudgetError, UsageError
from harness.residency.arena_map import Placed
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Copy, Plan, Policy

__all__ = ["Belady", "bound_bytes", "whole_model_bytes"]

MAX_MODELS = 10
"""Subsets of more models are too many."""


class Belady(Policy):
    """Furthest next use, by layers; it has to be asked for exactly the requests it was told of."""

    name: ClassVar[str] = "belady"
    is_streaming: ClassVar[bool] = True

    def __init__(
        self, layouts: Mapping[str, ModelLayout], capacity_bytes: int, *, future: Sequence[str]
    ) -> None:
        sizes = [layout.num_bytes for layout in layouts.values()]
        super().__init__(layouts, sum(sizes))
        self.capacity_bytes = capacity_bytes
        self._homes = dict(zip(layouts, accumulate(sizes, initial=0), strict=False))
        self._future = future
        self._at = 0
        self._next = _next_uses(future)
        self._due = dict.fromkeys(layouts, len(future)) | {
            model: future.index(model) for model in set(future)
        }

    def _request(self, model: str, upcoming: str | None) -> Plan:
        self._touch(model)
        needed_bytes = self._needed_bytes(model)
        evictions: list[Placed] = []
        freed_bytes = 0
        for placed in self._furthest_first(model) if needed_bytes else ():
            if freed_bytes >= needed_bytes:
                break
            evictions += self.arena.evict(placed.model, placed.chunk, placed.chunk + 1)
            freed_bytes += placed.num_bytes
        copies = [self._put(model, *run) for run in self.arena.missing(model)]
        return self._plan(model, copies, evictions, needed_bytes=needed_bytes)

    def _fill(self, model: str) -> Plan:
        starts = self.arena.layouts[model].starts
        first = next((run.first for run in self.arena.missing(model)), 0)
        until = bisect_right(starts, starts[first] + self._free_bytes()) - 1
        copies = [self._put(model, first, until)] if until > first else []
        return self._plan(model, copies, ())

    def _furthest_first(self, model: str) -> list[Placed]:
        return sorted(
            (placed for placed in self.arena.live if placed.model != model),
            key=lambda placed: (-self._due[placed.model], placed.model, -placed.chunk),
        )

    def _put(self, model: str, first: int, last: int) -> Copy:
        return self._place(model, first, last, self._homes[model] + self.arena.layouts[model].starts[first])

    def _free_bytes(self) -> int:
        return self.capacity_bytes - (self.arena.capacity_bytes - self.arena.free_bytes)

    def _needed_bytes(self, model: str) -> int:
        missing_bytes = self.arena.layouts[model].num_bytes - self.arena.resident_bytes(model)
        return max(0, missing_bytes - self._free_bytes())

    def _touch(self, model: str) -> None:
        if self._at >= len(self._future) or self._future[self._at] != model:
            raise UsageError(
                f"belady: request {self._at} is for {model}, which is not the future it was told of"
            )
        self._due[model] = self._next[self._at]
        self._at += 1


def bound_bytes(
    trace: Sequence[str], sizes: Mapping[str, int], capacity_bytes: int, *, is_warm: bool = False
) -> int:
    """Least bytes from host to device that any policy moves for these requests.

    sizes: bytes per model. is_warm: the arena begins full of the best content there is, at no charge.

    Raises
    ------
    BudgetError: a model is larger than the arena; how it streams decides its bytes.
    """
    if any(sizes[model] > capacity_bytes for model in set(trace)):
        raise BudgetError(
            f"belady: a model is larger than the arena of {capacity_bytes} bytes; there is no bound"
        )
    due = {model: len(trace) for model in sizes} | {model: trace.index(model) for model in set(trace)}
    resident = dict.fromkeys(sizes, 0)
    free_bytes = capacity_bytes
    for model in sorted(due, key=lambda one: due[one]) if is_warm else ():
        resident[model] = min(sizes[model], free_bytes)
        free_bytes -= resident[model]
    moved_bytes = 0
    for model, next_use in zip(trace, _next_uses(trace), strict=True):
        missing_bytes = sizes[model] - resident[model]
        moved_bytes += missing_bytes
        due[model] = next_use
        for victim in sorted(sizes, key=lambda one: -due[one]):
            if free_bytes >= missing_bytes:
                break
            if victim != model:
                taken_bytes = min(resident[victim], missing_bytes - free_bytes)
                resident[victim] -= taken_bytes
                free_bytes += taken_bytes
        resident[model] += missing_bytes
        free_bytes -= missing_bytes
    return moved_bytes


def whole_model_bytes(
    trace: Sequence[str], sizes: Mapping[str, int], capacity_bytes: int, *, is_warm: bool = False
) -> int:
    """Least bytes moved by a policy that keeps whole models, places aside; by dynamic programming over sets.

    Raises
    ------
    UsageError: there are more models than `MAX_MODELS`.
    """
    used = sorted(set(trace))
    if len(used) > MAX_MODELS:
        raise UsageError(f"belady: {len(used)} models have too many subsets; use at most {MAX_MODELS}")
    fitting = [
        frozenset(models)
        for count in range(len(used) + 1)
        for models in combinations(used, count)
        if sum(sizes[model] for model in models) <= capacity_bytes
    ]
    costs: dict[frozenset[str], int] = dict.fromkeys(fitting, 0) if is_warm else {frozenset(): 0}
    for model in trace:
        after: dict[frozenset[str], int] = {}
        for kept, moved_bytes in costs.items():
            moved_bytes += 0 if model in kept else sizes[model]
            for one in fitting:
                if model in one and one <= kept | {model}:
                    after[one] = min(moved_bytes, after.get(one, moved_bytes))
        if not after:
            raise BudgetError(f"belady: {model} is larger than the arena of {capacity_bytes} bytes")
        costs = after
    return min(costs.values(), default=0)


def _next_uses(trace: Sequence[str]) -> list[int]:
    """Of each request, when its model is asked for again; the trace's length for never."""
    due: dict[str, int] = {}
    uses = [len(trace)] * len(trace)
    for at in reversed(range(len(trace))):
        uses[at] = due.get(trace[at], len(trace))
        due[trace[at]] = at
    return uses
