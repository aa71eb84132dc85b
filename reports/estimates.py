"""From records to intervals: the number that a claim speaks of, as one run measured it.

A ratio of times comes from paired rounds, a share of solved tasks from one greedy grading of each task in
both arms, and a cost per solved task from both. Two variants that were each paired with the same baseline are
compared by Welch's t over their log ratios, and by pairing their tasks where tasks are graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from statistics import fmean
from typing import NamedTuple

from reports.claims import Claim
from reports.quantiles import quantile_of
from reports.records import Record
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
    share,
    share_difference,
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
    "paired_tasks",
    "ratio_of_tasks",
]

Pair = tuple[float, float]


class Paired(NamedTuple):
    """(treatment, control) of each round that measured the metric in both arms, with the round's order."""

    pairs: list[Pair]
    orders: list[str]


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
        return _value(claim, record, level)
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
        first = _rounds_log_ratio(claim.metrics, treatment)
        second = None if is_control else _rounds_log_ratio(claim.metrics, other)
    if isinstance(first, Unsupported):
        return first
    if isinstance(second, Unsupported):
        return second
    mean = first if second is None else add(first, second)
    if claim.per is not None and claim.over == "rounds":
        shares = log_share_ratio(paired_tasks((claim.per,), treatment, other))
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


def paired_tasks(metrics: Sequence[str], first: Record, second: Record) -> list[Pair]:
    """(first, second) of each task that both records graded under their treatment."""
    others = {task.id: _sum(metrics, task.treatment) for task in second.tasks}
    pairs = ((_sum(metrics, task.treatment), others.get(task.id)) for task in first.tasks)
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def lost_rounds(record: Record) -> int:
    """Rounds of which an arm failed and left nothing."""
    return sum(
        r.treatment is None or (record.control is not None and r.control is None) for r in record.rounds
    )


def _log_gain(claim: Claim, record: Record) -> Mean | Unsupported:
    """The mean log(treatment / control), per `claim.per` where the claim asks for it."""
    if claim.over == "tasks":
        return _tasks_log_ratio(claim, record)
    mean = _rounds_log_ratio(claim.metrics, record)
    if claim.per is None or isinstance(mean, Unsupported):
        return mean
    shares = log_share_ratio(_own_tasks((claim.per,), record))
    return shares if isinstance(shares, Unsupported) else add(mean, shares)


def _tasks_log_ratio(claim: Claim, record: Record, other: Record | None = None) -> Mean | Unsupported:
    """log(total / total) over the tasks graded in both arms, per `claim.per` where the claim asks for it.

    The other arm is the record's own control, or the treatment of `other`.
    """
    if claim.per is None:
        own = _own_tasks(claim.metrics, record)
        return total_log_ratio(own if other is None else paired_tasks(claim.metrics, record, other))
    arms = {task.id: task.control if other is None else task.treatment for task in (other or record).tasks}
    totals, shares = [], []
    for task in record.tasks:
        found = [
            _sum(names, arm)
            for names in (claim.metrics, (claim.per,))
            for arm in (task.treatment, arms.get(task.id))
        ]
        whole = [v for v in found if v is not None]
        if len(whole) == len(found):
            totals.append((whole[0], whole[1]))
            shares.append((whole[2], whole[3]))
    return total_per_log_ratio(totals, shares)


def _rounds_log_ratio(metrics: Sequence[str], record: Record) -> Mean | Unsupported:
    paired = _paired(metrics, record)
    return log_ratio(paired.pairs, paired.orders)


def _value(claim: Claim, record: Record, level: float) -> Interval | Unsupported:
    arms = (
        [r.treatment for r in record.rounds]
        if claim.over == "rounds"
        else [task.treatment for task in record.tasks]
    )
    values = [v for arm in arms if (v := _sum(claim.metrics, arm)) is not None]
    if claim.of is not None:
        whole = [_sum((claim.of,), arm) for arm in arms]
        parts = [_sum(claim.metrics, arm) for arm in arms]
        values = [p / w for p, w in zip(parts, whole, strict=True) if p is not None and w]
    if claim.quantile is not None:
        return quantile_of(values, claim.quantile, level)
    if claim.form == "exact" and values:
        return Interval(fmean(values), min(values), max(values), len(values), "exact, smallest to largest")
    if claim.over == "tasks" and values and set(values) <= {0.0, 1.0}:
        return share(values, level)
    mean = mean_of(values, "t on rounds" if claim.over == "rounds" else "t on tasks")
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _difference(claim: Claim, record: Record, level: float) -> Interval | Unsupported:
    if claim.over == "tasks":
        return _task_difference(_own_tasks(claim.metrics, record), level)
    mean = _mean_difference(claim.metrics, record)
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _mean_difference(metrics: Sequence[str], record: Record) -> Mean | Unsupported:
    return mean_of([t - c for t, c in _paired(metrics, record).pairs], "t on differences of pairs")


def _task_difference(pairs: list[Pair], level: float) -> Interval | Unsupported:
    """Shares by a score interval, other scores by t on the differences."""
    if all(v in (0, 1) for pair in pairs for v in pair):
        return share_difference(pairs, level)
    mean = mean_of([t - c for t, c in pairs], "t on differences of tasks")
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _turned(interval: Interval | Unsupported, sign: int) -> Interval | Unsupported:
    if isinstance(interval, Unsupported) or sign > 0:
        return interval
    return interval._replace(estimate=-interval.estimate, low=-interval.high, high=-interval.low)


def _paired(metrics: Sequence[str], record: Record) -> Paired:
    found = [(_sum(metrics, r.treatment), _sum(metrics, r.control), r.order) for r in record.rounds]
    whole = [((t, c), order) for t, c, order in found if t is not None and c is not None]
    return Paired([pair for pair, _ in whole], [order for _, order in whole])


def _own_tasks(metrics: Sequence[str], record: Record) -> list[Pair]:
    pairs = [(_sum(metrics, task.treatment), _sum(metrics, task.control)) for task in record.tasks]
    return [(t, c) for t, c in pairs if t is not None and c is not None]


def _sum(metrics: Sequence[str], arm: dict[str, float | None] | None) -> float | None:
    """The sum of the metrics in one arm, or `None` when the arm failed or lacks one."""
    values = [arm.get(name) for name in metrics] if arm is not None else [None]
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
