"""What a claim counts as one observation, how many there are, and what more of them would do."""

from __future__ import annotations

from reports.claims import Claim
from reports.decisions.decision import MOST_MORE, Decision, shown
from reports.intervals import tails
from reports.intervals.launches import is_by_launch
from reports.intervals.units import unit_of
from reports.records import Record
from reports.stats import Interval

__all__ = ["count_of", "reason_of", "unit_of_claim"]


def reason_of(claim: Claim, decision: Decision, interval: Interval, unit: str) -> str:
    """What a decision says beyond its word; `unit` is what would be observed more of, in the singular."""
    more = f"≈{decision.more}" if decision.more < MOST_MORE else f"over {MOST_MORE}"
    if decision.verdict == "inconclusive" and decision.more:
        return "; ".join(part for part in (f"needs {more} more {unit}s", decision.note) if part)
    if decision.note or decision.verdict != "refuted" or claim.threshold is None:
        return decision.note
    low, high = shown(interval.low, claim), shown(interval.high, claim)
    measured = low if low == high else f"{low} to {high}"
    return f"measured {measured}, published {shown(claim.threshold, claim)}"


def unit_of_claim(claim: Claim, record: Record) -> str:
    """What is observed once: more of it would settle the claim."""
    if claim.over == "tasks":
        return unit_of(record)
    return "session" if is_by_launch(record) else "round"


def count_of(claim: Claim, record: Record) -> int:
    """How many of those there are."""
    if unit_of_claim(claim, record) == "session":
        return record.sessions
    if tails.is_meant_by(claim):
        return len(tails.rounds_of(record))
    return len(record.tasks) if claim.over == "tasks" else len(record.rounds)
