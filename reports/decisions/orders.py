"""Claims about an ordering: nothing beats the treatment on every axis, or a curve runs one way.

An axis favours an arm when the whole interval of their difference lies on its side. Several axes, several
rivals and several steps are several chances, so their levels are corrected (Bonferroni).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from math import log1p

from reports.claims import Claim
from reports.decisions.decision import Decision
from reports.intervals.estimates import advantage
from reports.intervals.launches import is_by_launch, mean_of_sessions
from reports.records import Record
from reports.stats import LEVEL, Interval, Mean, Unsupported, add, as_difference, mean_of

__all__ = ["decide_monotone", "decide_order"]


def decide_order(
    claim: Claim, record: Record, others: Sequence[Record], level: float = LEVEL
) -> tuple[Interval | Unsupported, Decision]:
    """Whether some rival is at least as good on every axis and better on one: Pareto dominance.

    `margin` is how much worse still counts as equally good: relative on axes of rounds, absolute on shares.

    Returns
    -------
    The number of rivals that dominate: by the estimates, at the least, and at the most. Confirmed when it can
    only be 0, refuted when it is at least 1.
    """
    by_estimate = surely = possibly = 0
    names = []
    n = 0
    for other in others:
        found = [_axis(claim, axis, record, other, 1 - (1 - level) / len(claim.axes)) for axis in claim.axes]
        loose = [_axis(claim, axis, record, other, 1 - (1 - level) / len(others)) for axis in claim.axes]
        if gap := next((f for f in (*found, *loose) if isinstance(f, Unsupported)), None):
            return gap, Decision("inconclusive")
        axes = [f for f in found if isinstance(f, Interval)]
        strict = [f for f in loose if isinstance(f, Interval)]
        n = min(axis.n for axis in axes) if not n else min(n, *(axis.n for axis in axes))
        ties = [_tie(claim, axis) for axis in claim.axes]
        dominated = all(i.high < tie for i, tie in zip(strict, ties, strict=True)) and any(
            i.high < 0 for i in strict
        )
        by_estimate += all(i.estimate <= tie for i, tie in zip(axes, ties, strict=True)) and any(
            i.estimate < 0 for i in axes
        )
        surely += dominated
        possibly += not any(i.low > 0 for i in axes)
        if dominated:
            names.append(other.variant)
    interval = Interval(
        float(by_estimate), float(surely), float(max(possibly, surely)), n, "Pareto dominance, Welch"
    )
    if surely:
        return interval, Decision("refuted", 0, f"{', '.join(names)}: at least as good on every axis")
    if possibly == 0:
        return interval, Decision("confirmed")
    return interval, Decision("inconclusive", 0, f"{possibly} of {len(others)} rivals are not told apart")


def decide_monotone(
    claim: Claim, record: Record, level: float = LEVEL
) -> tuple[Interval | Unsupported, Decision]:
    """Whether the sweep's metric runs with `direction` along `claim.along`.

    Each step between neighbouring points is tested by Welch's t over the values measured there. A simulated
    point is what it is: one will do.

    Returns
    -------
    The difference from the first point to the last. Confirmed when that runs the claimed way and no step
    runs the other way beyond the margin; refuted when a step surely does, or the whole does.
    """
    sign = 1 if claim.direction == "increasing" else -1
    at: dict[float, list[float]] = {}
    sessions: dict[float, list[int]] = {}
    wanted = [part.partition("=") for part in (claim.only or "").split()]
    for point in record.sweep:
        if any(str(point.get(key)) != value for key, _, value in wanted):
            continue
        x, y = point.get(claim.along or ""), point.get(claim.metric)
        if isinstance(x, int | float) and isinstance(y, int | float):
            at.setdefault(float(x), []).append(sign * float(y))
            sessions.setdefault(float(x), []).append(int(point.get("session") or 0))
    xs = sorted(at)
    if len(xs) < 2:
        return Unsupported(f"{len(xs)} of at least 2 points along {claim.along}", 2), Decision("inconclusive")
    means = [_point(record, at[x], sessions[x]) for x in xs]
    if gap := next((m for m in means if isinstance(m, Unsupported)), None):
        if is_by_launch(record):
            return gap, Decision("inconclusive")
        return Unsupported(f"each point needs 2 values: {gap.reason}", 2), Decision("inconclusive")
    known = [m for m in means if not isinstance(m, Unsupported)]
    of_step = 1 - (1 - level) / (len(known) - 1)
    steps = [as_difference(add(b, a), level=of_step) for a, b in itertools.pairwise(known)]
    whole = as_difference(add(known[-1], known[0]), level=level)
    slack = claim.margin or 0.0
    back = [f"{claim.along} = {x:g}" for x, step in zip(xs[1:], steps, strict=True) if step.high < -slack]
    shown = whole if sign > 0 else whole._replace(estimate=-whole.estimate, low=-whole.high, high=-whole.low)
    if back or whole.high < 0:
        return shown, Decision("refuted", 0, f"runs back at {', '.join(back)}" if back else "")
    if whole.low > 0:
        return shown, Decision("confirmed")
    flat = whole.low == whole.high
    return shown, Decision("inconclusive", 0, "its ends are equal" if flat else "its ends are not told apart")


def _point(record: Record, values: Sequence[float], sessions: Sequence[int]) -> Mean | Unsupported:
    """What was measured at a point: of merged sessions of what stays up, the mean over sessions."""
    if record.evidence == "simulated":
        return _exact(values)
    return mean_of_sessions(values, sessions, "points") if is_by_launch(record) else mean_of(values)


def _exact(values: Sequence[float]) -> Mean | Unsupported:
    """One simulated value, without spread; several as a sample."""
    return Mean(values[0], 0.0, 1.0, 1, "exact, no spread") if len(values) == 1 else mean_of(values)


def _axis(claim: Claim, axis: str, record: Record, other: Record, level: float) -> Interval | Unsupported:
    """The treatment's advantage over one rival on one axis."""
    over, _, metric = axis.partition(":")
    quantity = "difference" if over == "tasks" else "ratio"
    one = replace(
        claim, form="at_least", published=0.0, over=over, metric=metric, quantity=quantity, per=None
    )
    return advantage(one, record, other, level)


def _tie(claim: Claim, axis: str) -> float:
    """How far above 0 the treatment's advantage may lie and the rival still count as equally good."""
    margin = claim.margin or 0.0
    return margin if axis.startswith("tasks:") else log1p(margin)
