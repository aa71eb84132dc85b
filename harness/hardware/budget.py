"""A device's memory as a number of bytes that processes share, and that is refused when it is full.

The budget is a promise among those who draw on it, kept in a file: nothing is mapped or pinned. Capacity is
fixed; what is used never exceeds it at any moment; "fits" is ≤. An allocation belongs to the process that
made it, and ends with `release` or with that process, however it dies. A refusal is a `BudgetError`, and a
`BudgetError` is nothing else: trouble with the ledger itself is a `UsageError`.

Hand the budget to another process by pickle or by path; allocations do not travel.

Traps: memory is whole bytes, never a float of GB. Allocations are not released when they are forgotten, only
when told to, or when their process ends. Who is alive is asked by pid, so all processes must share one pid
namespace: a budget shared with another container or another host would take live holders for dead ones. Every
change reads and writes the whole ledger: draw a few large allocations (slabs), not one per token.
"""

from __future__ import annotations

import atexit
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from harness.errors import BudgetError, UsageError
from harness.hardware import ledger_file
from harness.hardware.allocation import Allocation, refusal, whole_bytes
from harness.hardware.ledger import Entry, Ledger
from harness.hardware.processes import Process, is_alive, this_process

__all__ = ["Allocation", "DeviceBudget", "Holder", "memory_folder"]

MAX_OWNER_LEN = 200
MEMORY_FOLDER = "/dev/shm"
PREFIX = "assay-budget-"
"""Of ledgers without a path: prefix, pid, start of the process in ticks, and what sets two of them apart."""


class Holder(NamedTuple):
    """Who holds how much, by one allocation."""

    owner: str
    num_bytes: int
    pid: int


class DeviceBudget:
    """A number of bytes shared by processes; made with `create`, found again with `open`.

    Safe to use from any thread, and in forked children. Pickles as its path.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._path = path
        self._id = ledger.budget_id
        self._capacity_bytes = ledger.capacity_bytes

    @classmethod
    def create(cls, capacity_bytes: int, *, path: str | os.PathLike[str] | None = None) -> Self:
        """Make a budget with nothing used.

        `path` is where the ledger is to be, beside it `.lock` and for moments `.new`; without it, in a
        temporary place, deleted when this process exits; what a killed process left there goes with the next.

        Raises
        ------
        UsageError: the capacity is not a whole number of bytes > 0, the path exists or cannot be written.
        """
        ledger = Ledger(budget_id=secrets.token_hex(8), capacity_bytes=whole_bytes("budget", capacity_bytes))
        place = _temporary_path() if path is None else Path(path).resolve()
        ledger_file.create(place, ledger)
        if path is None:
            atexit.register(_remove_at_exit, place, ledger.budget_id, os.getpid())
        return cls(place, ledger)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The budget whose ledger is there.

        Raises
        ------
        UsageError: there is none, or what is there is not a ledger.
        """
        place = Path(path).resolve()
        return cls(place, ledger_file.read(place))

    @property
    def path(self) -> Path:
        """The ledger; what `open` wants."""
        return self._path

    @property
    def capacity_bytes(self) -> int:
        """All there is."""
        return self._capacity_bytes

    @property
    def used_bytes(self) -> int:
        """Held now by processes that live."""
        return self._living().used_bytes

    @property
    def free_bytes(self) -> int:
        """Not held now."""
        return self._capacity_bytes - self.used_bytes

    @property
    def peak_bytes(self) -> int:
        """The most that was ever held at once, since `reset_peak` if that was called."""
        return self._read().peak_bytes

    @property
    def num_refusals(self) -> int:
        """Times that `allocate` or `resize` found no room, in any process."""
        return self._read().num_refusals

    def holders(self) -> tuple[Holder, ...]:
        """One per allocation of processes that live, largest first."""
        rows = [Holder(e.owner, e.num_bytes, e.process.pid) for e in self._living().entries.values()]
        return tuple(sorted(rows, key=lambda row: (-row.num_bytes, row.owner, row.pid)))

    def allocate(self, num_bytes: int, *, owner: str) -> Allocation:
        """Take bytes, in the name of `owner`, until they are released or this process ends.

        Raises
        ------
        BudgetError: they are not free; nothing is taken.
        UsageError: not a whole number of bytes > 0, an owner without a name, or trouble with the ledger.
        """
        entry = Entry(_checked_owner(owner), whole_bytes(owner, num_bytes), this_process())
        token = secrets.token_hex(8)
        with ledger_file.changing(self._path, self._id) as ledger:
            has_room = ledger.charge(token, entry)
        if not has_room:
            raise BudgetError(refusal(ledger, f"{owner}: {num_bytes} bytes asked", entry.num_bytes))
        return Allocation(self._path, self._id, token, entry)

    def reset_peak(self) -> None:
        """Let the peak start again from what is held now."""
        with ledger_file.changing(self._path, self._id) as ledger:
            ledger.drop_dead()
            ledger.peak_bytes = ledger.used_bytes

    def remove(self) -> None:
        """Delete the ledger; the budget ends for every process, and a second call does nothing."""
        ledger_file.remove(self._path, self._id)

    def _read(self) -> Ledger:
        return ledger_file.read(self._path, self._id)

    def _living(self) -> Ledger:
        ledger = self._read()
        ledger.drop_dead()
        return ledger

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (str(self._path),)

    def __repr__(self) -> str:
        return f"DeviceBudget({str(self._path)!r}, capacity_bytes={self._capacity_bytes})"


def memory_folder() -> Path:
    """Where ledgers are quickest: a rename in memory takes a quarter of the time it takes on a disk."""
    in_memory = os.access(MEMORY_FOLDER, os.W_OK | os.X_OK)
    return Path(MEMORY_FOLDER if in_memory else tempfile.gettempdir())


def _temporary_path() -> Path:
    folder = memory_folder()
    _remove_orphans(folder)
    pid, ticks = this_process()
    return folder.resolve() / f"{PREFIX}{pid}-{ticks or ''}-{secrets.token_hex(8)}.json"


def _remove_orphans(folder: Path) -> None:
    """Delete the ledgers of processes that were killed before they could; each is named by its process."""
    for left in folder.glob(f"{PREFIX}*"):
        pid, _, rest = left.name.removeprefix(PREFIX).partition("-")
        ticks = rest.partition("-")[0]
        if pid.isdecimal() and not is_alive(Process(int(pid), int(ticks) if ticks.isdecimal() else None)):
            with suppress(OSError):  # another's, or gone already
                left.unlink()


def _remove_at_exit(path: Path, budget_id: str, pid: int) -> None:
    # A forked child inherits the exit handler, but not the budget.
    if os.getpid() == pid:
        with suppress(UsageError):
            ledger_file.remove(path, budget_id)


def _checked_owner(owner: str) -> str:
    if not isinstance(owner, str) or not owner.strip() or not owner.isprintable():
        raise UsageError(f"owner {f'{owner!r}'[:80]}: give a name of printable characters")
    if len(owner) > MAX_OWNER_LEN:
        raise UsageError(f"owner {owner[:40]!r}… has {len(owner)} characters; give at most {MAX_OWNER_LEN}")
    return owner
