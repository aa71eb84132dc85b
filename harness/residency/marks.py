"""When a stretch of the arena was last computed on: what a copy over it has to wait for on the device.

A mark is a place in what the device computes; `harness.residency.device.base` has it. Stretches never
overlap: a chunk is computed on only after a copy put it there, and that copy took the marks that lay under
it. Whoever comes later on the same lane comes behind that copy, so they need not be kept. On a CPU there are
none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["Marks", "Use"]


class Use(NamedTuple):
    """A stretch, and behind what it was last computed on."""

    start: int
    end: int
    mark: Any


class Marks:
    """The last use of every stretch that was computed on and not written over."""

    def __init__(self) -> None:
        self._uses: list[Use] = []

    def __len__(self) -> int:
        return len(self._uses)

    def put(self, start: int, end: int, mark: Any) -> None:
        """Note a use; a mark of None says that it is over."""
        if mark is not None:
            self.take(start, end)
            self.put_back([Use(start, end, mark)])

    def take(self, start: int, end: int) -> list[Use]:
        """Take off what a copy to [start, end) has to wait for."""
        uses = self._uses
        if not uses:
            return []
        low = bisect_right(uses, start, key=_start)
        if low and uses[low - 1].end > start:
            low -= 1
        high = bisect_left(uses, end, lo=low, key=_start)
        taken = uses[low:high]
        del uses[low:high]
        return taken

    def put_back(self, uses: Iterable[Use]) -> None:
        """Put back what was taken for a copy that was called off."""
        for use in uses:
            insort(self._uses, use, key=_start)


def _start(use: Use) -> int:
    return use.start
