"""One rule per form: a claim and its records make an interval, a decision and a p value."""

from __future__ import annotations

from collections.abc import Sequence

from reports.claims import Claim
from reports.decisions.decision import Decision, decide
from reports.decisions.evidence import never_differ
from reports.decisions.orders import decide_monotone, decide_order
from reports.intervals import tails
from reports.intervals.estimates import (
    better_of,
    difference_of_gains,
    difference_of_tasks,
    measure,
    ratio_of_tasks,
)
from reports.records import Record
from reports.stats import LEVEL, Interval, Unsupported

__all__ = ["decided", "p_value"]

P_STEPS = 20
"""Halvings of the unit interval: p values are exact to a millionth."""


def p_value(claim: Claim, record: Record, others: Sequence[Record]) -> float | None:
    """The two-sided p value of the decision, by bisection; `None` for what is exact.

    A curve that surely rises from end to end may run back at one step: what counts is what was decided.
    """
    if claim.form == "exact":
        return None
    verdict = decided(claim, record, others)[1].verdict
    low, high = 0.0, 1.0
    for _ in range(P_STEPS):
        level = (low + high) / 2
        found = decided(claim, record, others, 1 - level)[1].verdict
        if found != verdict if verdict != "inconclusive" else found == verdict:
            low = level
        else:
            high = level
    return high


def decided(
    claim: Claim, record: Record, others: Sequence[Record], level: float = LEVEL
) -> tuple[Interval | Unsupported, Decision]:
    """The interval and what it means; `others` are what the form compares with: rivals, or the other gain.

    A difference over tasks holds only between arms that differ: where the same model answered every
    task on both sides, equality says nothing of who chose it.
    """
    if claim.form == "order":
        return decide_order(claim, record, others, level)
    if claim.form == "monotone":
        return decide_monotone(claim, record, level)
    if tails.is_meant_by(claim):
        interval = tails.measure(claim, record, others, level)
    elif claim.against is not None:
        compare = difference_of_tasks if claim.quantity == "difference" else difference_of_gains
        if claim.quantity == "ratio" and claim.over == "tasks":
            compare = ratio_of_tasks
        interval = compare(claim, record, others[0], level)
    else:
        interval = measure(claim, record, level)
    if isinstance(interval, Unsupported):
        return interval, Decision("inconclusive")
    decision = decide(interval, claim, better_of(claim.metrics, record))
    if claim.quantity != "difference" or claim.over != "tasks" or decision.verdict == "refuted":
        return interval, decision
    if never_differ(record, others[0] if claim.against is not None else None):
        return interval, Decision("inconclusive", 0, "the arms never differ")
    return interval, decision
