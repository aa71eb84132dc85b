"""Small arenas for the tests of residency, and a memory in which a wrong plan is seen.

A unit is 64 bytes. The memory remembers for every unit whose chunk was last written there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from hypothesis import strategies as st

from harness.residency import policies as p
from harness.residency.layout import ALIGNMENT_BYTES, ModelLayout
from harness.residency.policies import Load, Plan, Policy

UNIT = ALIGNMENT_BYTES

Make = Callable[[Mapping[str, ModelLayout], int, Sequence[str]], Policy]

POLICIES: dict[str, Make] = {
    "reload-every": lambda layouts, size, _: p.ReloadEvery(layouts, size),
    "keep-last": lambda layouts, size, _: p.KeepLast(layouts, size),
    "fifo-ring": lambda layouts, size, _: p.FifoRing(layouts, size),
    "fifo-ring-copy-out": lambda layouts, size, _: p.FifoRingCopyOut(layouts, size),
    "lru": lambda layouts, size, _: p.LRU(layouts, size),
    "gdsf": lambda layouts, size, _: p.GDSF(layouts, size),
    "chunk-lru": lambda layouts, size, _: p.ChunkLRU(layouts, size),
    "chunk-slots": lambda layouts, size, _: p.ChunkLFU(layouts, size, half_life=3.0),
    "home-slot": lambda layouts, size, _: p.HomeSlot(layouts, size),
    "belady": lambda layouts, size, future: p.Belady(layouts, size, future=future),
}


def layout(name: str, *units: int) -> ModelLayout:
    """A model of chunks of so many units."""
    return ModelLayout.packed(name, [(f"c{i}", count * UNIT) for i, count in enumerate(units)])


def layouts_of(*models: Sequence[int]) -> dict[str, ModelLayout]:
    """Models m0, m1, … of chunks of so many units."""
    return {f"m{i}": layout(f"m{i}", *units) for i, units in enumerate(models)}


@st.composite
def families(draw: st.DrawFn, max_units: int = 4) -> tuple[dict[str, ModelLayout], int]:
    """Some models, and an arena that holds each of them alone."""
    shapes = draw(
        st.lists(st.lists(st.integers(1, max_units), min_size=1, max_size=7), min_size=1, max_size=4)
    )
    layouts = layouts_of(*shapes)
    largest = max(one.num_bytes for one in layouts.values()) // UNIT
    total = sum(one.num_bytes for one in layouts.values()) // UNIT
    return layouts, draw(st.integers(largest, total + 2)) * UNIT


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, ModelLayout], int, list[str]]:
    """Models, an arena, and requests for them."""
    layouts, capacity_bytes = draw(families())
    return layouts, capacity_bytes, draw(st.lists(st.sampled_from(sorted(layouts)), min_size=1, max_size=14))


class Memory:
    """What the arena's bytes hold, unit by unit."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.units: list[tuple[str, int] | None] = [None] * (policy.arena.capacity_bytes // UNIT)

    def write(self, model: str, load: Load) -> None:
        """Copy a chunk in."""
        for unit in range(load.arena_offset // UNIT, (load.arena_offset + load.num_bytes) // UNIT):
            self.units[unit] = (model, load.chunk)

    def holds(self, model: str, chunk: int, offset: int) -> bool:
        """Is the chunk there, whole?"""
        num_bytes = self.policy.arena.layouts[model].chunks[chunk].num_bytes
        return self.units[offset // UNIT : (offset + num_bytes) // UNIT] == [(model, chunk)] * (
            num_bytes // UNIT
        )

    def check_map(self) -> None:
        """The map is in order, and whatever is on it is there."""
        arena = self.policy.arena
        at = 0
        for placed in arena.live:
            assert at <= placed.start < placed.end <= arena.capacity_bytes
            assert arena.offset_of(placed.model, placed.chunk) == placed.start
            assert self.holds(placed.model, placed.chunk, placed.start), placed
            at = placed.end
        live_bytes = sum(placed.num_bytes for placed in arena.live)
        assert live_bytes <= self.policy.capacity_bytes
        assert arena.free_bytes == arena.capacity_bytes - live_bytes
        for model, one in arena.layouts.items():
            missing = sum(one.span_bytes(run.first, run.last) for run in arena.missing(model))
            assert arena.resident_bytes(model) + missing == one.num_bytes

    def run(self, plan: Plan, random: Random, ahead: Plan | None = None) -> int:
        """Compute a pass while its copies land, in any order that the plan allows; check every chunk.

        Return how many loads of `ahead`, which follow on the same link, had begun when the pass was done.
        """
        model, places = plan.model, self.policy.places(plan)
        coming = {load.chunk: load for load in plan.loads}
        queue = [(model, load) for load in plan.loads]
        queue += [(ahead.model, load) for load in ahead.loads] if ahead else []
        landed = computed = 0
        while computed < len(places):
            waits = computed in coming and coming[computed] not in [load for _, load in queue[:landed]]
            can_copy = landed < len(queue)
            if can_copy and landed < len(plan.loads):
                after = queue[landed][1].after
                can_copy = after is None or after < computed
            assert can_copy or not waits, "deadlock"
            if can_copy and (waits or random.random() < 0.5):
                self.write(*queue[landed])
                landed += 1
            else:
                offset = places[computed]
                assert self.holds(model, computed, offset), f"{model} chunk {computed} is not at {offset}"
                computed += 1
        return landed - len(plan.loads)
