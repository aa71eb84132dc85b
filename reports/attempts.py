"""A test that was measured once more within its session: its lines in the journal as one entry.

A line says which `attempt` it is of, where that is not the first. A later line of the same attempt takes its
place (its teardown failed), one of the first attempt that of all (a resumed run measured anew).

What the first attempt found is never lost: a second one that was interrupted leaves no line, one that was
skipped says nothing, and one that failed takes the good outcome with it, since failures count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reports.errors import MergeError

__all__ = ["RECORD", "RERUN", "is_rerun", "joined", "with_rerun"]

RECORD = "assay"
"""The key of an entry's `extra_info` that holds its record."""
RERUN = 2
"""The number of the attempt that reruns the first."""

Line = dict[str, Any]


def is_rerun(line: Mapping[str, Any]) -> bool:
    """Whether an entry is, or holds, more than a first attempt."""
    return bool(line.get("attempt", 1) >= RERUN)


def joined(lines: Iterable[Line]) -> list[Line]:
    """One entry per test, in the order in which the tests first finished.

    Raises
    ------
    RecordError: a test was measured twice, and its record is none that this version reads.
    """
    tests: dict[str, list[Line]] = {}
    for line in lines:
        attempts = tests.setdefault(line["nodeid"], [])
        attempts[line.get("attempt", 1) - 1 :] = [line]
    return [attempts[0] if len(attempts) == 1 else with_rerun(*attempts[:2]) for attempts in tests.values()]


def with_rerun(first: Line, again: Line) -> Line:
    """The entry of a test that was measured twice: the rounds of both, or the first's where they cannot join.

    Raises
    ------
    RecordError: a record that this version does not read.
    """
    out = {**first, "attempt": RERUN}
    if again["outcome"] == "skipped":
        return out
    if again["outcome"] == "failed":
        out |= {"outcome": "failed", "why": again["why"]}
    times = [e["duration_s"] for e in (first, again) if e.get("duration_s") is not None]
    if times:
        out["duration_s"] = sum(times)
    try:
        record = _record(first, again)
    except MergeError as exc:
        return {**out, "why": out["why"] or f"its rerun is left out: {exc}"}
    if record is None:
        return out
    return {**out, "extra_info": {**first["extra_info"], RECORD: record}}


def _record(first: Line, again: Line) -> dict[str, Any] | None:
    """The record of both; `None` where either left none that is whole."""
    from reports.merging import merge_records
    from reports.records import Record

    stored = [(e.get("extra_info") or {}).get(RECORD) or {} for e in (first, again)]
    if not all(data.get("complete") for data in stored if isinstance(data, Mapping)):
        return None
    return merge_records([Record.from_json(data) for data in stored], launched_anew=False).to_json()
