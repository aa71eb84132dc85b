"""Several sessions of one plan as one: what was launched anew is another observation.

Rounds and a sweep's points keep the session that they are of, and a round's number runs on from session to
session. A task that is graded greedily again is the same observation again, so that the first grade stands;
where a later one differs, the check `graded_alike` says so. A check holds when it held in every session.
Failures are all kept.

Settings that were measured before the rounds (a capacity, an SLO made from it) differ from session to
session: the first stands, and `per_session` holds all. What was chosen must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from reports.errors import MergeError
from reports.journal import differences
from reports.records import Check, Failure, Floor, Record, TaskPair, Values

__all__ = ["GRADED_ALIKE", "PER_SESSION", "merge_records"]

GRADED_ALIKE = "graded_alike"
"""The check that a repeated grading gave the same."""
PER_SESSION = "per_session"
"""The setting that holds those that differ: name → one value per session."""

IDENTITY = ("experiment", "variant", "control", "backend", "profile", "evidence", "launch", "models")
MEASURED_UNITS = ("s", "USD")
"""Of a task's metrics that no two gradings give twice, since a clock made them."""
MEASURED_TEXTS = ("formula",)
"""Settings that hold what was measured in words."""


def merge_records(records: Sequence[Record], *, launched_anew: bool = True) -> Record:
    """One record of several sessions of the same variant; those given are left as they are.

    Arguments
    ---------
    records: of one variant under one plan, in the order in which they were measured; merged ones may be among
        them, and keep their sessions apart.
    launched_anew: False where the sessions share what stays up for a session, as a rerun within one pytest
        session does. Unless `launch` is "round" they then count as one.

    Raises
    ------
    MergeError: nothing to merge, or records that differ in what must be equal; every difference is named.
    """
    if not records:
        raise MergeError("merge: no record was given; give those of one variant in two or more sessions")
    first, *others = records
    for other in others:
        _refuse(first, other)
    numbers = _sessions(records, apart=launched_anew or first.launch == "round")
    if len(records) == 1:
        return first
    return replace(
        first,
        settings=_settings(records),
        rounds=[
            replace(r, session=at + (r.session or 0))
            for record, at in zip(records, numbers, strict=True)
            for r in record.rounds
        ],
        tasks=_tasks(records),
        sweep=_sweep(records, numbers),
        failures=_failures(records),
        checks=_checks(records),
        floors=_floors(records),
        complete=all(record.complete for record in records),
        sessions=numbers[-1] + records[-1].sessions,
    )


def _refuse(first: Record, other: Record) -> None:
    """Raise MergeError where two records differ in what must be equal."""
    found = differences(_identity(first), _identity(other))
    names = first.settings.keys() | other.settings.keys()
    chosen = [n for n in names if n != PER_SESSION and not _are_measured(n, first, other)]
    found += differences(
        *({"settings": {n: record.settings.get(n) for n in chosen}} for record in (first, other))
    )
    if found:
        raise MergeError(
            f"merge: the records of {first.variant!r} are not of one plan, and never merge. What differs:\n  "
            + "\n  ".join(found)
        )


def _identity(record: Record) -> dict[str, Any]:
    metrics = {name: asdict(metric) for name, metric in record.metrics.items()}
    return {name: getattr(record, name) for name in IDENTITY} | {"metrics": metrics}


def _are_measured(name: str, *records: Record) -> bool:
    return name in MEASURED_TEXTS or all(_is_measured(record.settings.get(name)) for record in records)


def _is_measured(value: Any) -> bool:
    """Whether a setting holds a fraction, which may have been measured: the plan tells what was chosen."""
    if isinstance(value, Mapping):
        return any(_is_measured(v) for v in value.values())
    return any(_is_measured(v) for v in value) if isinstance(value, list) else isinstance(value, float)


def _settings(records: Sequence[Record]) -> dict[str, Any]:
    """The first session's, with those that differ told per session."""
    told: dict[str, list[Any]] = {}
    for name, value in records[0].settings.items():
        if name != PER_SESSION and any(r.settings.get(name) != value for r in records):
            told[name] = [v for r in records for v in _told(r, name)]
    for name in records[0].settings.get(PER_SESSION, {}).keys() - told.keys():
        told[name] = [v for r in records for v in _told(r, name)]
    out = {k: v for k, v in records[0].settings.items() if k != PER_SESSION}
    return {**out, PER_SESSION: told} if told else out


