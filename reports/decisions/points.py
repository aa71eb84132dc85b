"""Points of a sweep in the place of a record's tasks: whole jobs, and single requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reports.intervals.launches import is_by_launch
from reports.intervals.units import ROUND, SESSION, job_of
from reports.records import Record, TaskPair, Values

__all__ = ["DIVERGED", "WITHIN", "of_jobs", "of_requests", "sizes"]

JOB = "job"
"""The name of a sweep's points that stand for whole jobs: {job, arm, …}."""
REQUEST = "request"
"""The name of a sweep's points that stand for single requests: {arm, round, agent, phase, …}."""
DIVERGED = "diverged"
"""1 where the arms had different models answer a task, else 0."""
SIZE = "model_gb"
"""Of the model that answered a task."""
WITHIN = "unit_within"
"""The setting that names the unit within a session, where the session is the unit."""


def sizes(values: Values) -> Values:
    """The sizes of the models that answered, of what an arm gave."""
    return {name: value for name, value in values.items() if name.endswith(SIZE)}


def of_jobs(record: Record) -> Record:
    """A record whose tasks are the jobs of its sweep; of a job told twice the last counts.

    Which models answered is kept of each job's tasks: whether any differs, and their sizes.
    """
    arms: dict[str, dict[str, Values]] = {"treatment": {}, "control": {}}
    first: dict[tuple[str, str], int] = {}
    for point in record.sweep:
        if point.get("name") == JOB and (arm := point.get("arm", "treatment")) in arms:
            session = int(point.get("session") or 0)
            if first.setdefault((arm, str(point[JOB])), session) != session:
                continue  # graded again in a later session: the same observation
            arms[arm][str(point[JOB])] = {k: float(v) for k, v in point.items() if isinstance(v, int | float)}
    answered: dict[str, Values] = {}
    for task in record.tasks:
        of_job = answered.setdefault(job_of(task.id), {})
        of_job |= {f"{task.id} {name}": value for name, value in sizes(task.treatment).items()}
        if (diverged := task.treatment.get(DIVERGED)) is not None:
            of_job[DIVERGED] = max(diverged, of_job.get(DIVERGED) or 0.0)
    jobs = [
        TaskPair(id=job, treatment=answered.get(job, {}) | values, control=arms["control"].get(job))
        for job, values in arms["treatment"].items()
    ]
    return replace(record, tasks=jobs)


def of_requests(record: Record, by_round: bool) -> Record:
    """A record whose tasks are the requests of its sweep; with `by_round` their round is the unit."""
    sides = {"control": "control", record.control: "control"}
    arms: dict[str, dict[str, Values]] = {"treatment": {}, "control": {}}
    points = [point for point in record.sweep if point.get("name") == REQUEST]
    names = _round_names(record, points)
    for point in points:
        round_name = names[point.get("session"), point.get("round")]
        key = f"{point.get('phase')}-{point.get('agent')}-{round_name}"
        values: Values = {k: float(v) for k, v in point.items() if isinstance(v, int | float)}
        arms[sides.get(point.get("arm"), "treatment")][key] = values
    tasks = [
        TaskPair(id=key, treatment=values, control=arms["control"].get(key))
        for key, values in arms["treatment"].items()
    ]
    has_seeds = any(point.get("seed") is not None for point in points)
    unit = {"unit": ROUND} if by_round or has_seeds else {}
    if is_by_launch(record):
        unit = {WITHIN: ROUND, "unit": SESSION} if unit else {"unit": SESSION}
    return replace(record, tasks=tasks, settings={**record.settings, **unit})


def _round_names(record: Record, points: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, Any], str]:
    """(session, round) → what the round is called: its seed where each has one of its own, else its number.

    In what was merged the number is that within its session, so that those of two records meet, and a seed
    that comes again is the same trace: "7@1" after "7". Where sessions are units, a round of a later one ends
    with its session. The first session's rounds are called as if nothing had been merged.
    """
    seeds: dict[tuple[Any, Any], Any] = {}
    begins: dict[Any, int] = {}
    for point in points:
        session, at = point.get("session"), point.get("round")
        seeds[session, at] = point.get("seed") if seeds.get((session, at)) is None else seeds[session, at]
        begins[session] = min(begins.get(session, at or 0), at or 0)
    is_merged = any(session is not None for session, _ in seeds)
    num_seeds = len(set(seeds.values()))
    if is_by_launch(record):
        return {(s, at): f"{(at or 0) - begins[s]}{f'@{s}' if s else ''}" for s, at in seeds}
    if None not in seeds.values() and (num_seeds == len(seeds) or (is_merged and num_seeds > 1)):
        again: Counter[Any] = Counter()
        return {key: _again(again, seed) for key, seed in seeds.items()}
    if record.sessions == 1:
        return {key: str(key[1]) for key in seeds}
    return {(s, at): f"{(at or 0) - begins[s]}{f'.{s}' if s else ''}" for s, at in seeds}


def _again(seen: Counter[Any], seed: Any) -> str:
    seen[seed] += 1
    return f"{seed}@{seen[seed] - 1}" if seen[seed] > 1 else str(seed)
