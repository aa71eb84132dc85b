"""From records to intervals: the number that a claim speaks of, as one run measured it.

A ratio of times comes from paired rounds, a share of solved tasks from one greedy grading of each task in
both arms, and a cost per solved task from both. Two variants that were each paired with the same baseline are
compared by Welch's t over their log ratios, and by pairing their tasks where tasks are graded. Tasks of
one job count as one observation where the record says so (`units`). Quantiles of requests are in `tails`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp
from typing import NamedTuple

from reports.claims import Claim
from reports.intervals.launches import is_by_launch, log_ratio_of_sessions, mean_of_sessions
from reports.intervals.shares import share_difference
from reports.intervals.units import Graded, by_unit, few_units, totals, unit_of, units_of
from reports.intervals.values import own_value, sum_of, value_of
from reports.records import Record, Values
from reports.stats import (
    LEVEL,
    Interval,
    Mean,
    Unsupported,
    add,
    as_difference,
    as_ratio,
    as_reduction,
    log_ratio,
    log_share_ratio,
    mean_of,
    total_log_ratio,
    total_per_log_ratio,
)

__all__ = [
    "advantage",
    "better_of",
    "difference_of_gains",
    "difference_of_tasks",
    "lost_rounds",
    "measure",
    "own_value",
    "paired_tasks",
    "ratio_of_tasks",
    "rounds_log_ratio",
]

Pair = tuple[float, float]


class Paired(NamedTuple):
    """(treatment, control) of each round that measured the metric in both arms, its order and session."""

    pairs: list[Pair]
    orders: list[str]
    sessions: list[int]


def better_of(metrics: Sequence[str], record: Record) -> str:
    """The direction that the metrics share.

    Raises
    ------
    KeyError: the record defines no such metric. ValueError: the metrics run in opposite directions.
    """
    ways = {record.metrics[name].better for name in metrics}
    if len(ways) != 1:
        raise ValueError(f"{'+'.join(metrics)} sums metrics that run in opposite directions")
    return ways.pop()


def measure(claim: Claim, record: Record, level: float = LEVEL) -> Interval | Unsupported:
    """The claim's number in one record, with its interval.

    Raises
    ------
    KeyError: the record defines no metric of that name. ValueError: a sum of metrics of opposite directions.
    """
    lower = better_of(claim.metrics, record) == "lower"
    if claim.quantity == "value":
        return value_of(claim, record, level)
    if claim.quantity == "difference":
        return _difference(claim, record, level)
    mean = _log_gain(claim, record)
    if isinstance(mean, Unsupported):
        return mean
    if claim.quantity == "reduction":
        return as_reduction(mean, level=level)
    return as_ratio(mean, inverse=lower, level=level)


def advantage(claim: Claim, treatment: Record, other: Record, level: float = LEVEL) -> Interval | Unsupported:
    """How much better `treatment` is than `other` by the claim's metric; above 0 is better.

    Log ratios for ratios and reductions, plain differences for differences; the sign is turned so that higher
    is better whatever the metric's direction. Both records were paired with the same control; where `other`
    is that control itself, the treatment's own pairs say it all.
    """
    is_control = other.variant == treatment.control
    sign = -1 if better_of(claim.metrics, treatment) == "lower" else 1
    if claim.quantity == "difference":
        if claim.over == "tasks":
            return _turned(_task_difference(paired_tasks(claim.metrics, treatment, other), level), sign)
        first = _mean_difference(claim.metrics, treatment)
        second = None if is_control else _mean_difference(claim.metrics, other)
    elif claim.over == "tasks":
        first, second = _tasks_log_ratio(claim, treatment, other), None
    else:
        first = rounds_log_ratio(claim.metrics, treatment)
        second = None if is_control else rounds_log_ratio(claim.metrics, other)
    if isinstance(first, Unsupported):
        return first
    if isinstance(second, Unsupported):
        return second
    mean = first if second is None else add(first, second)
    if claim.per is not None and claim.over == "rounds":
        shares = log_share_ratio(totals(paired_tasks((claim.per,), treatment, other)))
        if isinstance(shares, Unsupported):
            return shares
        mean = add(mean, shares)
    return _turned(as_difference(mean, level=level), sign)


def difference_of_gains(
    claim: Claim, first: Record, second: Record, level: float = LEVEL
) -> Interval | Unsupported:
    """The gain over its own control in one record, against that in the other.

    Quantity "reduction": the difference of the two (delta method). "ratio": the ratio of the two.
    """
    lower = better_of(claim.metrics, first) == "lower"
    means = [_log_gain(claim, record) for record in (first, second)]
    found = [m for m in means if isinstance(m, Mean)]
    if len(found) < 2:
        return next(m for m in means if isinstance(m, Unsupported))
    if claim.quantity == "reduction":
        left, right = (m._replace(value=1 - exp(m.value), se=exp(m.value) * m.se) for m in found)
        return as_difference(add(left, right), level=level)
    return as_ratio(add(found[0], found[1]), inverse=lower, level=level)


def difference_of_tasks(
    claim: Claim, first: Record, second: Record, level: float = LEVEL
) -> Interval | Unsupported:
    """first - second, both as treatments, over the tasks that both graded."""
    return _task_difference(paired_tasks(claim.metrics, first, second), level)


def ratio_of_tasks(
    claim: Claim, first: Record, second: Record, level: float = LEVEL
) -> Interval | Unsupported:
    """How many times better first is than second, both as treatments, in total over the same tasks."""
    lower = better_of(claim.metrics, first) == "lower"
    mean = _tasks_log_ratio(claim, first, second)
    return mean if isinstance(mean, Unsupported) else as_ratio(mean, inverse=lower, level=level)


def paired_tasks(metrics: Sequence[str], first: Record, second: Record) -> Graded:
    """(first, second) of each task that both records graded under their treatment."""
    return _graded(metrics, first, {task.id: task.treatment for task in second.tasks})


def rounds_log_ratio(metrics: Sequence[str], record: Record) -> Mean | Unsupported:
    """The mean log(treatment / control) of the metrics' sum over paired rounds, or over their sessions.

    A session is the unit where the record was merged and what it measured stayed up for each.
    """
    paired = _paired(metrics, record)
    return log_ratio_of_sessions(*paired) if is_by_launch(record) else log_ratio(paired.pairs, paired.orders)


def lost_rounds(record: Record) -> int:
    """Rounds of which an arm failed and left nothing."""
    return sum(
        r.treatment is None or (record.control is not None and r.control is None) for r in record.rounds
    )


def _log_gain(claim: Claim, record: Record) -> Mean | Unsupported:
    """The mean log(treatment / control), per `claim.per` where the claim asks for it."""
    if claim.over == "tasks":
        return _tasks_log_ratio(claim, record)
    mean = rounds_log_ratio(claim.metrics, record)
    if claim.per is None or isinstance(mean, Unsupported):
        return mean
    shares = log_share_ratio(totals(_own_tasks((claim.per,), record)))
    return shares if isinstance(shares, Unsupported) else add(mean, shares)


def _tasks_log_ratio(claim: Claim, record: Record, other: Record | None = None) -> Mean | Unsupported:
    """log(total / total) over the tasks graded in both arms, per `claim.per` where the claim asks for it.

    The other arm is the record's own control, or the treatment of `other`.
    """
    arms = {task.id: task.control if other is None else task.treatment for task in (other or record).tasks}
    if few := few_units(record):
        return few
    if claim.per is None:
        return total_log_ratio(totals(_graded(claim.metrics, record, arms)))
    both = (claim.metrics, (claim.per,))
    whole = [t for t in record.tasks if all(_pair(names, t.treatment, arms.get(t.id)) for names in both)]
    found = [totals(_graded(names, replace(record, tasks=whole), arms)) for names in both]
    return total_per_log_ratio(*found)


def _difference(claim: Claim, record: Record, level: float) -> Interval | Unsupported:
    if claim.over == "tasks":
        return _task_difference(_own_tasks(claim.metrics, record), level)
    mean = _mean_difference(claim.metrics, record)
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _mean_difference(metrics: Sequence[str], record: Record) -> Mean | Unsupported:
    paired = _paired(metrics, record)
    gaps, what = [t - c for t, c in paired.pairs], "differences of pairs"
    if is_by_launch(record):
        return mean_of_sessions(gaps, paired.sessions, what)
    return mean_of(gaps, f"t on {what}")


def _task_difference(graded: Graded, level: float) -> Interval | Unsupported:
    """Shares by a score interval, scores by t on the differences, and both by t on jobs where those count."""
    is_share = all(v in (0, 1) for pair in graded.pairs for v in pair)
    gaps = [t - c for t, c in graded.pairs]
    if graded.is_clustered:
        span = (-1.0, 1.0) if is_share else None
        return by_unit(gaps, graded.units, span=span, level=level, unit=graded.unit)
    if is_share:
        return share_difference(graded.pairs, level)
    mean = mean_of(gaps, "t on differences of tasks")
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _turned(interval: Interval | Unsupported, sign: int) -> Interval | Unsupported:
    if isinstance(interval, Unsupported) or sign > 0:
        return interval
    return interval._replace(estimate=-interval.estimate, low=-interval.high, high=-interval.low)


def _paired(metrics: Sequence[str], record: Record) -> Paired:
    found = [(_pair(metrics, r.treatment, r.control), r) for r in record.rounds]
    whole = [(pair, r.order, r.session or 0) for pair, r in found if pair is not None]
    return Paired([pair for pair, _, _ in whole], [o for _, o, _ in whole], [s for _, _, s in whole])


def _own_tasks(metrics: Sequence[str], record: Record) -> Graded:
    return _graded(metrics, record, {task.id: task.control for task in record.tasks})


def _graded(metrics: Sequence[str], record: Record, others: Mapping[str, Values | None]) -> Graded:
    """(treatment, other) of each task that both measured."""
    found = [
        (task.id, pair)
        for task in record.tasks
        if (pair := _pair(metrics, task.treatment, others.get(task.id))) is not None
    ]
    units = units_of(record, [name for name, _ in found])
    return Graded([pair for _, pair in found], units, unit_of(record))


def _pair(metrics: Sequence[str], treatment: Values | None, other: Values | None) -> Pair | None:
    first, second = sum_of(metrics, treatment), sum_of(metrics, other)
    return None if first is None or second is None else (first, second)
