"""What a run says of each claim: one word, the number behind it, and the reason.

Decided in this order; the first that applies ends it.

    impossible      the claim lies beyond a bound of physics or arithmetic (`reports.physics`)
    out of scope    the run lacks what the claim needs, the variant was skipped, or the evidence is of another
                    kind, simulated or modelled
    missing         the variant did not run, or ran no whole measurement
    error           the variant broke, or rounds failed that the claim could have lost
    invalid         a provenance check failed or was never made
    confirmed       the whole interval lies on the claim's side (`reports.decisions.decision`)
    refuted         it lies on the other side
    inconclusive    neither: more rounds or tasks would settle it

A confirmed claim that does not also beat its trivial alternatives stays `confirmed` and lists them in
`not_against`; its `word` is then "confirmed, but", which letters, lock and gate treat as a word of its own.

A failed round counts. The rounds that survive a failure are a selection, so a record with a failure in either
arm can refute a claim or leave it inconclusive, and where it would confirm it the verdict is `error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from reports.claims import Claim
from reports.decisions import evidence
from reports.decisions.decision import region
from reports.decisions.evidence import Found, Stored
from reports.decisions.failing import is_of_failures, told
from reports.decisions.forms import decided, p_value
from reports.decisions.observed import count_of, reason_of, unit_of_claim
from reports.decisions.repeats import told_once
from reports.errors import RecordError
from reports.intervals import tails
from reports.intervals.estimates import advantage
from reports.intervals.launches import launch_of, launches_of
from reports.physics import Bound, bound
from reports.records import Record
from reports.stats import Unsupported, holm
from reports.words import BADNESS, LETTERS, WORDS, Word, gate_outcome

__all__ = [
    "BADNESS",
    "LETTERS",
    "WORDS",
    "Stored",
    "Verdict",
    "Word",
    "family_p",
    "gate_outcome",
    "judge",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict on one claim, with everything that a table or a page says about it."""

    id: str
    version: int
    experiment: str
    verdict: str
    reason: str = ""
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    published: float | tuple[float, float] | None = None
    n: int | None = None
    launches: int | None = None
    """Independent launches behind a claim over rounds or requests; `None` where that is unknown."""
    launch: str | None = None
    """"round" or "session": how often what is measured was launched."""
    method: str = ""
    p: float | None = None
    """The two-sided p value at which the interval just reaches the threshold, for Holm's correction."""
    more: int = 0
    """Further rounds or tasks that would settle an inconclusive claim."""
    not_against: tuple[str, ...] = ()
    """Trivial alternatives that a confirmed claim does not beat."""
    controls: tuple[dict[str, Any], ...] = ()
    """[{variant, advantage, interval, beaten, why}] of each alternative; above 0 the treatment is ahead."""
    form: str = ""
    metric: str = ""
    quantity: str = ""
    over: str = ""
    unit: str = ""
    treatment: str = ""
    control: str | None = None
    of: str | None = None
    """The metric that a share is a share of."""
    per: str | None = None
    """A task metric that the metric is divided by: cost per task solved."""
    axes: tuple[str, ...] = ()
    """Of an order, as "rounds:METRIC" or "tasks:METRIC"."""
    along: str | None = None
    """What a sweep's points are ordered by."""
    direction: str | None = None
    """Which way a sweep is claimed to run: "increasing" or "decreasing"."""
    quantile: float | None = None
    """The quantile that is meant, where it is not the mean."""
    only: str | None = None
    """How the ids of the tasks that count begin, where some do not."""
    against: str | None = None
    """The other side, where two variants are compared by their gains or by task."""
    source: str = ""
    says: str = ""
    scope: str | None = None
    threshold_from: str | None = None
    covers: tuple[str, ...] = ()
    margin: float | None = None
    physics: dict[str, Any] | None = None
    checks: tuple[dict[str, Any], ...] = ()
    failures: int = 0
    evidence: str | None = None
    backend: str | None = None
    profile: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The key of `WORDS`: "confirmed, but" where `not_against` names an alternative."""
        return "confirmed, but" if self.verdict == "confirmed" and self.not_against else self.verdict

    @property
    def sentence(self) -> str:
        """The verdict as the page says it: "confirmed, but not against all-small"."""
        return (
            f"confirmed, but not against {', '.join(self.not_against)}" if self.not_against else self.verdict
        )

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values, `word` and `sentence` included."""
        return {**asdict(self), "word": self.word, "sentence": self.sentence}


def judge(claim: Claim, stored: Sequence[Stored], offers: Sequence[str] = ()) -> Verdict:
    """The verdict on one claim.

    Arguments
    ---------
    stored: every finished test of the claim's experiment.
    offers: what the run has, as "kind:value" ("profile:node"), beyond what the records say themselves.

    Raises
    ------
    ClaimError: the claim's floor cannot be computed from its inputs.
    """
    limit = bound(claim.floor, claim.floor_inputs) if claim.floor else None
    blank = _blank(claim, limit)
    if limit is not None and claim.threshold is not None and not limit.allows(*region(claim)):
        return replace(blank, verdict="impossible", reason=f"{limit.arithmetic}; {limit.condition}")
    if claim.over == "jobs":
        stored, claim = evidence.by_job(stored), replace(claim, over="tasks")
    if claim.over == "requests":
        stored = evidence.by_request(stored, by_round=claim.quantile is not None)
        claim = replace(claim, over="tasks")
    unmet = evidence.unmet(claim, stored, offers)
    if unmet:
        return replace(blank, verdict="out of scope", reason=f"needs {', '.join(unmet)}")
    found = evidence.find(claim, stored)
    if found.record is None:
        return replace(blank, verdict=found.verdict, reason=found.reason)
    blank = _with_record(blank, claim, found.record)
    if bad := evidence.failed_checks(claim, found.record):
        return replace(blank, verdict="invalid", reason="; ".join(bad))
    try:
        return _measured(claim, found.record, stored, blank)
    except (KeyError, ValueError, RecordError) as exc:
        why = f"the record has no metric {exc}" if isinstance(exc, KeyError) else str(exc)
        return replace(blank, verdict="missing", reason=why)


