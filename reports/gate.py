"""The gate: what `claims.lock` expects of each claim, and what it makes of a verdict that differs.

    ok      as expected, or better
    rerun   a held claim fell where another measurement may lift it: to inconclusive, to a trivial alternative
            that is not told apart any more, or to a refutation that chance explains. Once, then "warn"
    warn    a held claim can no longer be judged here, or would need more than another measurement
    fail    a held claim is refuted or loses to an alternative, the evidence broke, or the claim is gone

The family is the locked claims that held, each with the hypothesis that it still does: a refutation counts
below 5 % of Holm's p values, where a claim that holds has a p of 1. A form without a p value is exact, and
counts as it is.

A server that stays up for a session is one observation of its launch, however many rounds it answers. A claim
over its rounds or requests is settled from three launches on, which are three sessions merged; below that its
"confirmed" is to the lock and to the gate what it is to statistics, inconclusive (`settled`).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reports import journal
from reports.errors import ClaimError
from reports.words import BROKEN, HELD, WORDS, gate_outcome

if TYPE_CHECKING:
    from reports.verdicts import Verdict

__all__ = [
    "MIN_LAUNCHES",
    "Ruling",
    "Settled",
    "expected_of",
    "final",
    "gate",
    "gate_table",
    "gone",
    "read_lock",
    "settled",
    "unlocked",
    "write_lock",
]

FAMILY_LEVEL = 0.05
MIN_LAUNCHES = 3
"""Launches from which the t interval over launches covers what it says."""
MEASURED_AGAIN = ("rounds", "requests", "sweep")
"""What another measurement adds to. Tasks are graded greedily: once more is the same observation."""
MOST_ALIKE = 3
"""Claims with one ruling for one reason that are listed singly."""
MOST_NAMED = 3
"""Claims without a lock that are named."""
WIDTHS = (28, 14, 14, 6)
"""Of claim, locked, now and ruling; the reason has the rest."""
NARROW = (14, 12, 12, 6)
LONGEST_REASON = 150
LEAST_REASON = 20
"""Characters of a reason below which the claims' column gives way."""


class Ruling(NamedTuple):
    """What the gate makes of one claim: "ok", "rerun", "warn" or "fail", and why."""

    claim: str
    locked: str
    now: str
    outcome: str
    reason: str = ""

    @property
    def why(self) -> str:
        """The change, and the reason for it."""
        said = f"{self.locked} in claims.lock, {self.now} now"
        return f"{said} ({self.reason})" if self.reason else said


class Settled(NamedTuple):
    """A verdict's word as lock and gate take it, and why where it is not the verdict's own."""

    word: str
    reason: str


def settled(verdict: Verdict) -> Settled:
    """The word that a verdict settles: its own, unless it confirms on too few launches of what stays up.

    What is exact, a count or a share that never varied, is so for each launch.
    """
    launches = verdict.launches
    is_exact = verdict.form == "exact" or verdict.method.startswith("exact")
    is_of_launches = verdict.launch == "session" and verdict.over in ("rounds", "requests") and not is_exact
    if is_of_launches and verdict.word in HELD and launches is not None and launches < MIN_LAUNCHES:
        return Settled("inconclusive", f"{launches} of at least {MIN_LAUNCHES} launches: merge sessions")
    return Settled(verdict.word, verdict.reason)


def read_lock(path: Path) -> dict[str, dict[str, str]]:
    """profile → claim → expected verdict; empty when there is no lock.

    Raises
    ------
    ClaimError: the file cannot be read, or is no such map.
    """
    try:
        lock: dict[str, dict[str, str]] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ClaimError(f"{path}: no JSON ({exc}); remove it and run with --claims=update") from exc
    if not isinstance(lock, dict) or not all(
        isinstance(rows, dict) and all(isinstance(word, str) and word in WORDS for word in rows.values())
        for rows in lock.values()
    ):
        raise ClaimError(
            f"{path}: not a map of profile to claim to verdict; remove it and run with --claims=update"
        )
    return lock


def write_lock(
    path: Path, profile: str, verdicts: Sequence[Verdict], known: Collection[str] | None = None
) -> None:
    """Record the verdicts as those expected of this profile; broken evidence is nothing to expect.

    Nor is what too few launches confirm: such a claim keeps the word that merged sessions gave it.

    Arguments: `known`, every id that there is; others are dropped. `None` where only a part was run.

    Raises
    ------
    ClaimError: the lock that is there is malformed. OSError: it cannot be written.
    """
    lock = read_lock(path)
    rows = {id: word for id, word in lock.get(profile, {}).items() if known is None or id in known}
    for v in verdicts:
        word = settled(v).word
        if v.word not in BROKEN and not (word != v.word and rows.get(v.id) in HELD):
            rows[v.id] = word
    lock[profile] = rows
    journal.write_json(path, {name: dict(sorted(rows.items())) for name, rows in sorted(lock.items())})


def expected_of(path: Path, profile: str) -> dict[str, str]:
    """What the lock expects of a profile.

    Raises
    ------
    ClaimError: there is no lock, it is malformed, or it expects nothing of this profile.
    """
    expected = read_lock(path).get(profile)
    if not expected:
        raise ClaimError(
            f"gate: {path} expects nothing of profile {profile}; make it: "
            f"pytest bench/ --profile {profile} --claims=update"
        )
    return expected


