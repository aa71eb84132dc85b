"""Four ways to say how much memory a job took, and who was over the budget.

    step_peak        max over steps of Σ size over models that answered in it
    resident_peak    max over steps of Σ size over models loaded in it
    transition_peak  max over steps of Σ size over models loaded before or in it; what loading before evicting
                     would need, equal to resident_peak where eviction precedes loading
    sum_distinct     Σ size over models that answered at all; the origin's first metric, which counts models
                     that were never loaded together (66.7 % of its jobs "violate" by it, 33.3 % by step_peak)

A step violates when what answers in it does not fit: 8.0 GB fits 8.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.routers.planning.base import Fleet, total_bytes

__all__ = ["Memory", "memory_of"]


class Memory(NamedTuple):
    """Bytes; formulas in the module's docstring."""

    step_peak_bytes: int
    resident_peak_bytes: int
    transition_peak_bytes: int
    sum_distinct_bytes: int
    num_steps: int
    num_violations: int
    """steps that violate"""
    over_bytes: int
    """by how much the worst step is over; 0 where none is"""

    @property
    def is_violated(self) -> bool:
        """Whether the job has a step that violates."""
        return self.num_violations > 0


def memory_of(
    fleet: Fleet,
    executed: Sequence[frozenset[int]],
    residents: Sequence[frozenset[int]],
    *,
    before: frozenset[int] = frozenset(),
) -> Memory:
    """Memory of a job, from the models that answered and were loaded in each step.

    before: models loaded when the job began.
    """
    steps = [total_bytes(fleet, models) for models in executed]
    between = [old | new for old, new in pairwise((before, *residents))]
    return Memory(
        step_peak_bytes=max(steps),
        resident_peak_bytes=max(total_bytes(fleet, models) for models in residents),
        transition_peak_bytes=max(total_bytes(fleet, models) for models in between),
        sum_distinct_bytes=total_bytes(fleet, frozenset().union(*executed)),
        num_steps=len(steps),
        num_violations=sum(size > fleet.budget_bytes for size in steps),
        over_bytes=max(0, max(steps) - fleet.budget_bytes),
    )
