"""What every session gave alike: the same observation again, and no other one.

Bytes that a policy moves on a given trace, or how many hits it has, are the same in every session of one
plan. Their launches do not differ, and more sessions say nothing new; what is uncertain is the trace, and the
rounds of one session tell that. So where all sessions gave a claim's numbers alike, one of them speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.claims import Claim
from reports.decisions.points import WITHIN
from reports.intervals.launches import is_by_launch
from reports.intervals.units import SESSION, unit_of, units_of
from reports.intervals.values import sum_of
from reports.records import Record, Round, TaskPair

__all__ = ["told_once"]


def told_once(claim: Claim, record: Record) -> Record:
    """The record, or its first session alone where every session gave the claim's numbers alike."""
    if not is_by_launch(record) or claim.form in ("order", "monotone"):
        return record
    if claim.over == "rounds":
        rounds = [[r for r in record.rounds if (r.session or 0) == at] for at in range(record.sessions)]
        alike = _are_alike([_values(claim, one) for one in rounds])
        return replace(record, rounds=rounds[0], sessions=1) if alike else record
    if claim.over != "tasks" or unit_of(record) != SESSION:
        return record
    tasks: list[list[TaskPair]] = [[] for _ in range(record.sessions)]
    for task, session in zip(record.tasks, units_of(record, [t.id for t in record.tasks]), strict=True):
        tasks[int(session)].append(task)
    if not _are_alike([sorted(zip(_ids(one), _values(claim, one), strict=True)) for one in tasks]):
        return record
    within = {"unit": record.settings[WITHIN]} if WITHIN in record.settings else {}
    kept = {k: v for k, v in record.settings.items() if k not in ("unit", WITHIN)}
    return replace(record, tasks=tasks[0], settings={**kept, **within}, sessions=1)


def _are_alike(sessions: Sequence[Any]) -> bool:
    return bool(sessions[0]) and all(session == sessions[0] for session in sessions)


def _values(claim: Claim, parts: Sequence[Round] | Sequence[TaskPair]) -> list[str]:
    """The claim's numbers of each part, in both arms."""
    names = [(name,) for name in (*claim.metrics, claim.of, claim.per) if name]
    return [repr([sum_of(name, arm) for name in names for arm in (p.treatment, p.control)]) for p in parts]


def _ids(tasks: Sequence[TaskPair]) -> list[str]:
    return [task.id.partition("@")[0] for task in tasks]
