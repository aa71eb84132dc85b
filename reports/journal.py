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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reports.errors import JournalError

__all__ = [
    "JOURNAL",
    "PLAN",
    "append",
    "create",
    "differences",
    "digest",
    "newest",
    "read",
    "read_plan",
    "write_json",
]

JOURNAL = "journal.jsonl"
PLAN = "run.json"


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
    JournalError: the disk is full or the file cannot be written.
    """
    line = json.dumps(entry, allow_nan=False).encode() + b"\n"
    path = run / JOURNAL
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


def read(run: Path) -> list[dict[str, Any]]:
    """Every whole entry, in the order they were written.

    Raises
    ------
    JournalError: the journal is missing, or a whole line of it is no JSON.
    """
    path = run / JOURNAL
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as exc:
            raise JournalError(
                f"journal: line {number} of {path} is no JSON ({exc}); remove it to go on"
            ) from exc
    return entries


def read_plan(run: Path) -> dict[str, Any]:
    """The plan that the run was started with.

    Raises
    ------
    JournalError: the folder holds no readable plan.
    """
    try:
        plan: dict[str, Any] = json.loads((run / PLAN).read_text())
    except (OSError, ValueError) as exc:
        raise JournalError(f"run: {run / PLAN} cannot be read ({exc}); this is no folder of a run") from exc
    return plan


def newest(results: Path) -> Path | None:
    """The run that was started last, or `None`. Folders are named by their start, so the last name wins."""
    return max((path.parent for path in results.glob(f"*/{PLAN}")), default=None)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What must be equal and is not, as "name: then → now"."""
    return [
        f"{key}: {then.get(key)} → {now.get(key)}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]


def digest(paths: Iterable[Path], root: Path) -> str:
    """A short hash over the names and contents of files."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
