"""The chance that n observations decide, and the least n for which it is high enough.

What was estimated is taken for what is: the number itself, and its spread. Times, throughputs and scores:
the noncentral t. Shares: by the score test that makes their interval, with the variance at the threshold
under the hypothesis and the variance at the estimate under the truth. A number that lies within a range must
clear both its edges; the chance to miss either is counted in full.

Sources: Johnson and Welch, Biometrika 31 (1940) 362-389 (noncentral t). Wilson, JASA 22 (1927) 209-212 and
Tango, Statistics in Medicine 17 (1998) 891-908, eqs. 6-8 (the two score tests).
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, isfinite, sqrt
from typing import NamedTuple

from scipy.stats import nct, norm
from scipy.stats import t as student

from reports.stats import LEVEL

__all__ = ["MOST", "Paired", "Share", "Spread", "Timed", "decides", "least", "welch_power"]

MOST = 10_000
"""Observations beyond which something will never be decided."""
CERTAIN = 30.0
"""A noncentrality beyond which no chance is left to compute."""


class Timed(NamedTuple):
    """A mean of independent observations, decided by Student's t."""

    value: float
    sd: float
    lost: int = 1
    """Degrees of freedom that the means themselves take: 2 with the order as a covariate."""

    def clears(self, edge: float, n: int, level: float) -> float:
        """The chance that the interval of n observations lies wholly on the value's side of `edge`."""
        df = n - self.lost
        if df < 1:
            return 0.0
        if not self.sd:
            return float(self.value != edge)
        away = abs(self.value - edge) * sqrt(n) / self.sd
        return _beyond(float(student.ppf((1 + level) / 2, df)), df, away)


class Share(NamedTuple):
    """A share of tasks, decided by Wilson's interval."""

    value: float

    def clears(self, edge: float, n: int, level: float) -> float:
        """As `Timed.clears`."""
        return _score(self.value - edge, edge * (1 - edge), self.value * (1 - self.value), n, level)


class Paired(NamedTuple):
    """A difference of two shares over the same tasks, decided by Tango's interval."""

    gained: float
    """The share of tasks that only the treatment solved."""
    lost: float

    @property
    def value(self) -> float:
        """The difference."""
        return self.gained - self.lost

    def clears(self, edge: float, n: int, level: float) -> float:
        """As `Timed.clears`; the share lost under the hypothesis by Tango's eq. 8."""
        b = -self.gained - self.lost + (2 - self.gained + self.lost) * edge
        lost = (sqrt(max(0.0, b * b + 8 * self.lost * edge * (1 - edge))) - b) / 4
        at_edge = 2 * lost + edge * (1 - edge)
        return _score(self.value - edge, at_edge, self.gained + self.lost - self.value**2, n, level)


Spread = Timed | Share | Paired


def least(power: float, chance: Callable[[int], float], start: int = 2) -> int | None:
    """The least n from `start` on whose chance is at least `power`; `None` beyond `MOST`."""
    high = start
    while chance(high) < power:
        if high >= MOST:
            return None
        high = min(MOST, ceil(high * 1.5))
    low = start
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle + 1, high)
    return low


def decides(spread: Spread, region: tuple[float, float], n: int, level: float = LEVEL) -> float:
    """The chance that the interval of n observations lies wholly inside `region`, or wholly outside."""
    low, high = region
    edges = [edge for edge in region if isfinite(edge)]
    if low <= spread.value <= high:
        missed = sum(1 - spread.clears(edge, n, level) for edge in edges if edge != spread.value)
        on_edge = any(edge == spread.value for edge in edges) and not _is_sure(spread)
        return 0.0 if on_edge else max(0.0, 1 - missed)
    return spread.clears(low if spread.value < low else high, n, level)


def welch_power(change: float, sd: float, n: int, level: float, lost: int = 1) -> float:
    """The chance that Welch's t finds `change` between two means of n observations each.

    Arguments: `sd`, of one observation; `level`, the two-sided level of the test; `lost`, as in `Timed`.
    """
    df = 2 * (n - lost)
    if n - lost < 1:
        return 0.0
    if not sd:
        return 1.0
    return _beyond(float(student.ppf(1 - level / 2, df)), df, abs(change) / (sd * sqrt(2 / n)))


def _is_sure(spread: Spread) -> bool:
    return isinstance(spread, Timed) and not spread.sd


def _beyond(bound: float, df: float, away: float) -> float:
    if away > CERTAIN + bound:
        return 1.0
    chance = float(nct.sf(bound, df, away))
    return chance if isfinite(chance) else float(norm.sf(bound - away))


def _score(gap: float, at_edge: float, at_value: float, n: int, level: float) -> float:
    """The chance that a score test rejects its edge, at `gap` from it."""
    bound = float(norm.ppf((1 + level) / 2)) * sqrt(max(at_edge, 0.0))
    room = abs(gap) * sqrt(n) - bound
    if at_value <= 0:
        return float(room > 0)
    return float(norm.cdf(room / sqrt(at_value)))
