"""Which stored test speaks for a claim, and whether it may.

Claims and outcomes are joined here: by variant, by settings, by what the claim requires, and by the
provenance checks that the record carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from reports.claims import Claim, needed_variants
from reports.decisions.points import DIVERGED, of_jobs, of_requests, sizes
from reports.records import Record

__all__ = [
    "Found",
    "Stored",
    "by_job",
    "by_request",
    "failed_checks",
    "find",
    "is_asked",
    "meets",
    "never_differ",
    "unmet",
]

WITHOUT, TRAINED = "without", "weights:trained"
"""The setting that names metrics which are not measured of random weights; what such a claim needs."""
EQUAL_SETTINGS = ("workload", "budget_gb", "buffer_gb", "link_gb_s")
NEEDED_SETTINGS = (*EQUAL_SETTINGS, "device", "weights")
"""Settings that a claim may require; where the treatment ran, its own count, and not another test's. A device
is named in part, as models are."""
CPU, ANY_GPU = "cpu", "device:cuda"
"""What a record calls a processor; what any other device offers beside its name."""


class Stored(NamedTuple):
    """A finished test: how it went, and what it left behind."""

    nodeid: str
    state: str
    """"passed", "failed", "skipped", or anything else for a test that never ended."""
    why: str
    params: Mapping[str, Any]
    record: Record | None


class Found(NamedTuple):
    """The record that speaks for a variant, or the verdict that its absence makes."""

    record: Record | None
    verdict: str = ""
    reason: str = ""


def unmet(claim: Claim, stored: Sequence[Stored], offers: Sequence[str] = ()) -> list[str]:
    """What the claim requires and the run does not have, in the claim's words.

    Of a kind that nothing in the run speaks of (its only records would have, and their tests broke) a need
    counts as met, so that a broken run shows as an error and not as out of scope.
    """
    have = set(offers)
    records = [s.record for s in stored if s.record is not None]
    for record in records:
        have |= {f"profile:{record.profile}", f"backend:{record.backend}"}
        have |= {f"{role}:{label}" for role, label in record.models.items()}
    for record in [r for r in records if r.variant == claim.treatment] or records:
        have |= {f"{key}:{record.settings[key]}" for key in NEEDED_SETTINGS if key in record.settings}
        have |= {ANY_GPU} if record.settings.get("device", CPU) != CPU else set()
    have |= {f"evidence:{r.evidence}" for r in records if r.variant == claim.treatment}
    broke = any(s.state == "failed" and s.params.get("variant") == claim.treatment for s in stored)
    kinds = {offer.partition(":")[0] for offer in have}
    return _trained(claim, records) + [
        need
        for need in claim.requires
        if not any(meets(offer, need) for offer in have)
        and not (broke and need.partition(":")[0] not in kinds)
    ]


def _trained(claim: Claim, records: Sequence[Record]) -> list[str]:
    """The need of trained weights, where random ones stood in for them and the metric hangs on answers.

    On any side of what is compared: a rival without trained weights is beaten by anything.
    """
    asked = {*claim.metrics, claim.of, claim.per, *(axis.partition(":")[2] for axis in claim.axes)}
    sides = needed_variants(claim)
    hidden = [set(r.settings.get(WITHOUT) or ()) for r in records if r.variant in sides]
    return [TRAINED] if any(asked & names for names in hidden) else []


def find(
    claim: Claim, stored: Sequence[Stored], *, variant: str | None = None, against: bool = False
) -> Found:
    """The one record of a variant (the claim's treatment unless named) that fits the claim.

    It holds the tasks that the claim speaks of. `against` looks for the other side of a comparison.
    """
    settings, backends, name = _wanted(claim, against)
    name = variant or name
    fitting = [s for s in stored if _fits(s, name, settings, backends)]
    if not fitting:
        where = ", ".join(f"{k} = {v}" for k, v in settings.items())
        return Found(None, "missing", f"no test ran variant {name!r}" + (f" with {where}" if where else ""))
    if len(fitting) > 1:
        ids = ", ".join(s.nodeid for s in fitting)
        return Found(
            None,
            "missing",
            f"{len(fitting)} tests run variant {name!r}: {ids}; leave out all but one with --deselect ID, or "
            "give the claim settings that only one of them has",
        )
    found = _usable(fitting[0])
    if found.record is None or claim.only is None or claim.over == "sweep":
        return found
    some = [task for task in found.record.tasks if task.id.startswith(claim.only)]
    return Found(replace(found.record, tasks=some))


def by_job(stored: Sequence[Stored]) -> list[Stored]:
    """The same tests, with whole jobs in the place of their tasks."""
    return [s if s.record is None else s._replace(record=of_jobs(s.record)) for s in stored]


def is_asked(claim: Claim, record: Record) -> bool:
    """Whether a record's evidence is of the kind that the claim asks for: measured, if of none."""
    if record.evidence == "measured":
        return True
    return f"evidence:{record.evidence}" in claim.requires or (
        record.evidence == "simulated" and "profile:replay" in claim.requires
    )


def by_request(stored: Sequence[Stored], *, by_round: bool = False) -> list[Stored]:
    """The same tests, with single requests in the place of their tasks: "reflect-3-0", agent 3 in round 0.

    So records that were not measured in pairs are compared agent by agent. Requests of one round share a
    server: their spread is that within a run, and says nothing of the next one. Where a round is a trace of
    its own, drawn by the `seed` that its points tell, or with `by_round`, the round is the unit, and is
    called by its seed where every round has one. Merged sessions of what stays up are the units themselves.
    """
    return [s if s.record is None else s._replace(record=of_requests(s.record, by_round)) for s in stored]


def failed_checks(claim: Claim, record: Record) -> list[str]:
    """The claim's provenance checks that failed or were never made, each with what was seen."""
    out = []
    for name in claim.provenance:
        seen = [check for check in record.checks if check.name == name]
        out += [f"{name}: {check.observed}" for check in seen if not check.ok]
        if not seen:
            out.append(f"{name}: was not checked")
    return out


def never_differ(record: Record, other: Record | None = None) -> bool:
    """Whether the same model answered every task on both sides, so that routing made no difference at all.

    `other` is another record's treatment, told apart by the sizes of the models; without it the record's own
    control is meant. False where the records do not say.
    """
    if other is None:
        told = [diverged for task in record.tasks if (diverged := task.treatment.get(DIVERGED)) is not None]
        return bool(told) and not any(told)
    theirs = {task.id: sizes(task.treatment) for task in other.tasks}
    both = [(sizes(task.treatment), theirs[task.id]) for task in record.tasks if task.id in theirs]
    return any(mine for mine, _ in both) and all(mine == others for mine, others in both)


def _usable(entry: Stored) -> Found:
    record = entry.record
    if entry.state == "skipped":
        return Found(None, "out of scope", entry.why or "the variant was skipped")
    if entry.state not in ("passed", "failed"):
        return Found(
            None, "missing", f"{entry.nodeid}: {entry.state or 'did not end'}; {entry.why}".rstrip("; ")
        )
    explained = record is not None and (record.failures or any(not check.ok for check in record.checks))
    if entry.state == "failed" and (record is None or not record.complete or not explained):
        return Found(None, "error", entry.why or f"{entry.nodeid} failed")
    if record is None:
        return Found(None, "missing", f"{entry.nodeid} left no measurement (are benchmarks disabled?)")
    if not record.complete:
        return Found(None, "missing", f"{entry.nodeid} was interrupted after {len(record.rounds)} rounds")
    return Found(record)


def _wanted(claim: Claim, against: bool) -> tuple[dict[str, Any], set[str], str]:
    """The settings, backends and variant that identify one side of the claim."""
    backends = {_plain(need.partition(":")[2]) for need in claim.requires if need.startswith("backend:")}
    settings, name = dict(claim.settings), claim.treatment
    if claim.against is None:
        return settings, backends, name
    kind, colon, value = claim.against.partition(":")
    if kind == "backend" and colon:
        return settings, ({_plain(value)} if against else backends - {_plain(value)}), name
    if not against:
        return settings, backends, name
    return ({**settings, kind: value} if colon else settings), backends, (name if colon else kind)


def _fits(entry: Stored, variant: str, settings: Mapping[str, Any], backends: set[str]) -> bool:
    record = entry.record
    if record is None:
        params = entry.params
        return params.get("variant") == variant and all(params.get(k, v) == v for k, v in settings.items())
    have = {**entry.params, **record.settings}
    return (
        record.variant == variant
        and all(k in have and have[k] == v for k, v in settings.items())
        and (not backends or _plain(record.backend) in backends)
    )


def meets(offer: str, need: str) -> bool:
    """Whether an offer meets a need: profiles and backends by name, a model when its label holds the name."""
    have_kind, _, have = offer.partition(":")
    kind, _, wanted = need.partition(":")
    if kind != have_kind:
        return False
    if kind in ("profile", "backend", "evidence", *EQUAL_SETTINGS):
        return _plain(have) == _plain(wanted)
    return _plain(wanted) in _plain(have)


def _plain(label: str) -> str:
    """A label in one spelling, so that "Mistral-7B-Instruct" and "mistral:7b-instruct" compare."""
    return label.lower().replace(":", "-").replace("_", "-")
