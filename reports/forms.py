"""One rule per form: a claim and its records make an interval, a decision and a p value."""

from __future__ import annotations

from collections.abc import Sequence

from reports.claims import Claim
from reports.decision import Decision, decide
from reports.estimates import better_of, difference_of_gains, difference_of_tasks, measure, ratio_of_tasks
from reports.orders import decide_monotone, decide_order
from reports.records import Record
from reports.stats import LEVEL, Interval, Unsupported

__all__ = ["decided", "p_value"]

P_STEPS = 20
"""Halvings of the unit interval: p values are exact to a millionth."""


def p_value(claim: Claim, record: Record, others: Sequence[Record]) -> float | None:
    """The two-sided p value of the decision, by bisection; `None` for forms without a number."""
    if claim.form in ("order", "monotone", "exact"):
        return None
    low, high = 0.0, 1.0
    for _ in range(P_STEPS):
        level = (low + high) / 2
        if decided(claim, record, others, 1 - level)[1].verdict == "inconclusive":
            low = level
        else:
            high = level
    return high


def decided(
    claim: Claim, record: Record, others: Sequence[Record], level: float = LEVEL
) -> tuple[Interval | Unsupported, Decision]:
    """The interval and what it means; `others` are what the form compares with: rivals, or the other gain."""
    if claim.form == "order":
        return decide_order(claim, record, others)
    if claim.form == "monotone":
        return decide_monotone(claim, record)
    if claim.against is not None:
        compare = difference_of_tasks if claim.quantity == "difference" else difference_of_gains
        if claim.quantity == "ratio" and claim.over == "tasks":
            compare = ratio_of_tasks
        interval = compare(claim, record, others[0], level)
    else:
        interval = measure(claim, record, level)
    if isinstance(interval, Unsupported):
        return interval, Decision("inconclusive")
    return interval, decide(interval, claim, better_of(claim.metrics, record))
