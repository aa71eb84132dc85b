"""Runs of few rounds, as a comparison reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.compare import Comparison
from reports.comparing.rows import Row
from reports.records import Record, Round
from reports.runs import Entry, Run
from tests.synthetic_runs import METRICS, record
from tests.synthetic_runs import verdict as stored_verdict

ABOUT = {"plan": {"machine": "vm, 2 CPUs", "settings": {"profile": "pocket", "rounds": None}, "code": "1"}}


def run_of(*records: Record, **changes: Any) -> Run:
    entries = tuple(
        Entry(nodeid=f"bench/t.py::t[{r.variant}]", outcome="passed", experiment=r.experiment, record=r)
        for r in records
    )
    return replace(Run(path=Path("run"), entries=entries, about=ABOUT), **changes)


def timed(
    treatment: list[float],
    control: list[float] | None = None,
    *,
    session: list[int] | None = None,
    **changes: Any,
) -> Record:
    """A record of rounds of seconds."""
    rounds = [
        Round(
            order="TC" if i % 2 else "CT",
            treatment={"total_s": value},
            control={"total_s": control[i]} if control else None,
            session=session[i] if session else None,
        )
        for i, value in enumerate(treatment)
    ]
    sessions = len(set(session)) if session else 1
    made = record("cascade", num_graded=0, rounds=rounds, control="baseline" if control else None)
    return replace(made, metrics={"total_s": METRICS["total_s"]}, sessions=sessions, **changes)


def row(found: Comparison, metric: str, name: str = "cascade", family: str = "metrics") -> Row:
    rows = [r for r in found.rows if r.metric == metric and name in r.name and r.family == family]
    assert len(rows) == 1, rows
    return rows[0]


def judged(word: str, estimate: float, half: float, **changes: Any) -> dict[str, Any]:
    """A verdict on `faster`, whose interval reaches `half` to either side."""
    ends = [estimate - half, estimate + half]
    told = {"estimate": estimate, "interval": ends, "n": 10, "method": "t on rounds", "quantity": "ratio"}
    return stored_verdict("faster", word, **{**told, "treatment": "cascade", "published": 2.0, **changes})
