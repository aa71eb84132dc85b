"""Means and shares with their intervals, as tables and figures show them.

Where sessions were merged and what they measured stays up for one, a session is one observation however many
rounds it has: means and intervals are over sessions (`reports.intervals.launches`), from three on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from reports.records import Record

__all__ = [
    "BY_SESSION",
    "NOTHING",
    "Estimate",
    "divided",
    "mean",
    "of_rounds",
    "sessions_of",
    "share_of",
    "unit_notes",
]

BY_SESSION = (
    "what stays up for a session is one observation: means and intervals are over sessions, from three on"
)


class Estimate(NamedTuple):
    """A number, its 95 % interval where there is one, and what both were computed from."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Rounds, tasks, or sessions where those are the observations."""
    sd: float | None = None
    """Standard deviation between them; `None` for shares, and where there is no interval."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high), or `None`."""
        return None if self.low is None or self.high is None else (self.low, self.high)


NOTHING = Estimate(None)


def of_rounds(record: Record, metric: str, arm: str = "treatment") -> Estimate:
    """The mean of a metric over an arm's rounds, or over its sessions where one is one observation."""
    sides = [r.treatment if arm == "treatment" else r.control for r in record.rounds]
    known = [v is not None and v.get(metric) is not None for v in sides]
    sessions = sessions_of(record)
    return mean(
        record.values(metric, arm),
        sessions=sessions and [at for at, is_known in zip(sessions, known, strict=True) if is_known],
    )


def sessions_of(record: Record) -> list[int] | None:
    """The session that each round is of; `None` where rounds are observations of their own."""
    from reports.intervals.launches import is_by_launch

    return [r.session or 0 for r in record.rounds] if is_by_launch(record) else None


def unit_notes(records: Iterable[Record]) -> list[str]:
    """What one observation of some record's rounds is, in a line, where it is no round."""
    return [BY_SESSION] if any(sessions_of(record) is not None for record in records) else []


def mean(values: Sequence[float], *, signed: bool = False, sessions: Sequence[int] | None = None) -> Estimate:
    """The arithmetic mean with Student's t interval, cut at 0 unless the quantity is `signed`.

    Arguments: `sessions`, that each value is of, where a session is one observation.
    """
    from reports import stats
    from reports.intervals.launches import mean_of_sessions, means_of_sessions

    if not values:
        return NOTHING
    each = means_of_sessions(values, sessions) if sessions else values
    found = mean_of_sessions(values, sessions, "rounds") if sessions else stats.mean_of(values)
    if isinstance(found, stats.Unsupported):
        return Estimate(fmean(each), n=len(each))
    low, high = found.bounds()
    sd = stdev(each) if len(each) > 1 else None
    return Estimate(found.value, low if signed else max(low, 0.0), high, len(each), sd)


def share_of(values: Sequence[float]) -> Estimate:
    """The share of ones, with Wilson's score interval."""
    from reports import stats
    from reports.intervals.shares import share

    if not values:
        return NOTHING
    found = share(values)
    if isinstance(found, stats.Unsupported):
        return Estimate(fmean(values), n=len(values))
    return Estimate(found.estimate, found.low, found.high, found.n)


def divided(e: Estimate, by: float) -> Estimate:
    """An estimate over a number that is known."""

    def part(value: float | None) -> float | None:
        return None if value is None else value / by

    return Estimate(part(e.value), part(e.low), part(e.high), e.n, part(e.sd))
