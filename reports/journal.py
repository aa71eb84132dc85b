"""A run's journal: one line per finished test, on disk before the next test begins.

    results/<run>/run.json        the plan: what must be equal for a run to be continued
    results/<run>/journal.jsonl   one JSON object per finished test

A crash loses the test that crashed and no other. A line torn by a crash is cut off when the next is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from reports.errors import JournalError

__all__ = [
    "JOURNAL",
    "PLAN",
    "Lines",
    "append",
    "create",
    "differences",
    "digest",
    "newest",
    "newest_first",
    "read",
    "read_plan",
    "write_json",
]

JOURNAL = "journal.jsonl"
PLAN = "run.json"

REMEDY = "remove the line to go on, or give the folder of a run, as `pytest bench/` leaves it under results/"


class Lines(NamedTuple):
    """What a journal holds."""

    entries: list[dict[str, Any]]
    is_torn: bool
    """What follows the last newline was cut off by a crash, and is left out."""


def create(results: Path, plan: Mapping[str, Any]) -> Path:
    """Make a run's folder and write its plan; returns the folder.

    Raises
    ------
    JournalError: the folder cannot be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    try:
        results.mkdir(parents=True, exist_ok=True)
        run = results / stamp
        for attempt in range(1, 100):
            try:
                run.mkdir()
                break
            except FileExistsError:
                run = results / f"{stamp}-{attempt}"
        write_json(run / PLAN, plan)
    except OSError as exc:
        raise JournalError(
            f"results: cannot write to {results} ({exc.strerror}); pass --results-dir DIR"
        ) from exc
    return run


def append(run: Path, entry: Mapping[str, Any]) -> None:
    """Add one entry; it is on disk when this returns, and nothing before it was touched.

    Raises
    ------
    JournalError: the entry is no JSON (NaN and infinity are none), the disk is full or the file cannot be
    written.
    """
    path = run / JOURNAL
    try:
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as exc:
        raise JournalError(
            f"journal: {entry.get('nodeid')} holds a value that is no JSON ({exc}); {path} is as it was. "
            "Record None for what was not measured"
        ) from exc
    size = None
    try:
        with path.open("a+b") as file:
            size = _cut_torn_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        _restore(path, size)
        raise JournalError(
            f"journal: cannot append {len(line)} bytes to {path} ({exc.strerror}); "
            "what was recorded before is kept. Free some space and continue with --resume"
        ) from exc


def read(run: Path) -> Lines:
    """Every whole entry, in the order they were written; none where there is no journal yet.

    Arguments: `run`, the folder of a run, or a journal itself.

    Raises
    ------
    JournalError: the journal cannot be read, or a whole line of it is no entry of a test.
    """
    path = run if run.is_file() else run / JOURNAL
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Lines([], False)
    except OSError as exc:
        raise JournalError(f"{path}: cannot be read ({exc.strerror}); check its permissions") from exc
    lines = [(number, line) for number, line in enumerate(whole, start=1) if line.strip()]
    return Lines([_entry(line, f"{path}, line {number}") for number, line in lines], bool(rest.strip()))


def read_plan(run: Path) -> dict[str, Any]:
    """The plan that the run was started with.

    Raises
    ------
    JournalError: the folder holds no readable plan.
    """
    path = run / PLAN
    try:
        about: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as exc:
        raise JournalError(f"run: {path} cannot be read ({exc}); this is no folder of a run") from exc
    if not isinstance(about, dict) or not isinstance(about.get("plan"), dict):
        raise JournalError(f"run: {path} holds no plan; this is no folder of a run")
    return about


def newest(results: Path) -> Path | None:
    """The run that was started last, or `None`."""
    return next(iter(newest_first(results)), None)


def newest_first(results: Path) -> Iterator[Path]:
    """The runs of a folder, by their names, which tell their start.

    Merged ones are left out: their names tell none, and no session of theirs can be continued.
    """
    for run in sorted((path.parent for path in results.glob(f"*/{PLAN}")), reverse=True):
        try:
            is_merged = "sessions" in read_plan(run)
        except JournalError:  # whoever reads it is told why it cannot be read
            is_merged = False
        if not is_merged:
            yield run


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What must be equal and is not, as "name: then → now"; within a table as "table.name: then → now"."""
    out = []
    for key in sorted(then.keys() | now.keys()):
        first, second = then.get(key), now.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            out += [f"{key}.{line}" for line in differences(first, second)]
        elif first != second:
            out.append(f"{key}: {first} → {second}")
    return out


def digest(paths: Iterable[Path], root: Path) -> str:
    """A short hash over the names and contents of files."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0")
        with path.open("rb") as file:  # by blocks, since weights are large
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _refuse(constant: str) -> None:
    """NaN and Infinity, which Python reads and nothing here writes."""
    raise ValueError(f"{constant} is no number of it")


def _entry(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise JournalError(f"{where}: not JSON ({exc}); {REMEDY}") from exc
    if not isinstance(entry, dict) or not isinstance(entry.get("nodeid"), str) or "outcome" not in entry:
        raise JournalError(f"{where}: not a journal entry (it has no nodeid and outcome); {REMEDY}")
    return entry


def _cut_torn_line(file: Any) -> int:
    """Drop what follows the last newline; returns the size of what is whole."""
    size: int = file.seek(0, os.SEEK_END)
    keep = size
    while keep:
        file.seek(keep - 1)
        if file.read(1) == b"\n":
            break
        keep -= 1
    if keep < size:
        file.truncate(keep)
    file.seek(0, os.SEEK_END)
    return keep


def _restore(path: Path, size: int | None) -> None:
    if size is None:
        return
    with contextlib.suppress(OSError):  # the torn line is cut off when the next one is written
        os.truncate(path, size)