def family_p(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Claim id → p value by Holm's correction over all verdicts that have one.

    A refutation in the gated family counts at 5 % of these: many claims make no false alarm likely.
    """
    found = [(v.id, v.p) for v in verdicts if v.p is not None]
    return dict(zip((name for name, _ in found), holm([p for _, p in found]), strict=True))


def _blank(claim: Claim, limit: Bound | None) -> Verdict:
    names = {f.name for f in fields(Verdict)} - {"settings"}  # a record's own, not what the claim asks for
    same = [f.name for f in fields(Claim) if f.name in names]
    return Verdict(
        **{key: getattr(claim, key) for key in same},
        verdict="missing",
        physics=limit.to_json() if limit else None,
    )


def _with_record(blank: Verdict, claim: Claim, record: Record) -> Verdict:
    checks = tuple(asdict(check) for check in record.checks if check.name in claim.provenance)
    return replace(
        blank,
        checks=checks,
        failures=len(record.failures),
        evidence=record.evidence,
        launch=record.launch,
        backend=record.backend,
        profile=record.profile,
        models=dict(record.models),
        settings=dict(record.settings),
    )


def _measured(claim: Claim, record: Record, stored: Sequence[Stored], blank: Verdict) -> Verdict:
    """The verdict by the numbers, then by the alternatives."""
    others = _compared(claim, stored)
    if isinstance(others, Found):
        return replace(blank, verdict=others.verdict, reason=others.reason)
    both = (record, *others)
    blank = replace(blank, launch=launch_of(both), launches=launches_of(blank.over, both))
    record, *others = both = tuple(told_once(claim, one) for one in both)
    interval, decision = decided(claim, record, others)
    if isinstance(interval, Unsupported):
        if failed := told(record):
            return replace(blank, verdict="error", reason=failed)
        more = max(0, (interval.needed or 0) - count_of(claim, record))
        return replace(blank, verdict="inconclusive", reason=interval.reason, more=more)
    filled = replace(
        blank,
        verdict=decision.verdict,
        estimate=interval.estimate,
        interval=(interval.low, interval.high),
        n=interval.n,
        method=interval.method,
        p=p_value(claim, record, others),
        more=decision.more,
        reason=reason_of(claim, decision, interval, unit_of_claim(claim, record)),
    )
    if unasked := next((r.evidence for r in both if not evidence.is_asked(claim, r)), ""):
        return replace(filled, verdict="out of scope", reason=f"needs measured evidence; this is {unasked}")
    held = decision.verdict == "confirmed"
    counts = held and not is_of_failures(claim, both)
    if counts and (failed := next(filter(None, map(told, both)), "")):
        return replace(filled, verdict="error", reason=failed)
    controls = tuple(_control(claim, record, stored, name) for name in claim.also_beats)
    unbeaten = [c for c in controls if held and not c["beaten"]]
    return replace(
        filled,
        controls=controls,
        not_against=tuple(c["variant"] for c in unbeaten),
        reason="; ".join(
            part for part in (filled.reason, *(f"{c['variant']}: {c['why']}" for c in unbeaten)) if part
        ),
    )


def _compared(claim: Claim, stored: Sequence[Stored]) -> list[Record] | Found:
    """The records that the form compares with; `Found` where one is not there or did not run as named."""
    found = {
        name: evidence.find(claim, stored, variant=name) for name in claim.among if name != claim.treatment
    }
    if claim.against is not None:
        found[claim.against] = evidence.find(claim, stored, against=True)
    for name, other in found.items():
        if other.record is None:
            return other
        if bad := evidence.failed_checks(claim, other.record):
            return Found(None, "invalid", f"{name}: {'; '.join(bad)}")
    return [other.record for other in found.values() if other.record is not None]


def _control(claim: Claim, record: Record, stored: Sequence[Stored], name: str) -> dict[str, Any]:
    """Whether the treatment beats one trivial alternative."""
    out: dict[str, Any] = {"variant": name, "advantage": None, "interval": None, "beaten": False}
    other = evidence.find(claim, stored, variant=name)
    if other.record is None:
        return {**out, "why": other.reason or other.verdict}
    if bad := evidence.failed_checks(claim, other.record):
        return {**out, "why": "; ".join(bad)}
    ahead = tails.advantage if tails.is_meant_by(claim) else advantage
    found = ahead(claim, told_once(claim, record), told_once(claim, other.record))
    if isinstance(found, Unsupported):
        return {**out, "why": found.reason}
    beaten = found.low > 0 and not told(other.record)
    why = "it is better" if found.high < 0 else "no difference is settled"
    why = "" if beaten else told(other.record) or why
    return {
        **out,
        "advantage": found.estimate,
        "interval": [found.low, found.high],
        "beaten": beaten,
        "why": why,
    }
