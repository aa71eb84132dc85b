"""The little statistics that the card needs: shares, paired differences, areas under a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Difference", "Interval", "auroc", "difference", "ratio_interval", "share_interval"]

_Z = 1.959964
"""Two-sided 95 % of the normal distribution."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A paired difference of two shares over the same tasks."""

    value: float
    interval: Interval
    p: float
    """Exact two-sided McNemar test of no difference."""


def share_interval(num_correct: int, num_tasks: int) -> Interval:
    """Wilson's score interval of a share."""
    share, z2 = num_correct / num_tasks, _Z * _Z
    middle = (share + z2 / (2 * num_tasks)) / (1 + z2 / num_tasks)
    spread = _Z / (1 + z2 / num_tasks) * math.sqrt(share * (1 - share) / num_tasks + z2 / (4 * num_tasks**2))
    return Interval(middle - spread, middle + spread)


def difference(treatment: Sequence[bool], control: Sequence[bool]) -> Difference:
    """Share of `treatment` minus share of `control`, task by task.

    The interval is Wald's after adding half a task to each of the four cells, which keeps its
    coverage when few or no answers differ (Agresti and Min, Statistics in Medicine 24, 2005).
    """
    num = len(treatment)
    both = sum(t and c for t, c in zip(treatment, control, strict=True))
    wins, losses = sum(treatment) - both, sum(control) - both
    up, down, total = wins + 0.5, losses + 0.5, num + 2
    middle = (up - down) / total
    spread = _Z * math.sqrt(up + down - (up - down) ** 2 / total) / total
    return Difference(
        (wins - losses) / num, Interval(middle - spread, middle + spread), _mcnemar(wins, losses)
    )


def ratio_interval(treatment: Sequence[float], control: Sequence[float]) -> tuple[float, Interval]:
    """Geometric mean of the pairs' ratios, with its normal 95 % interval on the log scale."""
    logs = [math.log(t / c) for t, c in zip(treatment, control, strict=True)]
    mean = sum(logs) / len(logs)
    error = math.sqrt(sum((value - mean) ** 2 for value in logs) / (len(logs) - 1) / len(logs))
    return math.exp(mean), Interval(math.exp(mean - _Z * error), math.exp(mean + _Z * error))


def auroc(scores: Sequence[float], is_positive: Sequence[bool]) -> float | None:
    """Chance that a positive scores above a negative, ties half; None when one kind is absent."""
    positives = [score for score, label in zip(scores, is_positive, strict=True) if label]
    negatives = [score for score, label in zip(scores, is_positive, strict=True) if not label]
    if not positives or not negatives:
        return None
    wins: float = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def _mcnemar(wins: int, losses: int) -> float:
    num = wins + losses
    tail: float = sum(math.comb(num, k) for k in range(min(wins, losses) + 1)) / 2**num
    return min(1.0, 2 * tail)
