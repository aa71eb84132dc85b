"""A run folder, read back whole: what was measured, what was decided, on which machine.

    journal.jsonl   one line per finished test; the last line of a test wins, a torn last line is dropped
    claims.json     {"claims": [verdict, ...]}; absent when the session ended before its verdicts
    run.json        machine, versions and settings; absent in a run that was cut short very early

Only the journal is required: everything else of a run can be made from it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports import journal
from reports.errors import JournalError, RecordError
from reports.records import Record

__all__ = ["CLAIMS", "JOURNAL", "RUN", "Entry", "Run"]

JOURNAL = journal.JOURNAL
CLAIMS = "claims.json"
RUN = journal.PLAN

REMEDY = "give the folder of a run, as `pytest bench/` leaves it under results/"

REJUDGE = "make it again: python -m reports verdicts RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One finished test, as the journal holds it."""

    nodeid: str
    outcome: str
    """pytest's word: "passed", "failed", "skipped" or "xfailed"."""
    why: str = ""
    experiment: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[float, ...] = ()
    """pytest-benchmark's own rounds, in seconds."""
    benchmark: Mapping[str, Any] | None = None
    record: Record | None = None
    """`None` when the test ended before it had measured anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run folder in memory."""

    path: Path
    entries: tuple[Entry, ...]
    verdicts: tuple[Mapping[str, Any], ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    """What `run.json` holds: machine, versions, settings."""
    is_torn: bool = False
    """The journal's last line was cut off: the run died while writing it."""

    @classmethod
    def read(cls, path: Path | str, *, judged: bool = True) -> Run:
        """Read the run folder at `path`, its verdicts only when `judged`.

        Raises
        ------
        JournalError: no such folder, or its journal is missing, empty or not a journal.
        RecordError: the journal holds a record that this version does not read.
        """
        path = Path(path)
        if not path.is_dir():
            raise JournalError(f"{path}: no such folder; {REMEDY}")
        if not (path / JOURNAL).is_file():
            raise JournalError(f"{path / JOURNAL}: no such file; {REMEDY}")
        lines, is_torn = journal.read(path)
        if not lines:
            raise JournalError(
                f"{path / JOURNAL}: no finished test in it; nothing can be rendered before one has finished"
            )
        entries = {line["nodeid"]: _entry(line, path / JOURNAL) for line in lines}
        return cls(
            path=path,
            entries=tuple(entries.values()),
            verdicts=tuple(_read_verdicts(path / CLAIMS)) if judged else (),
            about=_read_object(path / RUN, "restore it, or move it away to go without"),
            is_torn=is_torn,
        )

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all tests that measured something, in journal order."""
        return tuple(entry.record for entry in self.entries if entry.record is not None)

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments that have a record, in journal order."""
        return tuple(dict.fromkeys(record.experiment for record in self.records))


def _entry(data: Mapping[str, Any], path: Path) -> Entry:
    stored = (data.get("extra_info") or {}).get("assay")
    try:
        record = None if stored is None else Record.from_json(stored)
    except RecordError as exc:
        raise RecordError(f"{path}, {data['nodeid']}: {exc}; read a run with its own version") from exc
    return Entry(
        nodeid=data["nodeid"],
        outcome=data["outcome"],
        why=data.get("why") or "",
        experiment=data.get("experiment") or (record.experiment if record else ""),
        params=data.get("params") or {},
        data=tuple(data.get("data") or ()),
        benchmark=data.get("benchmark"),
        record=record,
    )


def _read_verdicts(path: Path) -> Iterator[Mapping[str, Any]]:
    for verdict in _read_object(path, REJUDGE).get("claims", []):
        if not isinstance(verdict, dict) or "id" not in verdict or "verdict" not in verdict:
            raise JournalError(f"{path}: a claim without id or verdict; {REJUDGE}")
        yield verdict


def _read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise JournalError(f"{path}: not JSON ({exc}); {remedy}") from exc
    if not isinstance(data, dict):
        raise JournalError(f"{path}: holds no JSON object; {remedy}")
    return data
