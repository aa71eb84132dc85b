"""Stored runs judged again: nothing is run, and everything that a verdict needs stands in the files.

Runs of different experiments stand side by side. Runs that share an experiment are sessions of one plan, and
are merged before they are judged; where their plans differ they are refused, and the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reports import gate, merging
from reports.claims import Claim
from reports.errors import ReportError
from reports.runs import Run
from reports.verdicts import Stored, Verdict, judge
from reports.words import BROKEN

__all__ = ["Side", "Units", "gated", "judged", "profile_of", "side_by_side"]

UNLOCKED = "–"
DEFAULT_PROFILE = "pocket"


class Side(NamedTuple):
    """The verdicts on what was measured under one profile, and the ids of all claims that there are."""

    profile: str
    verdicts: tuple[Verdict, ...]
    known: frozenset[str] | None = None
    """`None` where only the claims of the experiments at hand were read."""


class Units(NamedTuple):
    """Runs of which no two share an experiment, and why some runs are none."""

    runs: list[Run]
    errors: list[str]


def side_by_side(runs: Sequence[Run]) -> Units:
    """The runs, those that share an experiment merged."""
    groups: list[list[Run]] = []
    for run in runs:
        shared = [group for group in groups if any(_experiments(r) & _experiments(run) for r in group)]
        groups = [group for group in groups if group not in shared]
        groups.append([*(r for group in shared for r in group), run])
    found = Units([], [])
    for group in groups:
        try:
            found.runs.append(group[0] if len(group) == 1 else merging.merge_runs(group))
        except ReportError as exc:
            found.errors.append(str(exc))
    return found


def profile_of(run: Run) -> str:
    """The profile that a run was measured under: its plan's, else its records'."""
    plan = run.about.get("plan")
    settings = plan.get("settings") if isinstance(plan, Mapping) else None
    named = settings.get("profile") if isinstance(settings, Mapping) else None
    records = [record.profile for record in run.records]
    return str(named or (records[0] if records else DEFAULT_PROFILE))


def judged(run: Run, claims: Sequence[Claim], profile: str) -> list[Verdict]:
    """The verdicts on those claims whose experiment the run holds.

    Raises
    ------
    ClaimError: a claim's floor cannot be computed from its inputs.
    """
    stored: dict[str, list[Stored]] = {}
    for e in run.entries:
        stored.setdefault(e.experiment, []).append(
            Stored(nodeid=e.nodeid, state=e.outcome, why=e.why, params=e.params, record=e.record)
        )
    offers = [f"profile:{profile}"]
    return [judge(claim, stored[claim.experiment], offers) for claim in claims if claim.experiment in stored]


def gated(side: Side, lock: Path) -> list[gate.Ruling]:
    """What the gate makes of every verdict, and of every locked claim that is gone.

    Nothing is measured, so that what a rerun might settle is a warning. So is broken evidence for a claim
    that the lock does not hold: one that is newer than the stored result is no reason to fail.

    Raises
    ------
    ClaimError: there is no lock, it is malformed, or it expects nothing of the profile.
    """
    expected = gate.expected_of(lock, side.profile)
    found = gate.final(gate.gate(expected, side.verdicts))
    if side.known is not None:
        found |= gate.gone(expected, side.known)
    new = [v for v in side.verdicts if v.id not in expected and v.word in BROKEN]
    return [
        *found.values(),
        *(gate.Ruling(v.id, UNLOCKED, v.word, "warn", f"not in claims.lock; {v.reason}") for v in new),
    ]


def _experiments(run: Run) -> set[str]:
    return {entry.experiment for entry in run.entries}
