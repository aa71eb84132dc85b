"""The decision rule: an interval and a claim make a word.

Confirmed means that the whole interval lies on the claim's side, refuted that it lies on the other. What lies
between is inconclusive, with the number of further rounds or tasks that would settle it at the spread seen.
"""

from __future__ import annotations

from math import ceil, inf
from typing import NamedTuple

from reports.claims import Claim
from reports.stats import Interval
from reports.tabular.cells import SHARES

__all__ = ["MOST_MORE", "Decision", "decide", "region", "shown"]

MOST_MORE = 999
"""Further rounds or tasks beyond which their number is not told."""


class Decision(NamedTuple):
    """A word, the further observations that might settle it, and what else the numbers say."""

    verdict: str
    more: int = 0
    note: str = ""


def region(claim: Claim, better: str = "higher") -> tuple[float, float]:
    """The closed range of numbers in which `claim` holds; `better` is the direction of its metric.

    Raises
    ------
    ValueError: the claim's form compares with no number.
    """
    if claim.threshold is None:
        raise ValueError(f"claim {claim.id!r}: form {claim.form!r} has no published number")
    point, margin = claim.threshold, claim.margin or 0.0
    relative = claim.quantity in ("ratio", "value")
    low = point / (1 + margin) if relative else point - margin
    high = point * (1 + margin) if relative else point + margin
    match claim.form:
        case "at_least" | "between":
            return point, inf
        case "at_most":
            return -inf, point
        case "no_worse_than":
            return (low, inf) if _up_is_good(claim, better) else (-inf, high)
        case _:
            return low, high


def decide(interval: Interval, claim: Claim, better: str = "higher") -> Decision:
    """confirmed, refuted or inconclusive."""
    low, high = region(claim, better)
    if low <= interval.low and interval.high <= high:
        return _enough(interval, claim)
    if interval.high < low or interval.low > high or (claim.form == "exact" and claim.quantity == "value"):
        return Decision("refuted", 0, _shortfall(interval, claim))
    near = min(
        (edge for edge in (low, high) if interval.low <= edge <= interval.high),
        key=lambda edge: abs(edge - interval.estimate),
    )
    half, gap = (interval.high - interval.low) / 2, abs(interval.estimate - near)
    factor = (half / gap) ** 2 if gap > half / MOST_MORE else inf
    more = ceil(min(MOST_MORE, max(1.0, interval.n * (factor - 1))))
    return Decision("inconclusive", more)


def shown(value: float, claim: Claim) -> str:
    """A number of the claim as the page writes it: 1.32×, 29.6 %, −3.2 points, 0.85 s."""
    if claim.quantity == "ratio":
        return f"{value:.3g}×"
    if claim.quantity == "reduction" or claim.of is not None:
        return f"{100 * value:.1f} %".replace("-", "−")
    if claim.quantity == "difference" and claim.over in ("tasks", "jobs") and claim.unit in SHARES:
        return f"{100 * value:+.1f} points".replace("-", "−")
    return f"{value:.4g} {claim.unit}".rstrip()


def _up_is_good(claim: Claim, better: str) -> bool:
    if claim.quantity == "ratio":
        return True
    return (better == "lower") == (claim.quantity == "reduction")


def _enough(interval: Interval, claim: Claim) -> Decision:
    if claim.min_n is not None and interval.n < claim.min_n:
        return Decision("inconclusive", claim.min_n - interval.n, f"the claim asks for n ≥ {claim.min_n}")
    if isinstance(claim.published, tuple) and interval.low > claim.published[1]:
        return Decision("confirmed", 0, f"beyond the published {shown(claim.published[1], claim)}")
    return Decision("confirmed")


def _shortfall(interval: Interval, claim: Claim) -> str:
    """What a refuted claim still got right: the sign."""
    neutral = 1.0 if claim.quantity == "ratio" else 0.0
    if claim.quantity == "value" or claim.threshold is None:
        return ""
    upward = claim.form in ("at_least", "between") and interval.low > neutral
    downward = claim.form == "at_most" and interval.high < neutral
    if not upward and not downward:
        return ""
    return f"right direction, {shown(interval.estimate, claim)} of {shown(claim.threshold, claim)}"
