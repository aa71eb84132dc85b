"""The file in which a device budget is written down.

A change is made under an exclusive
flock, written whole to a second file and put in place by rename: whoever is killed half-way leaves the old
ledger or the new one, and the kernel takes the lock off him. Readers need no lock.

Traps: rename puts a new file under the name, and a flock holds on to the file, not to the name. So the lock
is a file of its own, which is never renamed, and whoever gets it checks that it still stands under its name
(the budget may have been removed, and another made, while he waited). The lock file is opened anew for every
change: a descriptor kept open would be shared by forked children and by threads, and would lock none of them
out. Nothing is synced to disk, because no holder outlives the machine. flock wants a local file system.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UsageError
from harness.hardware.ledger import Ledger, parse, render

__all__ = ["LedgerGone", "changing", "create", "read", "remove"]

MAX_FILE_BYTES = 16 * 2**20
LOCK_DEADLINE_S = 30.0
LOCK_POLL_S = 0.0005


class LedgerGone(UsageError):
    """The ledger was removed, or another budget's stands in its place."""


def create(path: Path, ledger: Ledger) -> None:
    """Write a new ledger.

    Raises
    ------
    UsageError: there is a file of that name, or none can be written there.
    """
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent} to keep a ledger in: make it, or give another path")
    with _locked(path, is_new=True):
        if path.exists():
            raise UsageError(f"{path} exists: open it with DeviceBudget.open, or give another path")
        _write(path, ledger)


def read(path: Path, budget_id: str | None = None) -> Ledger:
    """What the ledger (of that budget) says now, entries of the dead among it.

    Raises
    ------
    LedgerGone: there is none, or it is another budget's.
    UsageError: it cannot be read, or is not a ledger.
    """
    text = _read_file(path)
    try:
        ledger = parse(text)
    except ValueError as exc:
        raise UsageError(
            f"{path} is not the ledger of a device budget ({exc}): "
            "give the path of one, or make a new one elsewhere with DeviceBudget.create"
        ) from exc
    if budget_id not in (None, ledger.budget_id):
        raise LedgerGone(f"the ledger {path} is another budget's by now: open it with DeviceBudget.open")
    return ledger


@contextmanager
def changing(path: Path, budget_id: str) -> Iterator[Ledger]:
    """Hand out the ledger to be changed, alone; what was changed is written unless the block raises.

    Raises
    ------
    LedgerGone: it was removed, or replaced by another budget's.
    UsageError: it cannot be read or written, or its lock is not to be had.
    """
    with _locked(path):
        ledger = read(path, budget_id)
        yield ledger
        _write(path, ledger)


def remove(path: Path, budget_id: str) -> None:
    """Delete the ledger and what belongs to it; nothing happens where it is gone.

    Raises
    ------
    UsageError: it cannot be deleted, or is not a ledger.
    """
    with suppress(LedgerGone), _locked(path):
        read(path, budget_id)
        _delete(path)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Say what the system refused in our own words."""
    try:
        yield
    except FileNotFoundError as exc:
        raise LedgerGone(f"no ledger: {exc.filename} is missing; make one with DeviceBudget.create") from exc
    except OSError as exc:
        raise UsageError(
            f"ledger {path}: {exc.strerror or exc}; give a path on a local file system with room, "
            "which this user may write"
        ) from exc


@contextmanager
def _locked(path: Path, *, is_new: bool = False) -> Iterator[None]:
    file = _lock(path, is_new=is_new)
    try:
        yield
    finally:
        # Not left to close(): a child forked meanwhile holds the descriptor too, and so would hold the lock.
        fcntl.flock(file, fcntl.LOCK_UN)
        file.close()


def _lock(path: Path, *, is_new: bool) -> io.FileIO:
    deadline_s = time.monotonic() + LOCK_DEADLINE_S
    while True:
        with _mapped(path):
            file = _open_lock(path, is_new=is_new)
        try:
            _wait(file, path, deadline_s)
            if _stands_under_its_name(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _open_lock(path: Path, *, is_new: bool) -> io.FileIO:
    create_flag = os.O_CREAT if is_new else 0
    return io.FileIO(
        f"{path}.lock", "r+", opener=lambda name, flags: os.open(name, flags | create_flag, 0o600)
    )


def _wait(file: io.FileIO, path: Path, deadline_s: float) -> None:
    while True:
        with _mapped(path), suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline_s:
            raise UsageError(
                f"{path}.lock was held by another process for {LOCK_DEADLINE_S:g} s: "
                f"see which with `fuser {path}.lock`, and end it or let it go on"
            )
        time.sleep(LOCK_POLL_S)


def _stands_under_its_name(file: io.FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(f"{path}.lock"))
    except FileNotFoundError:
        return False


def _read_file(path: Path) -> bytes:
    # Not blocking, so that a named pipe in its place does not hang us.
    with (
        _mapped(path),
        io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file,
    ):
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        return file.read(MAX_FILE_BYTES + 1)


def _write(path: Path, ledger: Ledger) -> None:
    text = render(ledger)
    if len(text) > MAX_FILE_BYTES:
        raise UsageError(f"{path} has {len(ledger.entries)} allocations: take few large ones, not many small")
    with _mapped(path):
        Path(f"{path}.new").write_bytes(text)
        os.replace(f"{path}.new", path)


def _delete(path: Path) -> None:
    # The lock goes last: until then nobody else can begin.
    with _mapped(path):
        for name in (f"{path}.new", path, f"{path}.lock"):
            Path(name).unlink(missing_ok=True)
