"""Failures of a record, and the claims that are about them."""

from __future__ import annotations

from collections.abc import Sequence

from reports.claims import Claim
from reports.intervals.estimates import lost_rounds
from reports.records import Record

__all__ = ["is_of_failures", "told"]

COMPLETED = "completed_share"
"""Of requests: the metric that counts failures itself."""


def is_of_failures(claim: Claim, records: Sequence[Record]) -> bool:
    """Whether the claim is that requests fail, and every round is there to count them in."""
    says_so = claim.form == "at_most" and claim.metrics == (COMPLETED,)
    return says_so and not any(map(lost_rounds, records))


def told(record: Record) -> str:
    """What failed in a record; empty when nothing did."""
    lost = lost_rounds(record)
    if not record.failures and not lost:
        return ""
    first = record.failures[0] if record.failures else None
    what = f"; first: {first.arm}, {first.where}: {first.error}" if first else ""
    return (
        f"{record.variant}: {len(record.failures)} failures, {lost} of {len(record.rounds)} rounds lost{what}"
    )