def gate(expected: Mapping[str, str], verdicts: Sequence[Verdict]) -> dict[str, Ruling]:
    """What the gate makes of every locked claim that was judged, before anything is measured again."""
    from reports.verdicts import family_p

    locked = [v for v in verdicts if v.id in expected]
    family = [v for v in locked if expected[v.id] in HELD]
    p_values = family_p([replace(v, p=1.0) if v.p is not None and v.word in HELD else v for v in family])
    return {v.id: _ruling(expected[v.id], v, p_values) for v in locked}


def final(rulings: Mapping[str, Ruling]) -> dict[str, Ruling]:
    """The same after the one rerun, or where there is none: what is still open is a warning."""
    return {
        name: ruling._replace(outcome="warn") if ruling.outcome == "rerun" else ruling
        for name, ruling in rulings.items()
    }


def gone(expected: Mapping[str, str], known: Collection[str]) -> dict[str, Ruling]:
    """A ruling on every locked claim that no claim is called any more."""
    return {
        name: Ruling(name, word, "gone", "fail", "no claim is called so: restore it, or update the lock")
        for name, word in expected.items()
        if name not in known
    }


def unlocked(expected: Mapping[str, str], verdicts: Iterable[Verdict], remedy: str) -> str | None:
    """One sentence on the claims that were judged and are not locked, so that the gate does not watch them.

    Arguments: `remedy`, the option that adds them. Broken evidence, which it would not add, is left out.
    """
    names = [v.id for v in verdicts if v.id not in expected and v.word not in BROKEN]
    if not names:
        return None
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    listed = ", ".join(names[:MOST_NAMED]) + more
    what, them = ("1 claim is", "it") if len(names) == 1 else (f"{len(names)} claims are", "them")
    return f"{what} not in claims.lock: {listed}; {remedy} adds {them}"


def gate_table(rulings: Iterable[Ruling], width: int = 100) -> str:
    """What changed and why, in lines of at most `width`; one line where nothing did."""
    from reports.tabular.layout import GAP, Column, heading, row_of, rule

    rulings = list(rulings)
    changed = [r for r in rulings if r.outcome != "ok"]
    num_same = len(rulings) - len(changed)
    same = f"{num_same} claim{'' if num_same == 1 else 's'} as locked"
    if not changed:
        return same
    taken = WIDTHS if width - sum(WIDTHS) - GAP * len(WIDTHS) >= LEAST_REASON else NARROW
    rest = max(width - sum(taken) - GAP * len(taken), 1)
    titles = ("claim", "locked", "now", "ruling", "reason")
    columns = [Column(title=t, width=w) for t, w in zip(titles, (*taken, rest), strict=True)]
    order = ("fail", "rerun", "warn")
    rows = sorted(_alike(changed), key=lambda r: order.index(r.outcome))
    lines = [heading(columns), rule(columns)]
    for r in rows:
        reason = textwrap.shorten(r.reason, LONGEST_REASON, placeholder=" …")
        lines += row_of(columns, (r.claim, r.locked, r.now, r.outcome, reason))
    return "\n".join([*lines, same])


def _ruling(expected: str, verdict: Verdict, p_values: Mapping[str, float]) -> Ruling:
    now, reason = settled(verdict)
    ruling = Ruling(verdict.id, expected, now, gate_outcome(expected, now), reason)
    if expected not in HELD:
        return ruling
    if now == "refuted" and (p := p_values.get(verdict.id, 0.0)) >= FAMILY_LEVEL:
        chance = f"{reason}; p = {p:.2g} by Holm over {len(p_values)} locked claims"
        ruling = ruling._replace(outcome="rerun", reason=chance.removeprefix("; "))
    if now == "confirmed, but" and ruling.outcome == "fail" and _is_open(verdict):
        ruling = ruling._replace(outcome="rerun")
    if ruling.outcome == "rerun" and not _would_change(verdict):
        return ruling._replace(outcome="warn")
    return ruling


def _is_open(verdict: Verdict) -> bool:
    """Whether every alternative that is not beaten is merely not told apart: neither ahead nor broken."""
    unbeaten = [c for c in verdict.controls if not c["beaten"]]
    return all(c["interval"] is not None and c["interval"][0] <= 0 <= c["interval"][1] for c in unbeaten)


def _would_change(verdict: Verdict) -> bool:
    """Whether measuring once more in this session can change the verdict."""
    is_settled = settled(verdict).word == verdict.word
    return is_settled and verdict.over in MEASURED_AGAIN and verdict.evidence in (None, "measured")


def _alike(rulings: Sequence[Ruling]) -> list[Ruling]:
    """The rulings, those that many claims share as one."""
    groups: dict[tuple[str, ...], list[Ruling]] = {}
    for r in rulings:
        groups.setdefault(tuple(r[1:]), []).append(r)
    out: list[Ruling] = []
    for group in groups.values():
        many = len(group) > MOST_ALIKE
        more = f"{group[0].claim} and {len(group) - 1} more"
        out += [group[0]._replace(claim=more)] if many else group
    return out
