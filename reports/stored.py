"""Files that hold what was measured, as lines of a journal: a journal, or what pytest-benchmark stored.

    journal.jsonl     one line per finished test (`reports.journal`)
    benchmark.json    pytest-benchmark's own file; a record stands in `extra_info.assay` of each benchmark

Trap: pytest-benchmark keeps no outcome, and drops what raised. A benchmark of its file counts as passed, and
what never came to a record is not in it; the journal knows both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from reports import journal
from reports.errors import JournalError

__all__ = ["BENCHMARK", "EXTRA", "Stored", "read", "read_json"]

BENCHMARK = "benchmark.json"
EXTRA = "assay"
"""The key of `extra_info` that holds a test's record."""

REMEDY = "give the folder of a run, as `pytest bench/` leaves it under results/"
CUT = f"give the {journal.JOURNAL} beside it, of which a crash takes no more than the last line"

KINDS: Mapping[str, type | tuple[type, ...]] = {
    "nodeid": str,
    "outcome": str,
    "why": str,
    "experiment": str,
    "params": dict,
    "data": list,
    "benchmark": dict,
    "extra_info": dict,
    "duration_s": (int, float),
    "attempt": int,
}
"""What an entry's keys hold where they hold anything."""


class Stored(NamedTuple):
    """What a file holds: the journal's lines, and what it says of the run itself."""

    lines: list[dict[str, Any]]
    about: dict[str, Any]
    is_torn: bool


def read(path: Path) -> Stored:
    """The lines of a journal, or of a file that pytest-benchmark stored.

    Raises
    ------
    JournalError: it cannot be read, is neither, was cut off, or holds no finished test.
    """
    return _read_journal(path) if path.suffix == ".jsonl" else _read_benchmarks(path)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises
    ------
    JournalError: it cannot be read, or holds none.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as exc:
        raise JournalError(f"{path}: cannot be read ({exc.strerror}); {remedy}") from exc
    except (ValueError, RecursionError) as exc:
        raise JournalError(f"{path}: not JSON ({exc}); {remedy}") from exc
    if not isinstance(data, dict):
        raise JournalError(f"{path}: holds no JSON object; {remedy}")
    return data


def _read_journal(path: Path) -> Stored:
    lines, is_torn = journal.read(path)
    if not lines:
        raise JournalError(f"{path}: no finished test in it; nothing can be rendered before one has finished")
    for line in lines:
        _check(line, path)
    return Stored(lines, {}, is_torn)


def _read_benchmarks(path: Path) -> Stored:
    data = read_json(path, CUT)
    found = data.get("benchmarks")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise JournalError(f"{path}: neither a journal nor a file of pytest-benchmark; {REMEDY}")
    lines = [_line(one, path) for one in found if _has_record(one)]
    if not lines:
        raise JournalError(
            f"{path}: none of its {len(found)} benchmarks holds a record of this suite (extra_info.{EXTRA}); "
            f"{REMEDY}"
        )
    return Stored(lines, _about(data), False)


def _has_record(one: Mapping[str, Any]) -> bool:
    extra = one.get("extra_info")
    return isinstance(extra, dict) and EXTRA in extra


def _line(one: Mapping[str, Any], path: Path) -> dict[str, Any]:
    stats = one.get("stats")
    line = {
        "nodeid": one.get("fullname") or one.get("name"),
        "outcome": "passed",
        "params": one.get("params") or {},
        "data": (stats.get("data") or []) if isinstance(stats, dict) else [],
        "extra_info": one["extra_info"],
    }
    if line["nodeid"] is None:
        raise JournalError(f"{path}: a benchmark without a name; {REMEDY}")
    _check(line, path)
    return line


def _about(data: Mapping[str, Any]) -> dict[str, Any]:
    """What pytest-benchmark notes of the run: when, from which commit, on what."""
    found = data.get("commit_info")
    commit = found.get("id") if isinstance(found, dict) else None
    known = isinstance(found, dict) and isinstance(commit, str) and commit != "unversioned"
    return {
        "started": data.get("datetime"),
        "commit": f"{commit}{'-dirty' if found.get('dirty') else ''}" if known and found else None,
        "machine_info": data.get("machine_info") or {},
    }


def _check(line: Mapping[str, Any], path: Path) -> None:
    for key, kind in KINDS.items():
        value = line.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise JournalError(
                f"{path}, {line['nodeid']}: {key} is {value!r:.40}, which no journal of this suite holds; "
                f"{journal.REMEDY}"
            )
