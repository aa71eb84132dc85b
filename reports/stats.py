"""Intervals and the decision rule.

Every interval is two-sided 95 %. Times and throughputs: Student t on the log ratios of pairs, because it
covers 94-95 % at 5 to 20 pairs where bootstrap intervals of the mean cover 83-91 %. Ratios of totals over
tasks: the delta method. Shares of tasks are in `intervals.shares`. What cannot be computed is `Unsupported`,
with the number of observations that would do; no function returns NaN.

Sources
-------
Jones and Kenward, Design and Analysis of Cross-Over Trials, ch. 2 (the AB BA estimate with a period effect).
Welch, Biometrika 34 (1947) 28-35. Holm, Scand. J. Statist. 6 (1979) 65-70.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import exp, inf, isfinite, log, sqrt
from statistics import fmean, variance
from typing import NamedTuple

from scipy.stats import t as student

__all__ = [
    "LEVEL",
    "Interval",
    "Mean",
    "Unsupported",
    "add",
    "as_difference",
    "as_ratio",
    "as_reduction",
    "holm",
    "log_ratio",
    "log_share_ratio",
    "mean_of",
    "student_quantile",
    "total_log_ratio",
    "total_per_log_ratio",
]

LEVEL = 0.95
MOST_LAG = 1 / 16

Pair = tuple[float, float]


class Interval(NamedTuple):
    """An estimate, its 95 % interval, the pairs or tasks behind it, and how it was made."""

    estimate: float
    low: float
    high: float
    n: int
    method: str


class Unsupported(NamedTuple):
    """Why there is no interval, and how many observations in all would give one, where more would help."""

    reason: str
    needed: int | None = None


class Mean(NamedTuple):
    """A mean with its standard error and degrees of freedom: what intervals are made of and sums add up."""

    value: float
    se: float
    df: float
    n: int
    method: str

    def bounds(self, level: float = LEVEL) -> tuple[float, float]:
        """The two ends of the interval at `level`, on the mean's own scale."""
        half = student_quantile((1 + level) / 2, self.df) * self.se if self.se else 0.0
        return self.value - half, self.value + half


@lru_cache(maxsize=4096)
def student_quantile(q: float, df: float) -> float:
    """Student's quantile, which a page asks for thousands of times at the same few degrees of freedom."""
    return float(student.ppf(q, df))


def log_ratio(pairs: Sequence[Pair], orders: Sequence[str] | None = None) -> Mean | Unsupported:
    """The mean log(treatment / control) of paired rounds.

    Arguments
    ---------
    pairs: (treatment, control) per round, both positive.
    orders: "CT" or "TC" per round. With at least two rounds of each, the order is a covariate: the mean is
        that of the two order means and the spread is taken within them, n - 2 degrees of freedom. Simulated
        at n = 5, 10, 20: coverage 94-96 % under drift, carry-over and autocorrelated noise; plain t covers
        96-100 % under the first two (with a bias of 1/n of the order effect when n is odd) and 92-94 %
        under the last. The price without any of them: an interval 20 % wider at n = 5, 5 % at n = 10.

    Returns
    -------
    `Unsupported` below two pairs, or when a value is not positive and finite.
    """
    bad = [v for pair in pairs for v in pair if not (v > 0 and isfinite(v))]
    if bad:
        return Unsupported(f"a value of {bad[0]:g} has no log ratio")
    logs = [log(treatment / control) for treatment, control in pairs]
    groups = _by_order(logs, orders)
    if groups is None:
        return mean_of(logs, "t on log ratios of pairs")
    means = {name: fmean(group) for name, group in groups.items()}
    rest = [v - means[order] for v, order in zip(logs, orders or (), strict=True)]
    squares = sum(r * r for r in rest)
    df = len(logs) - len(groups)
    spread = squares / df * sum(1 / len(group) for group in groups.values()) / len(groups) ** 2
    se = sqrt(spread * _neighbours(rest, squares))
    return _mean(fmean(means.values()), se, df, len(logs), "t on log ratios of AB BA pairs")


def mean_of(values: Sequence[float], method: str = "t") -> Mean | Unsupported:
    """The mean of independent values, with n - 1 degrees of freedom; identical values have no spread."""
    if len(values) < 2:
        return Unsupported(f"{len(values)} of at least 2 observations", 2)
    if not all(isfinite(v) for v in values):
        return Unsupported("a value is not finite")
    return _mean(fmean(values), sqrt(variance(values) / len(values)), len(values) - 1, len(values), method)


