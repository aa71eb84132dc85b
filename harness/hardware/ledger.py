"""What a device budget writes down, and its form as text.

One JSON object: capacity, peak, refusals, and an entry per allocation. Anyone may have written the text, so
it is read strictly: a number that is not whole, or entries above their peak, are refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.hardware.processes import Process, is_alive

__all__ = ["MAX_BYTES", "Entry", "Ledger", "parse", "render"]

MAX_BYTES = 2**63 - 1
FORMAT = "assay device budget 1"


class Entry(NamedTuple):
    """One allocation."""

    owner: str
    num_bytes: int
    process: Process


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What the file says."""

    budget_id: str
    """Made anew for each budget, so that a budget put in the place of another is noticed."""
    capacity_bytes: int
    peak_bytes: int = 0
    num_refusals: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def used_bytes(self) -> int:
        """Sum of all entries."""
        return sum(entry.num_bytes for entry in self.entries.values())

    def charge(self, token: str, entry: Entry) -> bool:
        """Write the entry down, in place of an earlier one under its token; returns whether it fitted."""
        extra_bytes = entry.num_bytes - (self.entries[token].num_bytes if token in self.entries else 0)
        # The dead are looked for only where they would matter: the peak never exceeds the capacity.
        if self.used_bytes + extra_bytes > self.peak_bytes:
            self.drop_dead()
        if self.used_bytes + extra_bytes > self.capacity_bytes:
            self.num_refusals += 1
            return False
        self.entries[token] = entry
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return True

    def drop_dead(self) -> None:
        """Strike what processes hold that are no more."""
        alive = {process: is_alive(process) for process in {entry.process for entry in self.entries.values()}}
        self.entries = {token: entry for token, entry in self.entries.items() if alive[entry.process]}


def render(ledger: Ledger) -> bytes:
    """The ledger as text."""
    raw = {
        "format": FORMAT,
        "budget_id": ledger.budget_id,
        "capacity_bytes": ledger.capacity_bytes,
        "peak_bytes": ledger.peak_bytes,
        "num_refusals": ledger.num_refusals,
        "entries": {token: [e.owner, e.num_bytes, *e.process] for token, e in ledger.entries.items()},
    }
    return json.dumps(raw).encode()


def parse(text: bytes) -> Ledger:
    """The ledger that the text holds.

    Raises
    ------
    ValueError: it is not a ledger; the message says why.
    """
    try:
        raw = json.loads(text)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ValueError(f"it does not begin with format {FORMAT!r}")
    if not isinstance(raw.get("budget_id"), str) or not isinstance(raw.get("entries"), dict):
        raise ValueError("it has no budget_id or no entries")
    capacity_bytes = _whole(raw, "capacity_bytes", 1, MAX_BYTES)
    ledger = Ledger(
        budget_id=raw["budget_id"],
        capacity_bytes=capacity_bytes,
        peak_bytes=_whole(raw, "peak_bytes", 0, capacity_bytes),
        num_refusals=_whole(raw, "num_refusals", 0, MAX_BYTES),
        entries={token: _entry(row) for token, row in raw["entries"].items()},
    )
    if ledger.used_bytes > ledger.peak_bytes:
        raise ValueError(
            f"its entries sum to {ledger.used_bytes} bytes, above their peak {ledger.peak_bytes}"
        )
    return ledger


def _entry(row: Any) -> Entry:
    if not isinstance(row, list) or len(row) != 4 or not isinstance(row[0], str):
        raise ValueError("an entry is not owner, bytes, pid and start")
    named = dict(zip(("bytes", "pid", "start"), row[1:], strict=True))
    started_ticks = None if named["start"] is None else _whole(named, "start", 0, MAX_BYTES)
    process = Process(_whole(named, "pid", 1, 2**31 - 1), started_ticks)
    return Entry(row[0], _whole(named, "bytes", 1, MAX_BYTES), process)


def _whole(raw: dict[str, Any], key: str, low: int, high: int) -> int:
    value = raw.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{key} is not a whole number from {low} to {high}")
    return value
