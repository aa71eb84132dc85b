"""The rows of what two records of one test measured: every metric, failures and checks, and the controls'.

A change that a variant shares with its control cancels in their ratio. So the controls' own times are rows as
well, one per experiment, control and metric, over all tests that ran it; they carry the sessions' drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import exp, fsum, log, sqrt
from statistics import fmean
from typing import NamedTuple

from reports.comparing.changes import (
    EXACT,
    OWN,
    RELATIVE,
    SESSIONS,
    Moved,
    moved_in_rounds,
    moved_in_tasks,
    shifted,
)
from reports.comparing.kinds import TIME, kind_of
from reports.comparing.rows import Row, row_of
from reports.records import Metric, Record
from reports.stats import Mean, mean_of

__all__ = ["FAILURES", "Pair", "control_rows", "metric_rows"]

Sessions = list[list[float]]
"""Values by session."""

FAILURES = Metric(unit="failures", better="lower", what="what failed in either arm")
CHECK = Metric(unit="held", better="higher", what="whether a provenance check held")


class Pair(NamedTuple):
    """Two records of one test."""

    name: str
    before: Record
    after: Record

    @property
    def records(self) -> tuple[Record, Record]:
        """The records alone."""
        return self.before, self.after


def metric_rows(pair: Pair, margin: float, drift: float) -> Iterator[Row]:
    """A row per metric and part of the record that holds it, then failures, then checks that changed."""
    before, after = pair.records
    for metric, about in after.metrics.items():
        if metric not in before.metrics:
            continue
        kind = kind_of(about)
        for over, find in (("rounds", moved_in_rounds), ("tasks", moved_in_tasks)):
            moved = find(before, after, metric, kind, drift)
            if moved is not None:
                yield _row(moved, margin, pair, metric, over, about)
    failed = _exact(*(float(len(record.failures)) for record in pair.records))
    yield _row(failed, margin, pair, "failures", "test", FAILURES)
    old, new = ({check.name: check for check in record.checks} for record in pair.records)
    for name in old:
        if name in new and old[name].ok != new[name].ok:
            turned = _exact(float(old[name].ok), float(new[name].ok))
            row = _row(turned, margin, pair, f"check {name}", "test", CHECK)
            yield replace(row, why=new[name].observed)


def control_rows(pairs: Sequence[Pair], margin: float, drift: float) -> Iterator[Row]:
    """The controls' own times, one row per experiment, control and metric."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        if pair.before.control is not None:
            groups.setdefault((pair.after.experiment, pair.before.control), []).append(pair)
    for (_, control), group in groups.items():
        variants = f"{len(group)} variant{'s' if len(group) > 1 else ''}"
        for metric, about in group[0].after.metrics.items():
            moved = _moved_of_control(group, metric, drift) if kind_of(about) == TIME else None
            if moved is not None:
                of = group[0]._replace(name=f"{control}, beside {variants}")
                yield replace(_row(moved, margin, of, metric, "rounds", about), family="controls")


def _moved_of_control(group: Sequence[Pair], metric: str, drift: float) -> Moved | None:
    """The mean log change of a control over the tests that ran it."""
    found = [logs for pair in group if (logs := _logs(pair, metric)) is not None]
    if not found:
        return None
    sides = [side for logs in found for side in logs]
    before, after = (exp(fmean(fmean(_flat(logs[i])) for logs in found)) for i in (0, 1))
    n = min(sum(len(_flat(logs[i])) for logs in found) for i in (0, 1))
    if all(record.evidence == "simulated" for pair in group for record in pair.records):
        return _exact(before, after)
    if min(len(side) for side in sides) >= SESSIONS:
        first, second = (mean_of(_levels([logs[i] for logs in found]), "t on sessions") for i in (0, 1))
        if isinstance(first, Mean) and isinstance(second, Mean):
            return Moved(before, after, shifted(first, second), RELATIVE, OWN, n)
    squares = fsum(_square_error(_flat(side)) for side in sides)
    declared = drift * sqrt(sum(1 / min(len(logs[i]) for logs in found) for i in (0, 1)))
    df = min(len(_flat(side)) for side in sides) - 1
    change = Mean(log(after / before), sqrt(squares) / len(found), df, n, OWN)
    return Moved(before, after, change, RELATIVE, OWN, n, declared)


def _logs(pair: Pair, metric: str) -> tuple[Sessions, Sessions] | None:
    """The logs of a control's values, session by session; `None` where a run has too few, or the same."""
    old, new = (_by_session(record, metric) for record in pair.records)
    if old is None or new is None or old == new:
        return None
    return old, new


def _by_session(record: Record, metric: str) -> Sessions | None:
    groups: dict[int, list[float]] = {}
    for one in record.rounds:
        value = one.control.get(metric) if one.control is not None else None
        if value is not None:
            if value <= 0:
                return None
            groups.setdefault(one.session or 0, []).append(log(value))
    return list(groups.values()) if sum(map(len, groups.values())) >= 2 else None


def _levels(tests: Sequence[Sessions]) -> list[float]:
    """Each session's own level, over all tests."""
    num = min(len(sessions) for sessions in tests)
    return [fmean(fmean(sessions[k]) for sessions in tests) for k in range(num)]


def _flat(sessions: Sessions) -> list[float]:
    return [value for session in sessions for value in session]


def _square_error(values: Sequence[float]) -> float:
    mean = fmean(values)
    return fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)


def _exact(before: float, after: float) -> Moved:
    return Moved(before, after, Mean(after - before, 0.0, 1.0, 1, EXACT), EXACT, EXACT, 1)


def _row(moved: Moved, margin: float, pair: Pair, metric: str, over: str, about: Metric) -> Row:
    return row_of(
        moved,
        margin,
        family="metrics",
        experiment=pair.after.experiment,
        name=pair.name,
        metric=metric,
        over=over,
        unit=about.unit,
        better=about.better,
    )
