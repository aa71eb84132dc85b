"""How many rounds, tasks, minutes and dollars each claim needs to be decided, from an earlier run.

The earlier estimate is taken for the truth and its spread for the spread, so that a plan is as good as its
run: six rounds know the spread itself to a third or so. A claim whose estimate lies on its threshold is never
decided by more rounds, and the plan says that, not a number with many digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, log, sqrt
from typing import Any

from reports.claims import Claim, load_all, needed_variants
from reports.comparing.changes import of_interval
from reports.decisions.decision import region
from reports.decisions.evidence import Stored, by_request
from reports.errors import ClaimError, JournalError
from reports.intervals.estimates import better_of, paired_tasks
from reports.intervals.pooled import MIN_ROUNDS
from reports.intervals.units import ROUND, unit_of
from reports.plans.expenses import Expense, expense_of
from reports.plans.powers import MOST, Paired, Share, Spread, Timed, decides, least
from reports.records import Record
from reports.runs import Entry, Run
from reports.stats import Interval, Mean, Unsupported

__all__ = ["Planned", "Total", "plan", "total_of"]

Verdict = Mapping[str, Any]

UNMEASURED = ("impossible", "out of scope", "missing", "error", "invalid")
BY_WORD = ("exact", "order", "monotone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One claim and what it needs."""

    claim: str
    experiment: str
    word: str
    """The verdict of the earlier run."""
    test: str | None
    unit: str
    """"rounds", "tasks", "jobs" or "requests"."""
    has: int | None
    """Observations that the earlier run made."""
    needs: int | None
    """The fewest that decide it at the power asked for; `None` where `why` says that no number does."""
    why: str = ""
    parts: tuple[tuple[str, Expense | None], ...] = ()
    """Each test that the claim's number comes from, and what `needs` takes there."""

    @property
    def expense(self) -> Expense | None:
        """What `needs` takes; `None` where of any test nobody noted what it took."""
        known = [expense for _, expense in self.parts if expense is not None]
        if not known or len(known) < len(self.parts):
            return None
        return Expense(sum(e.seconds for e in known), sum(e.usd for e in known))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        expense = self.expense._asdict() if self.expense else None
        names = ("claim", "experiment", "word", "test", "unit", "has", "needs", "why")
        return {name: getattr(self, name) for name in names} | {"expense": expense}


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What all that can be decided takes together: each test once, with the most that a claim asks of it."""

    tests: int
    unknown: int
    """Tests of which nobody noted what they took."""
    seconds: float
    usd: float


def plan(
    runs: Sequence[Run], power: float, experiments: Sequence[str] = (), claims: Sequence[str] = ()
) -> list[Planned]:
    """What every claim of some runs needs, or every claim of some experiments, or the named ones.

    Raises
    ------
    JournalError: a run holds no verdicts or no claims. ClaimError: no run has such an experiment or claim.
    """
    known = [(run, claim, verdict) for run in runs for claim, verdict in _claims_of(run)]
    _refuse_unknown(claims, {claim.id for _, claim, _ in known}, "claim")
    _refuse_unknown(experiments, {claim.experiment for _, claim, _ in known}, "experiment")
    return [
        _planned(run, claim, verdict, power)
        for run, claim, verdict in known
        if (not experiments or claim.experiment in experiments) and (not claims or claim.id in claims)
    ]


def total_of(planned: Sequence[Planned]) -> Total:
    """What the tests behind all claims that can be decided take."""
    tests: dict[str, list[Expense | None]] = {}
    for one in planned:
        for test, expense in one.parts:
            tests.setdefault(test, []).append(expense)
    known = {test: [e for e in found if e is not None] for test, found in tests.items()}
    return Total(
        tests=len(tests),
        unknown=sum(not found for found in known.values()),
        seconds=sum(max((e.seconds for e in found), default=0.0) for found in known.values()),
        usd=sum(max((e.usd for e in found), default=0.0) for found in known.values()),
    )


def _claims_of(run: Run) -> list[tuple[Claim, Verdict]]:
    folder = run.path / "claims"
    if not folder.is_dir() or not run.verdicts:
        raise JournalError(
            f"{run.path}: holds no {'verdicts' if folder.is_dir() else 'claims'} to plan from; "
            "make them: python -m reports verdicts RUN"
        )
    verdicts = {v["id"]: v for v in run.verdicts}
    return [(claim, verdicts[claim.id]) for claim in load_all(folder) if claim.id in verdicts]


def _refuse_unknown(wanted: Sequence[str], known: set[str], what: str) -> None:
    if gone := sorted(set(wanted) - known):
        import difflib

        close = difflib.get_close_matches(gone[0], known, n=3)
        some = ", ".join(close or sorted(known)[:8])
        raise ClaimError(f"plan: no {what} {gone[0]!r} in these runs; there are: {some}")


def _planned(run: Run, claim: Claim, verdict: Verdict, power: float) -> Planned:
    entry = next((e for e in run.entries if _is_of(e, claim, verdict)), None)
    word = str(verdict.get("word") or verdict["verdict"])
    record = entry.record if entry else None
    unit = _unit(claim, entry) if entry else claim.over
    blank = Planned(
        claim=claim.id,
        experiment=claim.experiment,
        word=word,
        test=entry.nodeid if entry else None,
        unit=unit,
        has=verdict.get("n"),
        needs=None,
    )
    if word in UNMEASURED or entry is None or record is None:
        return replace(blank, test=None, why=_shortly(str(verdict.get("reason") or word)))
    if claim.form in BY_WORD:
        return _as_it_was(blank, [entry, *_others(claim, verdict, run)], claim, word)
    spread = _spread(claim, verdict, record, run)
    if isinstance(spread, Unsupported):
        return replace(blank, why=f"no spread to plan from: {spread.reason}")
    return _sized(blank, [entry, *_others(claim, verdict, run)], claim, spread, power)


def _unit(claim: Claim, entry: Entry) -> str:
    """What is observed once, as the judge counts it."""
    record = entry.record
    if record is None or claim.over not in ("tasks", "requests"):
        return claim.over
    if claim.over == "tasks":
        return f"{unit_of(record)}s"
    stored = [Stored(entry.nodeid, entry.outcome, "", entry.params, record)]
    whole = by_request(stored, by_round=claim.quantile is not None)[0].record
    return "rounds" if whole is not None and unit_of(whole) == ROUND else "requests"


def _others(claim: Claim, verdict: Verdict, run: Run) -> list[Entry]:
    """The tests of other variants without which the claim has no number; those of its controls are not."""
    out = []
    for name in needed_variants(claim):
        if name != claim.treatment and name not in claim.also_beats:
            found = [e for e in run.entries if _is_of(e, replace(claim, treatment=name), verdict)]
            found += [e for e in run.entries if e.record and e.record.variant == name]
            out += [e for e in found if e.record and e.record.experiment == claim.experiment][:1]
    return out


def _sized(blank: Planned, entries: Sequence[Entry], claim: Claim, spread: Spread, power: float) -> Planned:
    record = entries[0].record
    assert record is not None  # a claim without one was sent away
    edges = region(claim, better_of(claim.metrics, record))
    low, high = sorted(_scaled(edge, claim) for edge in edges)
    over = blank.unit if claim.over == "requests" else claim.over
    fewest = MIN_ROUNDS if claim.quantile is not None else 2
    needs = least(power, lambda n: decides(spread, (low, high), n), max(fewest, claim.min_n or 0))
    if needs is None:
        is_on = min(abs(spread.value - edge) for edge in (low, high)) == 0
        lies = "lies on" if is_on else "lies too close to"
        return replace(blank, why=f"never: the estimate {lies} the threshold (over {MOST:,} {blank.unit})")
    return replace(blank, needs=needs, parts=_parts(entries, needs, over, blank.has))


def _parts(
    entries: Sequence[Entry], needs: int, over: str, has: int | None
) -> tuple[tuple[str, Expense | None], ...]:
    return tuple((entry.nodeid, expense_of(entry, needs, over, has)) for entry in entries)


def _as_it_was(blank: Planned, entries: Sequence[Entry], claim: Claim, word: str) -> Planned:
    """Forms without a number: as often as last time, if that decided."""
    if word == "inconclusive":
        return replace(blank, why=f"form {claim.form!r} has no spread to plan from; try twice as many")
    needs = blank.has
    parts = _parts(entries, needs, claim.over, needs) if needs else ()
    return replace(blank, needs=needs, why="as often as last time", parts=parts)


def _spread(claim: Claim, verdict: Verdict, record: Record, run: Run) -> Spread | Unsupported:
    """The claim's number and its spread, on the scale on which its interval is made."""
    ends, n, method = verdict.get("interval"), verdict.get("n"), str(verdict.get("method") or "")
    if not ends or None in ends or not n or verdict.get("estimate") is None:
        return Unsupported(str(verdict.get("reason") or "the run has no interval"))
    if "Wilson" in method and "alike" not in method:
        return Share(verdict["estimate"])
    if "Tango" in method:
        return _paired(claim, record, run)
    low, high = ends
    found = of_interval(Interval(verdict["estimate"], low, high, n, method), lambda v: _scaled(v, claim))
    if not isinstance(found, Mean):
        return found
    return Timed(found.value, found.se * sqrt(n), 2 if "AB BA" in method else 1)


