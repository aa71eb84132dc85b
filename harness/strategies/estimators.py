"""What n samples of one task say about taking k of them, without drawing again.

All four are means over every way to take k of the n samples, in random order, and so unbiased for a fresh
draw of k. At k = 1 they are one number, the share of right samples.

    oracle@k = pass@k    some sample is right: the ceiling of every rule
    best@k               the one with the highest score is right; of equal scores, the first drawn
    majority@k           the answer given most often is right; of equally many, the first drawn
    gap@k                oracle@k - best@k: what the verifier does not see

Source of pass@k: Chen et al. 2021, arXiv 2107.03374, eq. 1: 1 - C(n - c, k) / C(n, k). The other two are
computed exactly in the same way, by counting (`tests/test_strategies_estimators.py` enumerates).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import comb
from typing import NamedTuple

from harness.errors import UsageError

__all__ = ["Sample", "best_at_k", "gap_at_k", "majority_at_k", "pass_at_k"]


class Sample(NamedTuple):
    """One graded answer."""

    is_right: bool
    score: float | None = None
    """The verifier's; one without a score is chosen only where none has one, and then is wrong by rule."""
    answer: Hashable | None = None
    """The answer in the form that votes are counted by; `None` has no vote."""


def pass_at_k(num: int, num_right: int, k: int) -> float:
    """Probability that k of `num` samples, of which `num_right` are right, hold a right one.

    Raises
    ------
    UsageError: k is below 1 or above the number of samples, or more are right than there are.
    """
    _check(num, k)
    if not 0 <= num_right <= num:
        raise UsageError(f"pass@k: {num_right} of {num} right; give a count between")
    return 1.0 - comb(num - num_right, k) / comb(num, k)


def best_at_k(samples: Sequence[Sample], k: int) -> float:
    """Probability that the highest score among k samples is a right one's.

    Raises
    ------
    UsageError: k is below 1 or above the number of samples.
    """
    _check(len(samples), k)
    below = sum(sample.score is None for sample in samples)
    value = 0.0
    for score in sorted({sample.score for sample in samples if sample.score is not None}):
        group = [sample for sample in samples if sample.score == score]
        ways = comb(below + len(group), k) - comb(below, k)
        value += ways * _share(group)
        below += len(group)
    return value / comb(len(samples), k)


def majority_at_k(samples: Sequence[Sample], k: int) -> float:
    """Probability that the answer most often given by k samples is a right one's.

    Where some samples of one answer are right and others wrong, the first of them drawn decides.

    Raises
    ------
    UsageError: k is below 1 or above the number of samples.
    """
    _check(len(samples), k)
    classes: dict[Hashable, list[Sample]] = {}
    silent = []
    for sample in samples:
        if sample.answer is None:
            silent.append(sample)
        else:
            classes.setdefault(sample.answer, []).append(sample)
    value = comb(len(silent), k) * _share(silent)  # nobody votes: the first drawn
    groups = list(classes.values())
    for most in range(1, k + 1):
        for place, group in enumerate(groups):
            if len(group) < most or not (share := _share(group)):
                continue
            others = [len(other) for number, other in enumerate(groups) if number != place]
            ways = _ways(others, len(silent), most, k - most)
            tied = sum(count / (number + 1) for number, count in enumerate(ways))
            value += comb(len(group), most) * share * tied
    return value / comb(len(samples), k)


def gap_at_k(samples: Sequence[Sample], k: int) -> float:
    """oracle@k less best@k: right answers that were drawn and not chosen."""
    num_right = sum(sample.is_right for sample in samples)
    return pass_at_k(len(samples), num_right, k) - best_at_k(samples, k)


def _ways(others: Sequence[int], num_silent: int, most: int, k: int) -> list[int]:
    """Ways to draw k more, from the other answers at most `most` each, by how many of them reach it.

    Arguments: `others`, samples of each other answer; `num_silent`, samples without one.
    """
    # table[t][j]: ways to have drawn j with t answers tied at `most`
    table = [[comb(num_silent, j) for j in range(k + 1)]]
    for size in others:
        grown = [[0] * (k + 1) for _ in range(len(table) + 1)]
        for tied, row in enumerate(table):
            for drawn, ways in enumerate(row):
                for more in range(min(size, most, k - drawn) + 1 if ways else 0):
                    grown[tied + (more == most)][drawn + more] += ways * comb(size, more)
        table = grown if any(grown[-1]) else grown[:-1]
    return [row[k] for row in table]


def _share(samples: Sequence[Sample]) -> float:
    return sum(sample.is_right for sample in samples) / len(samples) if samples else 0.0


def _check(num: int, k: int) -> None:
    if not 1 <= k <= num:
        raise UsageError(f"k is {k}, of {num} samples; give 1 to the number of samples")
