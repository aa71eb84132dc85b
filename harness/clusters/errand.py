"""One command on one node: a process of its own, whose parcels are sent home while it still runs.

The command is given a folder. It reads `spec` there, and puts each parcel that it wants sent into `out/`,
under a name that sorts after the last and in one rename, so that no half of one is sent.

Trap: a Ray worker may be killed at any time, with its driver or its node. The command's group is guarded, so
that it ends too, and the folder goes with it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from harness.launchers.group import GuardedGroup
from harness.launchers.watchdog import the_watchdog

__all__ = ["OUT", "SPEC", "Began", "Ended", "Errand", "Event", "Lost", "Parcel", "perform", "send"]

SPEC, OUT = "spec", "out"
_LOOK_S = 0.1
_GRACE_S = 5.0
_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What is to be run: `python COMMAND… FOLDER`, in the root of the working tree."""

    name: str
    command: tuple[str, ...]
    spec: bytes
    """What the command reads; only it knows what that means."""
    env: dict[str, str] = field(default_factory=dict)


class Began(NamedTuple):
    """The command runs."""

    node: str


class Parcel(NamedTuple):
    """Something that it found."""

    content: bytes


class Ended(NamedTuple):
    """The command ended by itself."""

    status: int
    tail: str
    """The end of its output."""


class Lost(NamedTuple):
    """Nothing more will come: the node, or the process on it that waited for the command, is gone."""

    node: str | None
    """None where it was lost before it began."""
    why: str


Event: TypeAlias = Began | Parcel | Ended | Lost


def perform(errand: Errand, node: str) -> Iterator[Event]:
    """Run it here, and give what it sends as it sends it. Whoever stops listening ends it."""
    folder = Path(tempfile.mkdtemp(prefix="assay-errand-"))
    the_watchdog().guard("file", folder)
    group = GuardedGroup(
        [sys.executable, *errand.command, str(folder)],
        log=folder / "output",
        grace_s=_GRACE_S,
        env={"PYTHONUNBUFFERED": "1", **errand.env},
    )
    try:
        (folder / SPEC).write_bytes(errand.spec)
        (folder / OUT).mkdir()
        group.start()
        yield Began(node)
        while True:
            status = group.exit_status()  # before the parcels: what came before its end is sent
            yield from _parcels(folder / OUT)
            if status is not None:
                break
            time.sleep(_LOOK_S)
        yield Ended(status, _tail(folder / "output"))
    finally:
        group.stop()
        shutil.rmtree(folder, ignore_errors=True)
        the_watchdog().release("file", folder)


def send(folder: Path, index: int, content: bytes) -> None:
    """Put a parcel where `perform` finds it; called by the command. `index` counts up."""
    partial = folder / f"{index:06d}.partial"
    partial.write_bytes(content)
    partial.rename(folder / OUT / f"{index:06d}")


def _parcels(folder: Path) -> Iterator[Parcel]:
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.unlink()
        yield Parcel(content)


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace") if log.exists() else ""
    return text[-_TAIL_BYTES:].strip()