def _paired(claim: Claim, record: Record, run: Run) -> Spread | Unsupported:
    """How many tasks one arm alone solved."""
    if claim.against is not None:
        other = next((r for r in run.records if r.variant == claim.against), None)
        pairs = paired_tasks(claim.metrics, record, other).pairs if other else []
    else:
        tasks = [t for t in record.tasks if t.id.startswith(claim.only or "")]
        pairs = replace(record, tasks=tasks).task_pairs(claim.metric)
    if not pairs:
        return Unsupported("the tasks of both arms are not in the record")
    n = len(pairs)
    return Paired(sum(t > c for t, c in pairs) / n, sum(t < c for t, c in pairs) / n)


def _scaled(value: float, claim: Claim) -> float:
    """A number of the claim on the scale of its interval: logs for ratios and what reductions leave."""
    if claim.quantity == "ratio":
        return log(value) if value > 0 else -inf
    if claim.quantity == "reduction" and claim.against is None:
        return -log(1 - value) if value < 1 else inf
    return value


def _is_of(entry: Entry, claim: Claim, verdict: Verdict) -> bool:
    record = entry.record
    if record is None or (record.experiment, record.variant) != (claim.experiment, claim.treatment):
        return False
    asked = verdict.get("settings") or claim.settings
    return all(record.settings.get(key) == value for key, value in asked.items() if key != "unit")


def _shortly(text: str, most: int = 90) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
