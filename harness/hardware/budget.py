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
import operator
import os
import secrets
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from harness.errors import BudgetError, UsageError
from harness.hardware import ledger as ledgers
from harness.hardware.ledger import MAX_BYTES, Entry, Ledger, LedgerGone
from harness.hardware.processes import this_process

__all__ = ["Allocation", "DeviceBudget", "Holder"]

MAX_OWNER_LEN = 200
NUM_HOLDERS_NAMED = 3
MEMORY_FOLDER = "/dev/shm"


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
        temporary place that is deleted when this process exits.

        Raises
        ------
        UsageError: the capacity is not a whole number of bytes > 0, the path exists or cannot be written.
        """
        ledger = Ledger(budget_id=secrets.token_hex(8), capacity_bytes=_whole_bytes("budget", capacity_bytes))
        place = _temporary_path() if path is None else Path(path).resolve()
        ledgers.create(place, ledger)
        return cls(place, ledger)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The budget whose ledger is there.

        Raises
        ------
        UsageError: there is none, or what is there is not a ledger.
        """
        place = Path(path).resolve()
        return cls(place, ledgers.read(place))

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
        entry = Entry(_checked_owner(owner), _whole_bytes(owner, num_bytes), this_process())
        token = secrets.token_hex(8)
        with ledgers.changing(self._path, self._id) as ledger:
            has_room = ledger.charge(token, entry)
        if not has_room:
            raise BudgetError(_refusal(ledger, f"{owner}: {num_bytes} bytes asked", entry.num_bytes))
        return Allocation(self, token, entry)

    def reset_peak(self) -> None:
        """Let the peak start again from what is held now."""
        with ledgers.changing(self._path, self._id) as ledger:
            ledger.drop_dead()
            ledger.peak_bytes = ledger.used_bytes

    def remove(self) -> None:
        """Delete the ledger; the budget ends for every process, and a second call does nothing."""
        ledgers.remove(self._path, self._id)

    def _read(self) -> Ledger:
        return ledgers.read(self._path, self._id)

    def _living(self) -> Ledger:
        ledger = self._read()
        ledger.drop_dead()
        return ledger

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (str(self._path),)

    def __repr__(self) -> str:
        return f"DeviceBudget({str(self._path)!r}, capacity_bytes={self._capacity_bytes})"


class Allocation:
    """Bytes held by this process; a context manager that releases them."""

    def __init__(self, budget: DeviceBudget, token: str, entry: Entry) -> None:
        self._budget = budget
        self._token = token
        self._entry = entry
        self._num_bytes = entry.num_bytes

    @property
    def owner(self) -> str:
        """In whose name."""
        return self._entry.owner

    @property
    def num_bytes(self) -> int:
        """How many; 0 once released."""
        return self._num_bytes

    def resize(self, num_bytes: int) -> None:
        """Hold more or fewer bytes from now on.

        Raises
        ------
        BudgetError: the growth does not fit; the old size stays.
        UsageError: not a whole number of bytes > 0, already released, made by another process, or trouble
            with the ledger.
        """
        entry = self._entry._replace(num_bytes=_whole_bytes(self.owner, num_bytes))
        if self._is_foreign():
            raise UsageError(
                f"{self.owner}: held by process {self._entry.process.pid}, not by this fork of it: "
                "allocate anew in the child"
            )
        old_bytes = self._num_bytes
        with ledgers.changing(self._budget._path, self._budget._id) as ledger:
            if self._token not in ledger.entries:
                raise UsageError(f"{self.owner}: already released; allocate anew instead of resizing")
            has_room = ledger.charge(self._token, entry)
        if not has_room:
            growth = f"{self.owner}: growth from {old_bytes} to {num_bytes} bytes asked"
            raise BudgetError(_refusal(ledger, growth, entry.num_bytes))
        self._num_bytes = entry.num_bytes

    def release(self) -> None:
        """Give the bytes back.

        Nothing happens the second time, where the ledger was removed or replaced, and in a forked child,
        since the parent holds the bytes.

        Raises
        ------
        UsageError: trouble with the ledger.
        """
        if self._num_bytes == 0 or self._is_foreign():
            return
        try:
            with ledgers.changing(self._budget._path, self._budget._id) as ledger:
                ledger.entries.pop(self._token, None)
        except LedgerGone:
            pass
        self._num_bytes = 0

    def _is_foreign(self) -> bool:
        return os.getpid() != self._entry.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __reduce__(self) -> NoReturn:
        raise UsageError(f"{self.owner}: an allocation stays in its process; hand over the budget instead")

    def __repr__(self) -> str:
        return f"Allocation({self.owner!r}, num_bytes={self._num_bytes})"


def _temporary_path() -> Path:
    # In memory where there is such a place: a rename there takes a quarter of the time it takes on a disk.
    in_memory = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK | os.X_OK) else None
    folder = tempfile.mkdtemp(prefix="assay-budget-", dir=in_memory)
    atexit.register(_delete_folder, folder, os.getpid())
    return Path(folder).resolve() / "ledger.json"


def _delete_folder(folder: str, pid: int) -> None:
    # A forked child inherits the exit handler, but not the budget.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _whole_bytes(owner: str, value: int) -> int:
    """`value` as an int, for whatever counts as one; a bool does not."""
    try:
        whole = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = 0
    if not 0 < whole <= MAX_BYTES:
        shown = "more than 2**63 - 1" if whole > 0 else f"{value!r}"[:80]
        raise UsageError(f"{owner}: {shown} bytes; give a whole number of bytes > 0 and < 2**63")
    return whole


def _checked_owner(owner: str) -> str:
    if not isinstance(owner, str) or not owner.strip() or not owner.isprintable():
        raise UsageError(f"owner {f'{owner!r}'[:80]}: give a name of printable characters")
    if len(owner) > MAX_OWNER_LEN:
        raise UsageError(f"owner {owner[:40]!r}… has {len(owner)} characters; give at most {MAX_OWNER_LEN}")
    return owner


def _refusal(ledger: Ledger, asked: str, num_bytes: int) -> str:
    held: Counter[tuple[str, int]] = Counter()
    for entry in ledger.entries.values():
        held[entry.owner, entry.process.pid] += entry.num_bytes
    named = [
        f"{owner} {held_bytes} (pid {pid})"
        for (owner, pid), held_bytes in held.most_common(NUM_HOLDERS_NAMED)
    ]
    if len(held) > len(named):
        named.append(f"{len(held) - len(named)} more")
    free_bytes = ledger.capacity_bytes - ledger.used_bytes
    remedy = "release one of them or ask for less" if num_bytes <= ledger.capacity_bytes else "ask for less"
    return (
        f"{asked}, {free_bytes} of {ledger.capacity_bytes} are free; held by {', '.join(named) or 'nobody'}: "
        f"{remedy}, or give the budget a larger capacity"
    )
