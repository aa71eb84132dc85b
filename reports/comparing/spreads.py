"""Intervals and p values of many changes at once, of which some have a declared part in their spread.

The half-width at a level is the root of the squares of two: Student's t on what was measured, and the normal
on what was declared. A sum of variances with Satterthwaite's degrees of freedom would not do: two rounds that
happen to agree leave a small spread, which a declared part of infinite freedom then vouches for, and far out
in the tails, where Holm's correction looks, that is wrong by orders of magnitude.

Source: Cochran, Biometrics 20 (1964) 191-195, who weighs the two quantiles by their shares of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from reports.stats import Mean

__all__ = ["halves", "p_values"]

SMALLEST = 1e-30
"""p values below it are told as it."""
STEPS = 50


def halves(means: Sequence[Mean], drifts: Sequence[float], level: float) -> list[float]:
    """The half-widths of the intervals at `level`, on the scale of the means."""
    if not means:
        return []
    return [float(v) for v in _half(*_arrays(means, drifts), np.full(len(means), (1 - level) / 2))]


def p_values(means: Sequence[Mean], drifts: Sequence[float]) -> list[float]:
    """Two-sided p values: the level at which each interval just reaches 0, by bisection of its logarithm."""
    if not means:
        return []
    se, df, drift = _arrays(means, drifts)
    size = np.asarray([abs(mean.value) for mean in means])
    out = 2 * student.sf(np.divide(size, se, out=np.full_like(se, np.inf), where=se > 0), df)
    some = drift > 0
    if some.any():
        out[some] = _solved(size[some], se[some], df[some], drift[some])
    return [float(v) for v in np.clip(out, SMALLEST, 1.0)]


def _solved(
    size: NDArray[np.float64], se: NDArray[np.float64], df: NDArray[np.float64], drift: NDArray[np.float64]
) -> NDArray[np.float64]:
    low, high = np.full_like(size, np.log(SMALLEST)), np.zeros_like(size)
    for _ in range(STEPS):
        middle = (low + high) / 2
        reaches = _half(se, df, drift, np.exp(middle) / 2) >= size
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    found: NDArray[np.float64] = np.exp(high)
    return found


def _half(
    se: NDArray[np.float64], df: NDArray[np.float64], drift: NDArray[np.float64], tail: NDArray[np.float64]
) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.hypot(student.isf(tail, df) * se, norm.isf(tail) * drift)
    return found


def _arrays(
    means: Sequence[Mean], drifts: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    se, df = np.asarray([mean.se for mean in means]), np.asarray([mean.df for mean in means])
    return se, df, np.asarray(drifts, dtype=float)
