"""Bytes that one process holds of a device budget; `DeviceBudget.allocate` makes them."""

from __future__ import annotations

import operator
import os
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from harness.errors import BudgetError, UsageError
from harness.hardware import ledger_file
from harness.hardware.ledger import MAX_BYTES, Entry, Ledger

__all__ = ["Allocation", "refusal", "whole_bytes"]

NUM_HOLDERS_NAMED = 3


class Allocation:
    """Bytes held by this process; a context manager that releases them."""

    def __init__(self, path: Path, budget_id: str, token: str, entry: Entry) -> None:
        self._path = path
        self._budget_id = budget_id
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
        entry = self._entry._replace(num_bytes=whole_bytes(self.owner, num_bytes))
        if self._is_foreign():
            raise UsageError(
                f"{self.owner}: held by process {self._entry.process.pid}, not by this fork of it: "
                "allocate anew in the child"
            )
        old_bytes = self._num_bytes
        with ledger_file.changing(self._path, self._budget_id) as ledger:
            if self._token not in ledger.entries:
                raise UsageError(f"{self.owner}: already released; allocate anew instead of resizing")
            has_room = ledger.charge(self._token, entry)
        if not has_room:
            growth = f"{self.owner}: growth from {old_bytes} to {num_bytes} bytes asked"
            raise BudgetError(refusal(ledger, growth, entry.num_bytes))
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
            with ledger_file.changing(self._path, self._budget_id) as ledger:
                ledger.entries.pop(self._token, None)
        except ledger_file.LedgerGone:
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


def whole_bytes(owner: str, value: int) -> int:
    """`value` as an int, for whatever counts as one; a bool does not."""
    try:
        whole = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = 0
    if not 0 < whole <= MAX_BYTES:
        shown = "more than 2**63 - 1" if whole > 0 else f"{value!r}"[:80]
        raise UsageError(f"{owner}: {shown} bytes; give a whole number of bytes > 0 and < 2**63")
    return whole


def refusal(ledger: Ledger, asked: str, num_bytes: int) -> str:
    """Say that `asked`, an allocation of `num_bytes`, finds no room in the ledger, and what would help."""
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