def total_log_ratio(pairs: Sequence[Pair]) -> Mean | Unsupported:
    """log(total of treatment / total of control) over tasks, by the delta method on paired tasks."""
    n = len(pairs)
    totals = sum(t for t, _ in pairs), sum(c for _, c in pairs)
    if n < 2:
        return Unsupported(f"{n} of at least 2 tasks", 2)
    if not (totals[0] > 0 and totals[1] > 0 and isfinite(sum(totals))):
        return Unsupported(f"totals of {totals[0]:g} and {totals[1]:g} have no log ratio")
    se = sqrt(variance(_influence(pairs)) / n)
    return _mean(log(totals[0] / totals[1]), se, n - 1, n, "delta method on paired tasks")


def log_share_ratio(pairs: Sequence[Pair]) -> Mean | Unsupported:
    """log(share of treatment / share of control) over tasks scored 0 or 1, by the delta method.

    Undefined while an arm solves nothing.
    """
    found = total_log_ratio(pairs)
    if isinstance(found, Unsupported):
        return found
    return found._replace(df=inf, method="delta method on paired shares")


def total_per_log_ratio(totals: Sequence[Pair], shares: Sequence[Pair]) -> Mean | Unsupported:
    """log of (total / total of shares), treatment over control: the ratio of two costs per solved task.

    Arguments: both (treatment, control) of the same tasks in the same order. One influence per task carries
    what cost and success share, so that dear tasks that fail and easy ones that both arms solve count as they
    fell. Undefined while an arm solves nothing.
    """
    first, second = total_log_ratio(totals), total_log_ratio(shares)
    if isinstance(first, Unsupported):
        return first
    if isinstance(second, Unsupported):
        return second
    influence = [a - b for a, b in zip(_influence(totals), _influence(shares), strict=True)]
    n = len(influence)
    return _mean(
        first.value - second.value, sqrt(variance(influence) / n), n - 1, n, "delta method on paired tasks"
    )


def add(first: Mean, second: Mean, sign: int = -1) -> Mean:
    """first + sign × second for independent means, with Welch and Satterthwaite's degrees of freedom."""
    parts = [(m.se**2, m.df) for m in (first, second)]
    total = sum(v for v, _ in parts)
    weight = sum(v**2 / df for v, df in parts)
    df = total**2 / weight if weight else min(first.df, second.df)
    n = min(first.n, second.n)
    return Mean(first.value + sign * second.value, sqrt(total), df, n, f"Welch, {first.method}")


def as_ratio(mean: Mean, *, inverse: bool = False, level: float = LEVEL) -> Interval:
    """The ratio treatment / control, or with `inverse` control / treatment, from a mean of log ratios."""
    low, high = mean.bounds(level)
    if inverse:
        return Interval(_exp(-mean.value), _exp(-high), _exp(-low), mean.n, mean.method)
    return Interval(_exp(mean.value), _exp(low), _exp(high), mean.n, mean.method)


def as_reduction(mean: Mean, *, level: float = LEVEL) -> Interval:
    """The reduction 1 - treatment / control from a mean of log ratios."""
    ratio = as_ratio(mean, level=level)
    return Interval(1 - ratio.estimate, 1 - ratio.high, 1 - ratio.low, mean.n, mean.method)


def as_difference(mean: Mean, *, level: float = LEVEL) -> Interval:
    """The mean itself with its interval."""
    return Interval(mean.value, *mean.bounds(level), mean.n, mean.method)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: reject those at or below the family's level."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def _by_order(logs: list[float], orders: Sequence[str] | None) -> dict[str, list[float]] | None:
    if orders is None or len(orders) != len(logs):
        return None
    groups = {o: [v for v, w in zip(logs, orders, strict=True) if w == o] for o in sorted(set(orders))}
    return groups if len(groups) == 2 and min(len(g) for g in groups.values()) >= 2 else None


def _neighbours(rest: Sequence[float], squares: float) -> float:
    """How much the variance of the mean grows because neighbouring AB BA pairs share noise.

    Noise with autocorrelation ρ from one measurement to the next correlates them by ρ (1 - ρ) / 2, at most
    1/8, which lags beyond the first partly undo. The observed lag-1 correlation is taken up to half of that:
    more would widen intervals on recorded times, whose heavy tails t alone covers at 96 %.
    """
    if squares <= 0:
        return 1.0
    return 1 + 2 * min(max(sum(a * b for a, b in pairwise(rest)) / squares, 0.0), MOST_LAG)


def _influence(pairs: Sequence[Pair]) -> list[float]:
    """What each task contributes to log(total of treatment / total of control), to first order."""
    treatment, control = sum(t for t, _ in pairs), sum(c for _, c in pairs)
    return [len(pairs) * (t / treatment - c / control) for t, c in pairs]


def _mean(value: float, se: float, df: float, n: int, method: str) -> Mean:
    exact = se <= 1e-12 * max(1.0, abs(value))
    return Mean(value, 0.0 if exact else se, df, n, "exact, no spread" if exact else method)


def _exp(value: float) -> float:
    return exp(min(value, 700.0))
