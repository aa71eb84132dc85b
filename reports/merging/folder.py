"""A merged run on disk: a folder that is rendered and judged as any other.

It holds the plan with its sessions, the journal, and the claims that the newest session had. What was logged
beside the records (requests, telemetry) stays with the sessions: its rounds are numbered within each.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import journal
from reports.errors import MergeError
from reports.merging.records import GRADED_ALIKE
from reports.places import WHERE
from reports.runs import Entry, Run
from reports.stored import EXTRA

__all__ = ["write"]

CLAIMS = "claims"


def write(run: Run, parts: Sequence[Run], folder: Path) -> list[str]:
    """Write a merged run into a new folder; returns what a reader should know of it, in lines.

    Arguments: `parts`, the runs that were merged, whose claims are taken along.

    Raises
    ------
    MergeError: something is in the folder already. JournalError, OSError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MergeError(f"merge: {folder} is not empty; give a new folder with --to, or remove this one")
    folder.mkdir(parents=True, exist_ok=True)
    journal.write_json(folder / journal.PLAN, run.about)
    for entry in run.entries:
        journal.append(folder, _line(entry))
    return [*_graded_otherwise(run), *_take_claims(parts, folder / CLAIMS)]


def _graded_otherwise(run: Run) -> list[str]:
    """A line for each test of which a session graded a task otherwise than the first, whose grade counts."""
    return [
        f"{entry.nodeid}: {check.observed}; the first session's grades count"
        for entry in run.entries
        for check in (entry.record.checks if entry.record else ())
        if check.name == GRADED_ALIKE and not check.ok
    ]


def _line(entry: Entry) -> dict[str, Any]:
    line: dict[str, Any] = {
        "nodeid": entry.nodeid,
        "experiment": entry.experiment,
        "params": dict(entry.params),
        "outcome": entry.outcome,
        "why": entry.why,
        "data": list(entry.data),
        "benchmark": None,  # its statistics are those of one session
        "extra_info": {} if entry.record is None else {EXTRA: entry.record.to_json()},
    }
    if entry.where:
        line[WHERE] = list(entry.where)
    return line if entry.duration_s is None else {**line, "duration_s": entry.duration_s}


def _take_claims(parts: Sequence[Run], folder: Path) -> list[str]:
    """Copy each claims file of the sessions, of several versions the newest session's."""
    newest = sorted(parts, key=lambda run: str(run.about.get("started") or run.path.name))
    found: dict[str, list[Path]] = {}
    for run in newest:
        for path in sorted((run.path / CLAIMS).glob("*.toml")):
            found.setdefault(path.name, []).append(path)
    if found:
        folder.mkdir()
    told = []
    for name, paths in found.items():
        shutil.copyfile(paths[-1], folder / name)
        if len({path.read_bytes() for path in paths}) > 1:
            told.append(f"claims/{name} differs between the sessions; that of {paths[-1].parents[1]} is kept")
    return told
