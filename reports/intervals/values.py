"""A claim's own value: what one arm measured, without a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from reports.claims import Claim
from reports.intervals.launches import is_by_launch, mean_of_sessions, quantile_of_sessions
from reports.intervals.quantiles import quantile_of
from reports.intervals.shares import share
from reports.intervals.units import by_unit, unit_of, units_of
from reports.records import Record, Values
from reports.stats import Interval, Unsupported, as_difference, mean_of

__all__ = ["own_value", "sum_of", "value_of"]


def value_of(claim: Claim, record: Record, level: float) -> Interval | Unsupported:
    """The treatment's own value in one record, or its share of `claim.of`, with its interval."""
    if claim.over == "tasks":
        return _value_of_tasks(claim, record, level)
    found = [(v, r.session or 0) for r in record.rounds if (v := own_value(claim, r.treatment)) is not None]
    values, sessions = [value for value, _ in found], [session for _, session in found]
    by_launch = is_by_launch(record)
    if claim.quantile is not None and not by_launch:
        return quantile_of(values, claim.quantile, level)
    if claim.form == "exact" and values:
        return _exact(values)
    if claim.quantile is not None:
        mean = quantile_of_sessions(values, sessions, claim.quantile)
    else:
        mean = mean_of_sessions(values, sessions, "rounds") if by_launch else mean_of(values, "t on rounds")
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _value_of_tasks(claim: Claim, record: Record, level: float) -> Interval | Unsupported:
    found = [
        (task.id, value) for task in record.tasks if (value := own_value(claim, task.treatment)) is not None
    ]
    values = [value for _, value in found]
    if claim.form == "exact" and values:
        return _exact(values)
    is_share = bool(values) and set(values) <= {0.0, 1.0}
    units = units_of(record, [name for name, _ in found])
    if len(set(units)) < len(units):
        span = (0.0, 1.0) if is_share else None
        return by_unit(values, units, span=span, level=level, unit=unit_of(record))
    if is_share:
        return share(values, level)
    mean = mean_of(values, "t on tasks")
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _exact(values: Sequence[float]) -> Interval:
    return Interval(fmean(values), min(values), max(values), len(values), "exact, smallest to largest")


def own_value(claim: Claim, arm: Values | None) -> float | None:
    """The claim's number in one arm, divided by `claim.of` where the claim asks for it."""
    part = sum_of(claim.metrics, arm)
    if claim.of is None or part is None:
        return part
    whole = sum_of((claim.of,), arm)
    return part / whole if whole else None


def sum_of(metrics: Sequence[str], arm: Values | None) -> float | None:
    """The sum of the metrics in one arm, or `None` when the arm failed or lacks one."""
    values = [arm.get(name) for name in metrics] if arm is not None else [None]
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
