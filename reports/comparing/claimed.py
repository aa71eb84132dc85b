"""Claims of two runs: the word and the number before and after, and whether the number moved.

The difference of two numbers comes from their stored intervals, by Welch: of the logs of ratios, and of the
numbers themselves for the rest (reductions by the delta method). A claim's good side is the side on which
it holds: more for `at_least`, less for `at_most`. Forms that have no interval of t behind them (`exact`,
`order`, `monotone`) are compared by their words, as the gate does, and so is a claim that has no number in
either run, or whose evidence broke.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import hypot, log, sqrt
from statistics import fmean
from typing import Any

from reports.comparing.changes import (
    ABSOLUTE,
    EXACT,
    RELATIVE,
    REPEATS,
    SESSIONS,
    Moved,
    of_interval,
    shifted,
)
from reports.comparing.kinds import TIME, kind_of
from reports.comparing.rows import Row, row_of
from reports.records import Record
from reports.runs import Run
from reports.stats import Interval, Mean, Unsupported
from reports.words import BROKEN, gate_outcome

__all__ = ["claim_rows"]

Verdict = Mapping[str, Any]

BY_WORD = ("exact", "order", "monotone")
UPWARD = ("at_least", "between")
NO_NUMBER = ("impossible", "out of scope", *BROKEN)
"""Words whose claims have no number, or one that nothing may be made of."""


def claim_rows(before: Run, after: Run, margin: float, drift: float, *, has_equal_clocks: bool) -> list[Row]:
    """A row for each claim that either run judged, without interval and word where there is none."""
    old, new = ({v["id"]: v for v in run.verdicts} for run in (before, after))
    rows = [
        _row(old[name], new[name], (before, after), margin, drift, has_equal_clocks)
        for name in old
        if name in new
    ]
    return rows + list(
        _alone(old, new, {e.experiment for e in before.entries} & {e.experiment for e in after.entries})
    )


def _row(
    old: Verdict, new: Verdict, runs: tuple[Run, Run], margin: float, drift: float, has_equal_clocks: bool
) -> Row:
    words = _word(old), _word(new)
    records = [_record_of(v, run) for v, run in zip((old, new), runs, strict=True)]
    about = _about(new, words, records[1])
    if old.get("version") != new.get("version"):
        why = f"the claim was changed, version {old.get('version')} → {new.get('version')}"
        return _without(old, new, about, why)
    if {*words} & {*NO_NUMBER}:
        return _by_word(old, new, about)
    if _is_same(old, new):
        return _named(_without(old, new, about, ""), "equal", "")
    if new.get("form") in BY_WORD:
        return _by_word(old, new, about)
    if not has_equal_clocks and _is_timed(new, records):
        return _without(old, new, about, "the machine, profile or lanes differ")
    moved = _moved(old, new, records, drift)
    return row_of(moved, margin, **about)


def _moved(old: Verdict, new: Verdict, records: list[Record | None], drift: float) -> Moved:
    """How the claim's number moved: ratios by their logs, reductions and all others as they are."""
    scale = RELATIVE if new.get("quantity") == "ratio" else ABSOLUTE
    n = min(v.get("n") or 0 for v in (old, new))
    first, second = (_mean(v) for v in (old, new))
    if isinstance(first, Unsupported):
        return Moved(old.get("estimate"), new.get("estimate"), first, scale, "", n)
    if isinstance(second, Unsupported):
        return Moved(old.get("estimate"), new.get("estimate"), second, scale, "", n)
    change = shifted(first, second)
    se = _declared(new, records, drift) * _level(old, new)
    if change.se or se:
        how = "by their intervals, Welch"
        return Moved(old["estimate"], new["estimate"], change, scale, how, n, se)
    if n < REPEATS and change.value and "simulated" not in (old.get("evidence"), new.get("evidence")):
        few = Unsupported(f"differs, and {n} of {REPEATS} observations say whether it repeats", REPEATS)
        return Moved(old["estimate"], new["estimate"], few, scale, "", n)
    return Moved(old["estimate"], new["estimate"], change, scale, EXACT, n)


def _mean(verdict: Verdict) -> Mean | Unsupported:
    """A claim's number and its standard error; a reduction's by the delta method from the log of the rest."""
    found = _interval(verdict)
    if isinstance(found, Unsupported):
        return found
    if verdict.get("quantity") == "ratio":
        return of_interval(found, _log)
    if verdict.get("quantity") == "reduction" and verdict.get("against") is None:
        left = of_interval(found, lambda reduction: _log(1 - reduction))
        if isinstance(left, Unsupported):
            return left
        return left._replace(value=found.estimate, se=left.se * (1 - found.estimate))
    return of_interval(found)


def _level(old: Verdict, new: Verdict) -> float:
    """What a relative drift is a share of, on the scale on which the number is compared."""
    ends = (old["estimate"], new["estimate"])
    match new.get("quantity"):
        case "ratio":
            return 1.0
        case "reduction":
            return 1 - fmean(ends)
        case _:
            return hypot(*ends) / sqrt(2)


