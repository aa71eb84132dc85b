"""The observations behind a claim, as they were measured: each round, task, job or request a dot or a pair.

pairs    a round's control and its treatment on one line, at most `MOST_PAIRS` of them
counts   tasks that are solved or not, in both arms: how often which
heap     anything else: every value a dot, equal ones stacked, the threshold a line where it is in the unit
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from reports.claims import Claim
from reports.decisions import evidence
from reports.decisions.evidence import Stored
from reports.intervals.estimates import own_value, paired_tasks
from reports.records import Record
from reports.runs import Run
from reports.tabular import cells

__all__ = ["Dots", "Shown"]

MOST_PAIRS = 16
WIDTH, MARGIN = 420.0, 12.0
ROW = 13.0
COLUMNS = 70
"""Places in which a heap stacks its dots."""
MOST_HIGH = 9
"""Dots of the highest stack; more are drawn closer."""

Pair = tuple[float, float]


class Mark(NamedTuple):
    """A dot, or a dot and its control."""

    x: float
    y: float
    other: float | None = None


class Shown(NamedTuple):
    """What the drawing wants."""

    kind: str
    title: str
    height: float
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    line: float | None
    counts: tuple[tuple[str, int], ...]
    axis: str


class Dots:
    """Finds the observations of a run's claims."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def _stored(self) -> dict[tuple[str, str, str], list[Stored]]:
        out: dict[tuple[str, str, str], list[Stored]] = {}
        for entry in self._run.entries:
            if (r := entry.record) is not None:
                one = Stored(entry.nodeid, entry.outcome, entry.why, entry.params, r)
                out.setdefault((r.experiment, r.variant, r.backend), []).append(one)
        return out

    def record_of(self, verdict: Mapping[str, Any], claim: Claim) -> Record | None:
        """The record behind the verdict, its jobs or requests as tasks where the claim wants them."""
        key = (str(verdict.get("experiment")), claim.treatment, str(verdict.get("backend")))
        found = [
            s for s in self._stored.get(key, ()) if s.record and s.record.settings == verdict.get("settings")
        ]
        return _as_asked(claim, found[-1:])

    def of(self, verdict: Mapping[str, Any], claim: Claim) -> Shown | None:
        """The observations of one claim; `None` where there is nothing to show."""
        record = self.record_of(verdict, claim)
        if record is None or verdict.get("n") is None or claim.form in ("monotone", "order"):
            return None
        if any(name not in record.metrics for name in claim.metrics):
            return None
        unit, over = record.metrics[claim.metrics[0]].unit, claim.over
        if claim.quantity == "value":
            arms = record.rounds if over == "rounds" else record.tasks
            values = [v for part in arms if (v := own_value(claim, part.treatment)) is not None]
            unit = "share" if claim.of else unit
            return _heap(values, unit, claim.threshold, over) if values else None
        other = self._other(verdict, claim)
        if claim.against and other is None and over != "rounds":
            return None
        pairs = _pairs(claim, record, other)
        if len(pairs) < 1:
            return None
        names = (claim.treatment, claim.against if other else record.control or "control")
        if {v for pair in pairs for v in pair} <= {0.0, 1.0}:
            return _counts(pairs, names, over)
        if len(pairs) <= MOST_PAIRS:
            shown = _lines(pairs, unit, names, over)
        else:
            shown = _heap([t - c for t, c in pairs], unit, None, over, what=f"{names[0]} − {names[1]}")
        aside = f"; not drawn: {claim.against}, beside a control of its own"
        return shown._replace(title=shown.title + aside) if claim.against and other is None else shown

    def _other(self, verdict: Mapping[str, Any], claim: Claim) -> Record | None:
        if not claim.against or ":" in claim.against or claim.over == "rounds":
            return None
        wanted = (str(verdict.get("experiment")), claim.against)
        found = [s for key, stored in self._stored.items() if key[:2] == wanted for s in stored]
        return _as_asked(claim, found) if len(found) == 1 else None


def _as_asked(claim: Claim, found: Sequence[Stored]) -> Record | None:
    if claim.over == "jobs":
        found = evidence.by_job(found)
    if claim.over == "requests":
        found = evidence.by_request(found)
    record = found[0].record if found else None
    if record is None or claim.only is None or claim.over == "sweep":
        return record
    return replace(record, tasks=[task for task in record.tasks if task.id.startswith(claim.only)])


def _pairs(claim: Claim, record: Record, other: Record | None) -> list[Pair]:
    if other is not None:
        return paired_tasks(claim.metrics, record, other).pairs
    parts: Sequence[Any] = record.rounds if claim.over == "rounds" else record.tasks
    both = [(own_value(claim, p.treatment), own_value(claim, p.control)) for p in parts]
    return [(t, c) for t, c in both if t is not None and c is not None]


def _lines(pairs: Sequence[Pair], unit: str, names: tuple[str, str | None], over: str) -> Shown:
    scale = cells.scale_of(unit, [v for pair in pairs for v in pair])
    low, high = _limits([v for pair in pairs for v in pair])
    marks = [Mark(_x(t, low, high), 8 + ROW * row, _x(c, low, high)) for row, (t, c) in enumerate(pairs)]
    what = f"{len(pairs)} {over}, first on top: {names[0]} (filled) beside {names[1]} (ring)"
    ticks = _ticks(low, high, scale)
    return Shown("pairs", what, 8 + ROW * len(pairs), tuple(marks), ticks, None, (), scale.unit)


def _counts(pairs: Sequence[Pair], names: tuple[str, str | None], over: str) -> Shown:
    found = Counter(pairs)
    rows = (
        ("both", found[(1.0, 1.0)]),
        (f"{names[0]} alone", found[(1.0, 0.0)]),
        (f"{names[1]} alone", found[(0.0, 1.0)]),
        ("neither", found[(0.0, 0.0)]),
    )
    return Shown("counts", f"{len(pairs)} {over}, paired", 0, (), (), None, rows, "")


def _heap(values: Sequence[float], unit: str, line: float | None, over: str, *, what: str = "") -> Shown:
    scale = cells.scale_of(unit, [*values, line])
    low, high = _limits([*values, *([] if line is None else [line])])
    places = Counter(round((v - low) / (high - low) * COLUMNS) for v in values)
    tallest = max(places.values())
    step = min(6.0, 6.0 * MOST_HIGH / tallest)
    most = max(1, round(6.0 * MOST_HIGH / max(step, 1.5)))
    height = 8 + step * min(tallest, most)
    marks = [
        Mark(round(MARGIN + (WIDTH - 2 * MARGIN) * place / COLUMNS, 1), round(height - 4 - step * i, 1))
        for place, number in sorted(places.items())
        for i in range(min(number, most))
    ]
    title = f"{len(values)} {over}{', ' if what else ''}{what}"
    title += "; the line is the threshold" if line is not None else ""
    at = None if line is None else _x(line, low, high)
    return Shown("heap", title, height, tuple(marks), _ticks(low, high, scale), at, (), scale.unit)


def _limits(values: Sequence[float]) -> Pair:
    low, high = min(values), max(values)
    room = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _x(value: float, low: float, high: float) -> float:
    return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low), 1)


def _ticks(low: float, high: float, scale: cells.Scale) -> tuple[tuple[float, str], ...]:
    """Two to five round places in the unit that is shown."""
    first, last = low * scale.factor, high * scale.factor
    rough = (last - first) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)
    return tuple((_x(i * step / scale.factor, low, high), _number(i * step, decimals)) for i in numbers)


def _number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "−").replace(",", "\u202f")
