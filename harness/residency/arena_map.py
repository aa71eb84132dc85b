"""Which chunk lies where in an arena of fixed capacity: a map, without the memory itself.

Two things always hold, whatever is asked: no two live chunks overlap, and none reaches beyond the capacity.
What would break them is refused (`BudgetError`) and changes nothing.

Weights are read-only, so eviction only takes a chunk off the map: nothing is copied back, and the bytes stay
as they are until something is written over them. `restore` puts an evicted chunk back as long as nothing was.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from harness.errors import BudgetError, UsageError
from harness.residency.layout import ModelLayout

__all__ = ["ArenaMap", "Hole", "Placed", "Run"]


class Placed(NamedTuple):
    """A chunk in the arena."""

    start: int
    end: int
    model: str
    chunk: int

    @property
    def num_bytes(self) -> int:
        """Its size."""
        return self.end - self.start


class Run(NamedTuple):
    """Chunks of a model, from `first` up to, not including, `last`."""

    first: int
    last: int


class Hole(NamedTuple):
    """Free bytes between live chunks."""

    start: int
    end: int


class ArenaMap:
    """The live chunks of several models in `capacity_bytes`. Not safe to use from several threads."""

    def __init__(self, layouts: Mapping[str, ModelLayout], capacity_bytes: int) -> None:
        if capacity_bytes <= 0:
            raise UsageError(f"arena: capacity {capacity_bytes} bytes; give at least one chunk's size")
        self.layouts = dict(layouts)
        self.capacity_bytes = capacity_bytes
        self._starts: list[int] = []
        self._live: list[Placed] = []
        self._offsets: dict[str, list[int | None]] = {m: [None] * x.num_chunks for m, x in layouts.items()}
        self._bytes = dict.fromkeys(layouts, 0)
        self._free_bytes = capacity_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes that no live chunk holds, in all holes together."""
        return self._free_bytes

    @property
    def live(self) -> tuple[Placed, ...]:
        """Every live chunk, by its place."""
        return tuple(self._live)

    @property
    def models(self) -> list[str]:
        """The models with a live chunk."""
        return [model for model, num_bytes in self._bytes.items() if num_bytes]

    def resident_bytes(self, model: str) -> int:
        """Live bytes of a model."""
        return self._bytes[model]

    def is_whole(self, model: str) -> bool:
        """Is every chunk of the model live?"""
        return self._bytes[model] == self.layouts[model].num_bytes

    def offset_of(self, model: str, chunk: int) -> int | None:
        """Where the chunk lies; None when it is not live."""
        return self._offsets[model][chunk]

    def missing(self, model: str) -> list[Run]:
        """The chunks that are not live, as runs in the order of a forward pass."""
        offsets = self._offsets[model]
        if not self._bytes[model]:
            return [Run(0, len(offsets))]
        if self.is_whole(model):
            return []
        return _runs([i for i, offset in enumerate(offsets) if offset is None])

    def holes(self, without: Collection[str] = ()) -> list[Hole]:
        """The stretches that are free, or would be without these models, by their place."""
        holes, at = [], 0
        for start, end, model, _ in self._live:
            if model not in without:
                if start > at:
                    holes.append(Hole(at, start))
                at = end
        if at < self.capacity_bytes:
            holes.append(Hole(at, self.capacity_bytes))
        return holes

    def overlapping(self, start: int, end: int) -> list[Placed]:
        """The live chunks with a byte in [start, end)."""
        low, high = self._between(start, end)
        return self._live[low:high]

    def place(self, model: str, first: int, last: int, offset: int) -> None:
        """Put chunks `first` up to `last` side by side from `offset` on.

        Raises
        ------
        BudgetError: the place is taken or beyond the capacity, or one of the chunks is live already.
        """
        starts, offsets = self.layouts[model].starts, self._offsets[model]
        shift, end = offset - starts[first], offset + starts[last] - starts[first]
        low, high = self._between(offset, end)
        if offset < 0 or end > self.capacity_bytes:
            raise BudgetError(
                f"{model}: chunks {first} to {last} at {offset} end at {end}, beyond the arena's "
                f"{self.capacity_bytes} bytes; give a place inside"
            )
        if low < high:
            raise BudgetError(
                f"{model}: chunks {first} to {last} at {offset} lie on {self._live[low]}; evict first"
            )
        if any(offsets[chunk] is not None for chunk in range(first, last)):
            raise BudgetError(f"{model}: one of chunks {first} to {last} is live already; evict first")
        placed = [Placed(starts[c] + shift, starts[c + 1] + shift, model, c) for c in range(first, last)]
        begun = [one.start for one in placed]
        self._starts[low:low] = begun
        self._live[low:low] = placed
        offsets[first:last] = begun
        self._bytes[model] += end - offset
        self._free_bytes -= end - offset

    def clear(self, start: int, end: int) -> list[Placed]:
        """Evict every chunk with a byte in [start, end); return them, by their place."""
        low, high = self._between(start, end)
        return self._cut(low, high)

    def evict(self, model: str, first: int = 0, last: int | None = None) -> list[Placed]:
        """Evict the live ones among a model's chunks `first` up to `last`; return them, by chunk."""
        evicted: list[Placed] = []
        for offset in self._offsets[model][first:last]:
            if offset is not None:
                low = bisect_left(self._starts, offset)
                evicted += self._cut(low, low + 1)
        return evicted

    def clear_all(self) -> list[Placed]:
        """Evict everything."""
        return self._cut(0, len(self._live))

    def restore(self, evicted: Iterable[Placed]) -> list[Placed]:
        """Put back what was evicted and not written over; return what came back."""
        back = []
        for one in evicted:
            low, high = self._between(one.start, one.end)
            if low == high and self._offsets[one.model][one.chunk] is None:
                self.place(one.model, one.chunk, one.chunk + 1, one.start)
                back.append(one)
        return back

    def _between(self, start: int, end: int) -> tuple[int, int]:
        low = bisect_right(self._starts, start)
        if low and self._live[low - 1].end > start:
            low -= 1
        return low, max(low, bisect_left(self._starts, end))

    def _cut(self, low: int, high: int) -> list[Placed]:
        cut = self._live[low:high]
        del self._live[low:high]
        del self._starts[low:high]
        for start, end, model, chunk in cut:
            self._offsets[model][chunk] = None
            self._bytes[model] -= end - start
            self._free_bytes += end - start
        return cut


def _runs(indices: list[int]) -> list[Run]:
    runs: list[Run] = []
    for index in indices:
        if runs and runs[-1].last == index:
            runs[-1] = Run(runs[-1].first, index + 1)
        else:
            runs.append(Run(index, index + 1))
    return runs
