"""Quantiles of an arm's requests, as claims speak of them: from records to intervals.

A quantile over "requests" is that of all requests of an arm, whichever round they came in (`pooled`
has the interval). Two variants that were each measured beside the same control are compared by their gains
over it: of the rounds that all have, drawn together, so that what a trace asks for cancels. Of sessions
that were merged, of what stays up, each one's own quantile is an observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from reports.claims import Claim
from reports.intervals.estimates import better_of, own_value
from reports.intervals.launches import few, quantile_of_sessions, quantiles
from reports.intervals.pooled import Arm, pooled_log_ratio, pooled_quantile, scaled
from reports.intervals.units import SESSION, unit_of, units_of
from reports.records import Record
from reports.stats import LEVEL, Interval, Unsupported, as_difference, mean_of

__all__ = ["advantage", "is_meant_by", "measure", "rounds_of"]


def is_meant_by(claim: Claim) -> bool:
    """Whether the claim is of a quantile of requests, which stand in the place of a record's tasks by now."""
    return claim.quantile is not None and claim.over == "tasks"


def measure(
    claim: Claim, record: Record, others: Sequence[Record] = (), level: float = LEVEL
) -> Interval | Unsupported:
    """The claim's quantile, as a value, as a gain over the control, or as a gain against another's gain.

    Raises
    ------
    KeyError: the record defines no metric of that name. ValueError: a sum of metrics of opposite directions.
    """
    if claim.quantity == "value":
        better_of(claim.metrics, record)
        arm, share = _arm(claim, record, rounds_of(record)), claim.quantile or 0.5
        if unit_of(record) != SESSION:
            return pooled_quantile(arm, share, level)
        mean = quantile_of_sessions(arm.values, arm.rounds, share)
        return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)
    return scaled(_log_gain(claim, record, others[0] if claim.against else None, level))


def advantage(claim: Claim, treatment: Record, other: Record, level: float = LEVEL) -> Interval | Unsupported:
    """log of how many times better `treatment` is than `other`; above 0 is better.

    Where `other` is the control that the treatment was paired with, the treatment's own pairs say it all.
    """
    return _log_gain(claim, treatment, None if other.variant == treatment.control else other, level)


def rounds_of(record: Record) -> list[str]:
    """The rounds that have requests, by name."""
    return list(dict.fromkeys(units_of(record, [task.id for task in record.tasks])))


def _log_gain(claim: Claim, record: Record, other: Record | None, level: float) -> Interval | Unsupported:
    """log of how many times better the quantile is than the control's; against the other's where one is."""
    records = [record] if other is None else [record, other]
    has_controls = all(r.control is not None for r in records)
    if other is None and not has_controls:
        return Unsupported("there is no control to compare with")
    shared = sorted(set.intersection(*(set(rounds_of(r)) for r in records)))
    sides = ("treatment", "control") if has_controls else ("treatment",)
    arms = [_arm(claim, r, shared, side) for r in records for side in sides]
    if any(len(set(arm.rounds)) < len(shared) for arm in arms):
        return Unsupported("a round has requests in one arm only")
    turn = -1 if better_of(claim.metrics, record) == "lower" else 1
    signs = [turn * s for s in ((1, -1, -1, 1) if has_controls else (1, -1))[: len(arms)]]
    gain = _log_gain_of_sessions if SESSION in map(unit_of, records) else pooled_log_ratio
    return gain(arms, signs, claim.quantile or 0.5, level)


def _log_gain_of_sessions(
    arms: Sequence[Arm], signs: Sequence[int], share: float, level: float
) -> Interval | Unsupported:
    """As `pooled_log_ratio`, where the rounds of the arms are sessions: each gives one number."""
    found = [quantiles(arm.values, arm.rounds, share) for arm in arms]
    if gap := next((q for q in found if isinstance(q, Unsupported)), None):
        return gap
    known = [q for q in found if not isinstance(q, Unsupported)]
    if (least := min(v for q in known for v in q.values())) <= 0:
        return Unsupported(f"a quantile of {least:g} has no log ratio")
    gains = [sum(s * log(q[at]) for s, q in zip(signs, known, strict=True)) for at in known[0]]
    mean = few(len(gains)) or mean_of(gains, f"t on sessions' p{100 * share:g}")
    return mean if isinstance(mean, Unsupported) else as_difference(mean, level=level)


def _arm(claim: Claim, record: Record, rounds: Sequence[str], side: str = "treatment") -> Arm:
    """The requests of one arm that came in `rounds`, each with its round's place there."""
    places = {name: place for place, name in enumerate(rounds)}
    units = units_of(record, [task.id for task in record.tasks])
    found = [
        (value, places[unit])
        for task, unit in zip(record.tasks, units, strict=True)
        if unit in places and (value := own_value(claim, getattr(task, side))) is not None
    ]
    return Arm(tuple(value for value, _ in found), tuple(place for _, place in found))
