"""What a routing record says of each job: the points named "job" of its `sweep`, one per job and arm.

    {job, shape, arm, score, step_peak_gb, resident_peak_gb, transition_peak_gb, sum_distinct_gb, violations,
     over_gb, loads, job_s, token_cost}

Tasks are named "<job>.<task>". Trap: their token costs leave out what a model spent on planning. A
point's own `token_cost` counts it; where points have none, the sum over tasks stands in, and is named so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from reports.records import Record, Values

__all__ = ["Costs", "points", "tasks", "token_costs"]

POINT = "job"


class Costs(NamedTuple):
    """Token cost by job; a job of which it is not known is left out."""

    by_job: Mapping[str, float]
    with_planning: bool
    """Whether a planning model's tokens are counted."""


def points(record: Record, arm: str = "treatment") -> dict[str, Mapping[str, Any]]:
    """Job → its point in an arm; the last where a job has several."""
    found = (p for p in record.sweep if p.get("name") == POINT and p.get("job") is not None)
    return {str(p["job"]): p for p in found if p.get("arm", "treatment") == arm}


def tasks(record: Record, arm: str = "treatment") -> list[tuple[str, Values]]:
    """(job, values) of each task graded in an arm."""
    pairs = ((task.id, task.treatment if arm == "treatment" else task.control) for task in record.tasks)
    return [(id.rpartition(".")[0] or id, values) for id, values in pairs if values is not None]


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
