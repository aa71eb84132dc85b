"""Shares of tasks: of one arm by Wilson's score interval, of two, paired by task, by Tango's.

Both stay honest at 0 and 100 %.

Sources
-------
Tango, Statistics in Medicine 17 (1998) 891-908, eqs. 5-8 (paired difference of proportions).
Wilson, JASA 22 (1927) 209-212.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from statistics import fmean

from scipy.optimize import brentq
from scipy.stats import norm

from reports.stats import LEVEL, Interval, Unsupported

__all__ = ["share", "share_difference"]

Pair = tuple[float, float]


def share_difference(pairs: Sequence[Pair], level: float = LEVEL) -> Interval | Unsupported:
    """Share of treatment minus share of control over tasks scored 0 or 1, by Tango's score interval.

    Only tasks on which the arms differ carry information; without one the interval is still of finite
    width, 4 / (n + 4) or so to either side.

    Returns
    -------
    `Unsupported` without tasks, or when a score is neither 0 nor 1.
    """
    n = len(pairs)
    if not n:
        return Unsupported("no task was graded in both arms", 2)
    if any(v not in (0, 1) for pair in pairs for v in pair):
        return Unsupported("a share needs scores of 0 or 1")
    gained = sum(t > c for t, c in pairs)
    lost = sum(t < c for t, c in pairs)
    z = float(norm.ppf((1 + level) / 2))
    delta = (gained - lost) / n
    edge = 1 - 1e-9
    low = -1.0 if _tango(gained, lost, n, -edge) < z else _root(gained, lost, n, z, -edge, delta)
    high = 1.0 if _tango(gained, lost, n, edge) > -z else _root(gained, lost, n, -z, delta, edge)
    return Interval(delta, low, high, n, "Tango score interval on paired tasks")


def share(values: Sequence[float], level: float = LEVEL) -> Interval | Unsupported:
    """The share of ones among values of 0 and 1, by Wilson's score interval."""
    n = len(values)
    if not n:
        return Unsupported("no task was graded", 1)
    if any(v not in (0, 1) for v in values):
        return Unsupported("a share needs scores of 0 or 1")
    z2 = float(norm.ppf((1 + level) / 2)) ** 2
    p = fmean(values)
    centre, half = p + z2 / (2 * n), sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n)
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return Interval(p, max(0.0, min(low, p)), min(1.0, max(high, p)), n, "Wilson score interval")


def _tango(gained: int, lost: int, n: int, delta: float) -> float:
    """Tango's score statistic (eq. 7), with the constrained estimate of the lost share (eq. 8)."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    share_lost = (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    spread = n * (2 * share_lost + delta * (1 - delta))
    distance = gained - lost - n * delta
    if spread <= 0:
        return 0.0 if distance == 0 else (inf if distance > 0 else -inf)
    return distance / sqrt(spread)


def _root(gained: int, lost: int, n: int, z: float, low: float, high: float) -> float:
    return float(brentq(lambda delta: _tango(gained, lost, n, delta) - z, low, high, xtol=1e-12))
