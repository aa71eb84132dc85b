"""Who judges in a session: which claims are reported, what became of each, and what the lock says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reports import gate
from reports.claims import Claim
from reports.session import entries
from reports.words import BROKEN

if TYPE_CHECKING:
    from reports.verdicts import Verdict

__all__ = ["Judge"]


class Judge:
    """One session's; each claim is judged once, when it is first asked about."""

    def __init__(self, lock: Path, mode: str, profile: str, found: Mapping[str, dict[str, Any]]) -> None:
        """Read the lock where the mode needs it, so that a damaged one is named before hours are measured.

        Arguments: `mode`, of `--claims`; `found`, the journal's entries by their test, which grows.

        Raises
        ------
        ClaimError: the lock is malformed; for the gate, too, when it expects nothing of the profile.
        """
        self.rows: list[tuple[str, Claim]] = []
        """The claims that are reported, with their experiments."""
        self.known: set[str] | None = None
        """Every claim that there is; `None` when only a part of the suite was asked for."""
        self.rulings: dict[str, gate.Ruling] | None = None
        """What the gate makes of each, once it was asked."""
        self.expected = gate.expected_of(lock, profile) if mode == "gate" else {}
        if mode == "update":
            gate.read_lock(lock)
        self._lock = lock
        self._mode = mode
        self._profile = profile
        self._found = found
        self._verdicts: dict[str, Verdict] = {}

    def refuse_gone(self) -> None:
        """Raise UsageError when the gate expects something of a claim that is no more."""
        gone = sorted(self.expected.keys() - self.known) if self.known else []
        if gone:
            raise pytest.UsageError(
                f"--claims=gate: claims.lock expects of profile {self._profile} what no claim is called any "
                f"more: {', '.join(gone)}; restore them, or make the lock again with --claims=update"
            )

    def judge(self, experiment: str, claim: Claim) -> tuple[Verdict, str | None]:
        """The verdict on a claim, and why the gate fails it (`None` outside of gate mode)."""
        verdict = self._verdict(experiment, claim)
        if self._mode != "gate":
            return verdict, None
        if self.rulings is None:
            self.rulings = gate.final(self._rulings())
        ruling = self.rulings.get(claim.id)
        return verdict, ruling.why if ruling and ruling.outcome == "fail" else None

    def open_rulings(self) -> dict[str, gate.Ruling]:
        """The gate's rulings that another measurement may lift; empty outside of gate mode."""
        found = self._rulings() if self._mode == "gate" else {}
        return {name: ruling for name, ruling in found.items() if ruling.outcome == "rerun"}

    def forget(self) -> None:
        """Judge everything anew when it is asked about next, since more was measured."""
        self._verdicts.clear()
        self.rulings = None

    @property
    def has_judged(self) -> bool:
        """Whether there is any verdict."""
        return bool(self._verdicts)

    def unlocked(self) -> str | None:
        """What to say of claims that are in the run and not yet in the lock."""
        return gate.unlocked(self.expected, [self._verdict(*row) for row in self.rows], "--claims=update")

    def update(self, session: pytest.Session, warn: Callable[[str], None]) -> None:
        """Rewrite the lock, if the session came to its end."""
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if not ended or session.shouldstop or session.shouldfail:
            warn("claims.lock is left as it was, since the session did not come to its end")
            return
        out = [self._verdict(*row) for row in self.rows]
        broken = [f"{v.id} ({v.word})" for v in out if v.word in BROKEN]
        if broken:
            warn(f"not put into claims.lock: {', '.join(broken)}")
        few = [v.id for v in out if gate.settled(v).word != v.word]
        if few:
            warn(
                f"not put into claims.lock as confirmed: {len(few)} on what stays up for a session "
                f"({few[0]}, …); merge {gate.MIN_LAUNCHES} sessions (python -m reports merge), then: "
                "python -m reports verdicts DIR --update"
            )
        gate.write_lock(self._lock, self._profile, out, self.known)

    def _rulings(self) -> dict[str, gate.Ruling]:
        return gate.gate(self.expected, [self._verdict(*row) for row in self.rows])

    def _verdict(self, experiment: str, claim: Claim) -> Verdict:
        from reports import verdicts

        if claim.id not in self._verdicts:
            stored = [entries.stored_of(e) for e in self._found.values() if e["experiment"] == experiment]
            self._verdicts[claim.id] = verdicts.judge(claim, stored, [f"profile:{self._profile}"])
        return self._verdicts[claim.id]