def _declared(verdict: Verdict, records: list[Record | None], drift: float) -> float:
    """The drift of sessions in a number that has no control beside it, or whose server stays up.

    Tasks are graded in one arm after the other, so that the control is not beside them.
    """
    known = [r for r in records if r is not None]
    is_own = verdict.get("quantity") == "value" or verdict.get("over") in ("tasks", "jobs")
    stays_up = any(r.launch == "session" for r in known)
    if not known or not (is_own or stays_up) or not _is_timed(verdict, records):
        return 0.0
    if all(r.sessions >= SESSIONS and r.launch == "session" for r in known):
        return 0.0  # the session is the unit of the claim's own interval
    return drift * sqrt(sum(1 / r.sessions for r in known))


def _is_same(old: Verdict, new: Verdict) -> bool:
    return old.get("estimate") is not None and all(
        old.get(key) == new.get(key) for key in ("estimate", "interval", "n")
    )


def _is_timed(verdict: Verdict, records: list[Record | None]) -> bool:
    known = next((r for r in records if r is not None), None)
    names = str(verdict.get("metric")).split("+")
    return known is not None and any(kind_of(known.metrics[m]) == TIME for m in names if m in known.metrics)


def _record_of(verdict: Verdict, run: Run) -> Record | None:
    return next(
        (
            r
            for r in run.records
            if (r.experiment, r.variant) == (verdict.get("experiment"), verdict.get("treatment"))
        ),
        None,
    )


def _by_word(old: Verdict, new: Verdict, about: dict[str, Any]) -> Row:
    row = _without(old, new, about, new.get("reason") or "")
    before, after = _word(old), _word(new)
    if before == after:
        is_same = old.get("estimate") == new.get("estimate")
        known = old.get("estimate") is not None and after not in NO_NUMBER
        word = "not compared" if not known else "equal" if is_same else "changed"
        return _named(row, word, row.why if not known else "")
    if gate_outcome(before, after) == "fail":
        return _named(row, "regressed", row.why)
    if gate_outcome(after, before) == "fail":
        return _named(row, "improved", row.why)
    return _named(row, "inconclusive" if "inconclusive" in (before, after) else "changed", row.why)


def _alone(old: Mapping[str, Verdict], new: Mapping[str, Verdict], shared: set[str]) -> Iterator[Row]:
    """Claims that one run judged and the other did not, though it ran their experiment, too."""
    for name in old:
        if name not in new and old[name].get("experiment") in shared:
            words = (_word(old[name]), "–")
            yield _without(old[name], {}, _about(old[name], words), "only the first run judged it")
    for name in new:
        if name not in old and new[name].get("experiment") in shared:
            words = ("–", _word(new[name]))
            yield _without({}, new[name], _about(new[name], words), "only the second run judged it")


def _without(old: Verdict, new: Verdict, about: dict[str, Any], why: str) -> Row:
    return Row(
        **about,
        before=old.get("estimate"),
        after=new.get("estimate"),
        scale=ABSOLUTE,
        n=new.get("n") or 0,
        word="not compared",
        why=why,
    )


def _named(row: Row, word: str, why: str) -> Row:
    return replace(row, word=word, why=why)


def _better(verdict: Verdict, record: Record | None) -> str | None:
    """The side on which a claim holds, as `reports.decisions.decision.region` has it; `None` for neither."""
    form, quantity = verdict.get("form"), verdict.get("quantity")
    if form != "no_worse_than":
        return "higher" if form in UPWARD else "lower" if form == "at_most" else None
    if quantity == "ratio":
        return "higher"
    names = str(verdict.get("metric")).split("+")
    known = record.metrics if record is not None else {}
    ways = {known[name].better if name in known else None for name in names}
    if len(ways) != 1 or None in ways:
        return None
    return "higher" if (ways == {"lower"}) == (quantity == "reduction") else "lower"


def _about(verdict: Verdict, words: tuple[str, str], record: Record | None = None) -> dict[str, Any]:
    units = {"ratio": "×", "reduction": "share", "difference": "share"}
    unit = verdict.get("unit") or units.get(str(verdict.get("quantity")), "")
    unit = "" if verdict.get("form") == "order" else unit
    return {
        "family": "claims",
        "experiment": str(verdict.get("experiment", "")),
        "name": str(verdict["id"]),
        "metric": str(verdict.get("metric", "")),
        "over": str(verdict.get("over", "")),
        "unit": unit,
        "better": _better(verdict, record),
        "words": words,
    }


def _interval(verdict: Verdict) -> Interval | Unsupported:
    ends = verdict.get("interval")
    if verdict.get("estimate") is None or not ends or None in ends:
        return Unsupported("one of the runs has no interval")
    low, high = ends
    return Interval(verdict["estimate"], low, high, verdict.get("n") or 2, verdict.get("method") or "")


def _log(value: float) -> float:
    return log(value) if value > 0 else float("-inf")


def _word(verdict: Verdict) -> str:
    return str(verdict.get("word") or verdict["verdict"])
