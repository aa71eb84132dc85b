"""A run folder, read back whole: what was measured, what was decided, on which machine.

    journal.jsonl   one line per finished test; the last line of a test wins, a torn last line is dropped
    claims.json     {"claims": [verdict, ...]}; absent when the session ended before its verdicts
    run.json        the plan, when and from which commit; absent in a run that was cut short very early

Only the journal is required: everything else of a run can be made from it again. A journal may be read by
itself, and a benchmark.json in its place (`reports.stored`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports import attempts, journal, stored
from reports.errors import JournalError, RecordError
from reports.places import Places, places_of
from reports.records import Record

__all__ = ["CLAIMS", "JOURNAL", "RUN", "Entry", "Run"]

JOURNAL = journal.JOURNAL
CLAIMS = "claims.json"
RUN = journal.PLAN

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
    duration_s: float | None = None
    """What the whole test took, on the wall's clock; `None` where nobody noted it."""
    where: Places = ()
    """The lane or node of each session that measured it."""


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
    source: Path | None = None
    """What was read, where that is a file of the folder."""

    @classmethod
    def read(cls, path: Path | str, *, judged: bool = True) -> Run:
        """Read a run's folder, a journal or a file of pytest-benchmark; its verdicts only when `judged`.

        Verdicts and `run.json` are those that stand beside a file.

        Raises
        ------
        JournalError: no such folder or file, or what it holds is missing, empty, cut off or foreign.
        RecordError: it holds a record that this version does not read.
        """
        path = Path(path)
        if not path.exists():
            raise JournalError(f"{path}: no such folder; {stored.REMEDY}")
        folder, file = (path, path / JOURNAL) if path.is_dir() else (path.parent, path)
        if not file.is_file():
            raise JournalError(f"{file}: no such file; {stored.REMEDY}")
        found = stored.read(file)
        return cls(
            path=folder,
            source=None if path.is_dir() else path,
            entries=tuple(_entry(line, file) for line in _joined(found.lines, file)),
            verdicts=tuple(_read_verdicts(folder / CLAIMS)) if judged else (),
            about=_read_about(folder / RUN) or found.about,
            is_torn=found.is_torn,
        )

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all tests that measured something, in journal order."""
        return tuple(entry.record for entry in self.entries if entry.record is not None)

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments that have a record, in journal order."""
        return tuple(dict.fromkeys(record.experiment for record in self.records))


def _joined(lines: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    try:
        return attempts.joined(lines)
    except RecordError as exc:
        raise RecordError(f"{path}: {exc}") from exc
    except (KeyError, TypeError) as exc:
        raise JournalError(f"{path}: an entry of a second attempt lacks {exc}; {journal.REMEDY}") from exc


def _entry(data: Mapping[str, Any], path: Path) -> Entry:
    held = (data.get("extra_info") or {}).get(stored.EXTRA)
    try:
        record = None if held is None else Record.from_json(held)
    except RecordError as exc:
        raise RecordError(f"{path}, {data['nodeid']}: {exc}") from exc
    return Entry(
        nodeid=data["nodeid"],
        outcome=data["outcome"],
        why=data.get("why") or "",
        experiment=data.get("experiment") or (record.experiment if record else ""),
        params=data.get("params") or {},
        data=tuple(data.get("data") or ()),
        benchmark=data.get("benchmark"),
        record=record,
        duration_s=data.get("duration_s"),
        where=places_of(data),
    )


def _read_verdicts(path: Path) -> Iterator[Mapping[str, Any]]:
    claims = _read_object(path, REJUDGE).get("claims", [])
    for verdict in claims if isinstance(claims, list) else [None]:
        if not isinstance(verdict, dict) or "id" not in verdict or "verdict" not in verdict:
            raise JournalError(f"{path}: a claim without id or verdict; {REJUDGE}")
        wrong = next((key for key, fits in FITS.items() if not fits(verdict.get(key))), None)
        if wrong:
            shown = repr(verdict[wrong])[:40]
            raise JournalError(f"{path}: {wrong} of claim {verdict['id']!r} is {shown}; {REJUDGE}")
        yield verdict


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_range(value: object) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)))


def _is_bound(value: object) -> bool:
    return not value or (isinstance(value, dict) and {"name", "value", "arithmetic"} <= value.keys())


FITS: dict[str, Callable[[object], bool]] = {
    "estimate": _is_number,
    "interval": _is_range,
    "n": _is_number,
    "published": lambda value: _is_number(value) or _is_range(value),
    "physics": _is_bound,
}
"""What a verdict's numbers may be, so that a foreign file is named and stops nothing else."""


def _read_about(path: Path) -> dict[str, Any]:
    remedy = "restore it, or move it away to go without"
    about = _read_object(path, remedy)
    plan = about.get("plan")
    parts = {"plan": plan, "versions": about.get("versions")}
    parts |= (
        {f"plan.{key}": plan.get(key) for key in ("settings", "environment")}
        if isinstance(plan, dict)
        else {}
    )
    texts = {key: about.get(key) for key in ("commit", "started")}
    for kind, named in ((dict, parts), (str, texts)):
        for name, value in named.items():
            if value is not None and not isinstance(value, kind):
                raise JournalError(f"{path}: {name} is {repr(value)[:40]}; {remedy}")
    return about


def _read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is no such file."""
    return stored.read_json(path, remedy) if path.is_file() else {}