def _told(record: Record, name: str) -> list[Any]:
    earlier = record.settings.get(PER_SESSION, {}).get(name)
    return list(earlier) if earlier else [record.settings.get(name)] * record.sessions


def _sessions(records: Sequence[Record], *, apart: bool) -> list[int]:
    """The number that each record's first session has among all."""
    out, at = [], 0
    for record in records:
        out.append(at)
        at += record.sessions if apart else 0
    return out


def _tasks(records: Sequence[Record]) -> list[TaskPair]:
    """Every task once, as it was graded first."""
    found: dict[str, TaskPair] = {}
    for record in records:
        for task in record.tasks:
            found.setdefault(task.id, task)
    return list(found.values())


def _sweep(records: Sequence[Record], numbers: Sequence[int]) -> list[dict[str, Any]]:
    out = []
    offset = 0
    for record, at in zip(records, numbers, strict=True):
        for point in record.sweep:
            moved = {**point, "session": at + int(point.get("session") or 0)}
            if isinstance(point.get("round"), int):
                moved["round"] = point["round"] + offset
            out.append(moved)
        offset += _num_rounds(record)
    return out


def _num_rounds(record: Record) -> int:
    """How many rounds a record numbers, in its rounds, its sweep or its failures."""
    told = [p["round"] for p in record.sweep if isinstance(p.get("round"), int)]
    told += [f.round for f in record.failures if f.round is not None]
    return max(len(record.rounds), max(told, default=-1) + 1)


def _failures(records: Sequence[Record]) -> list[Failure]:
    out, offset = [], 0
    for record in records:
        out += [
            f if f.round is None or f.round < 0 else replace(f, round=f.round + offset)
            for f in record.failures
        ]
        offset += _num_rounds(record)
    return out


def _checks(records: Sequence[Record]) -> list[Check]:
    """Each check once: it holds when it was made and held in every session."""
    names = dict.fromkeys(check.name for record in records for check in record.checks)
    names.pop(GRADED_ALIKE, None)
    out = [_check(name, records) for name in names]
    return out + ([_graded_alike(records)] if any(record.tasks for record in records) else [])


def _check(name: str, records: Sequence[Record]) -> Check:
    found = [[c for c in record.checks if c.name == name] for record in records]
    ok = all(seen and all(c.ok for c in seen) for seen in found)
    said = ["; ".join(c.observed for c in seen) or "was not checked" for seen in found]
    if len(set(said)) == 1:
        return Check(name=name, ok=ok, observed=said[0])
    return Check(
        name=name, ok=ok, observed="; ".join(f"session {at}: {what}" for at, what in enumerate(said, 1))
    )


def _graded_alike(records: Sequence[Record]) -> Check:
    """Whether every later grading of a task gave what its first gave, but for what a clock made."""
    first = {task.id: task for task in _tasks(records)}
    counted = {n for record in records for n, m in record.metrics.items() if m.unit not in MEASURED_UNITS}
    odd: dict[str, str] = {}
    again = set()
    for record in records[1:]:
        for task in record.tasks:
            again.add(task.id)
            if names := _differ(first[task.id], task, counted):
                odd.setdefault(task.id, f"{task.id} in {names[0]}")
    earlier = [c for r in records for c in r.checks if c.name == GRADED_ALIKE and not c.ok]
    some = "; differ: " + ", ".join(list(odd.values())[:3]) + (", …" if len(odd) > 3 else "") if odd else ""
    said = f"{len(again) - len(odd)} of {len(again)} tasks were graded the same again{some}"
    return Check(
        name=GRADED_ALIKE,
        ok=not odd and not earlier,
        observed="; ".join([said, *(c.observed for c in earlier)]),
    )


def _differ(first: TaskPair, again: TaskPair, counted: set[str]) -> list[str]:
    """The metrics that two gradings of a task tell differently."""
    arms: list[Callable[[TaskPair], Values | None]] = [lambda t: t.treatment, lambda t: t.control]
    return [
        name
        for arm in arms
        for name in sorted(counted)
        if (arm(first) or {}).get(name) != (arm(again) or {}).get(name)
    ]


def _floors(records: Sequence[Record]) -> list[Floor]:
    """Each floor once, as the first session computed it from what it had measured."""
    found: dict[str, Floor] = {}
    for record in records:
        for floor in record.floors:
            found.setdefault(floor.name, floor)
    return list(found.values())
