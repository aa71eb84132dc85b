"""What a routing record says of each job: the points named "job" of its `sweep`, one per job and arm.

    {job, shape, arm, score, step_peak_gb, resident_peak_gb, transition_peak_gb, sum_distinct_gb, violations,
     over_gb, loads, job_s, token_cost}

Tasks are named "<job>.<task>". Trap: their token costs leave out what a model spent on planning. A
point's own `token_cost` counts it; where points have none, the sum over tasks stands in, and is named so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from reports.records import Record, Values
from reports.tabular.means import Estimate

__all__ = ["PLANNER", "Costs", "by_job", "graded", "points", "stand_ins", "tasks", "token_costs"]

Span = tuple[float, float] | None

POINT = "job"
PLANNER = "planner"
"""The arm in which a model plans."""


class Costs(NamedTuple):
    """Token cost by job; a job of which it is not known is left out."""

    by_job: Mapping[str, float]
    with_planning: bool
    """Whether a planning model's tokens are counted."""


def stand_ins(records: Iterable[Record]) -> frozenset[str]:
    """The planner, where no model was asked and another plan stood in for its answers."""
    stood_in = any(r.settings.get("planner_stands_in") for r in records)
    return frozenset({PLANNER} if stood_in else ())


def points(record: Record, arm: str = "treatment") -> dict[str, Mapping[str, Any]]:
    """Job → its point in an arm; the last where a job has several."""
    found = (p for p in record.sweep if p.get("name") == POINT and p.get("job") is not None)
    return {str(p["job"]): p for p in found if p.get("arm", "treatment") == arm}


def tasks(record: Record, arm: str = "treatment") -> list[tuple[str, Values]]:
    """(job, values) of each task graded in an arm."""
    pairs = ((task.id, task.treatment if arm == "treatment" else task.control) for task in record.tasks)
    return [(id.rpartition(".")[0] or id, values) for id, values in pairs if values is not None]


def graded(record: Record, metric: str, arm: str = "treatment", span: Span = None) -> Estimate:
    """The mean over an arm's tasks; its interval by jobs where those are the unit.

    span: the least and the largest that a value can be.
    """
    sides = ((t.id, t.treatment if arm == "treatment" else t.control) for t in record.tasks)
    return by_job(record, [(id, v) for id, s in sides if s and (v := s.get(metric)) is not None], span)


def by_job(record: Record, values: Sequence[tuple[str, float]], span: Span = None) -> Estimate:
    """The mean of (task, value), likewise."""
    from reports.intervals.units import by_unit, units_of
    from reports.stats import Unsupported

    numbers = [v for _, v in values]
    if not numbers:
        return Estimate(None)
    found = by_unit(numbers, units_of(record, [id for id, _ in values]), span=span)
    if isinstance(found, Unsupported):
        return Estimate(fmean(numbers), n=len(numbers))
    return Estimate(found.estimate, found.low, found.high, found.n)


def token_costs(record: Record, arm: str = "treatment") -> Costs:
    """What each job cost, in an arm."""
    own = {job: float(c) for job, p in points(record, arm).items() if (c := p.get("token_cost")) is not None}
    if own:
        return Costs(own, True)
    parts: dict[str, list[float | None]] = {}
    for job, values in tasks(record, arm):
        parts.setdefault(job, []).append(values.get("token_cost"))
    whole = {job: [c for c in costs if c is not None] for job, costs in parts.items() if None not in costs}
    return Costs({job: sum(costs) for job, costs in whole.items()}, False)
