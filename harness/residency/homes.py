"""Where each model lives when every chunk has one place for good.

Models are arcs on a ring as long as the arena; together they are longer, so arcs overlap. A chunk has to come
again when any model that lies on it ran since its own model did. With requests drawn independently, by shares
p, that has probability K ÷ (p + K), where K sums the shares of the models that lie on it. The best places
make bytes × p × K ÷ (p + K), summed over all chunks, least: exactly the bytes that a request moves in the
long run. A miss, however small, counts `MISS_CHUNKS` more: without that, hits are given up to save a few
bytes.

Places are searched model by model, the most popular first, each where others begin or end, and again until
nothing improves. A chunk at the front of a model counts a little more than one at the back: the back arrives
while the front runs.

Traps: a chunk is contiguous, so an arc wraps at a chunk's boundary and leaves the arena's last bytes unused.
A model larger than the arena cannot have a place for every chunk: its first chunks keep theirs, and the
others pass through a window of `WINDOW_CHUNKS` at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import BudgetError, UsageError
from harness.residency.layout import ModelLayout, whole_lines

__all__ = ["WINDOW_CHUNKS", "Home", "by_popularity", "expected_bytes", "find_homes", "home_at"]

WINDOW_CHUNKS = 3
"""Of the largest size: one is computed, one has landed, one arrives."""

MAX_SWEEPS = 4
MISS_CHUNKS = 2
"""What a miss counts besides its bytes, in the largest chunks: a hit is worth something of its own."""
FRONT = 0.03
"""How much more the first chunk counts than the last."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Home(NamedTuple):
    """The places of a model's chunks."""

    offsets: tuple[int, ...]
    """Per chunk."""
    num_fixed: int
    """Chunks that have their place to themselves within the model; fewer than all only if it is too large."""
    arcs: tuple[tuple[int, int], ...]
    """What they cover, as [start, end)."""


def find_homes(
    layouts: Mapping[str, ModelLayout], capacity_bytes: int, popularity: Mapping[str, float] | None = None
) -> dict[str, Home]:
    """Place every model where it is expected to conflict least.

    popularity: share of requests per model, any scale; None when it is not known: all alike.

    Raises
    ------
    BudgetError: a model is too large even to stream through this arena.
    UsageError: the popularity of a model is missing, or is not positive; or the capacity is not.
    """
    if capacity_bytes <= 0:
        raise UsageError(f"arena: capacity {capacity_bytes} bytes; give at least a model's size")
    capacity_bytes = whole_lines(capacity_bytes)
    shares = _shares(layouts, popularity)
    homes: dict[str, Home] = {}
    for sweep in range(MAX_SWEEPS):
        before = dict(homes)
        for model in by_popularity(shares):
            others = {one: home for one, home in homes.items() if one != model}
            homes[model] = _Search(layouts, others, shares, model, capacity_bytes).best()
        if sweep and homes == before:
            break
    return homes


def by_popularity(popularity: Mapping[str, float]) -> list[str]:
    """Names from the most to the least popular; equals stay in their order."""
    return sorted(popularity, key=lambda model: -popularity[model])


def expected_bytes(
    layouts: Mapping[str, ModelLayout], homes: Mapping[str, Home], popularity: Mapping[str, float]
) -> float:
    """Bytes that a request moves in the long run, when requests are drawn independently."""
    shares = _shares(layouts, popularity)
    total = 0.0
    for model, home in homes.items():
        starts, ends = _bounds(layouts[model], home)
        others = [(one.arcs, shares[other]) for other, one in homes.items() if other != model]
        total += _again(
            np.diff(np.asarray(layouts[model].starts, float)), shares[model], _rivals(starts, ends, others)
        )
    return total


def home_at(layout: ModelLayout, start: int, capacity_bytes: int) -> Home | None:
    """The home that begins at `start`; None if the model would lie on itself though it need not.

    Raises
    ------
    BudgetError: the model is larger than the arena and its window leaves no room in it.
    """
    if layout.num_bytes > capacity_bytes:
        return _streamed(layout, capacity_bytes)
    offsets: list[int] = []
    arcs: list[tuple[int, int]] = []
    begun = at = start
    for chunk in layout.chunks:
        if at + chunk.num_bytes > capacity_bytes:
            arcs.append((begun, at))
            begun = at = 0
        offsets.append(at)
        at += chunk.num_bytes
    arcs.append((begun, at))
    if len(arcs) > 2 or (len(arcs) == 2 and at > start):
        return None
    return Home(tuple(offsets), layout.num_chunks, tuple(arc for arc in arcs if arc[0] < arc[1]))


class _Search:
    """The best place of one model among the others'."""

    def __init__(
        self,
        layouts: Mapping[str, ModelLayout],
        others: Mapping[str, Home],
        shares: Mapping[str, float],
        model: str,
        capacity_bytes: int,
    ) -> None:
        self.layout = layouts[model]
        self.share = shares[model]
        self.capacity_bytes = capacity_bytes
        self.miss_bytes = MISS_CHUNKS * max(c.num_bytes for layout in layouts.values() for c in layout.chunks)
        self.arcs = [(home.arcs, shares[name]) for name, home in others.items()]
        self.shares = np.array([shares[name] for name in others])
        bounds = [_bounds(layouts[name], home) for name, home in others.items()]
        sizes = [len(starts) for starts, _ in bounds]
        self.firsts = np.cumsum([0, *sizes[:-1]])
        empty = np.empty(0, np.int64)
        self.starts = np.concatenate([empty, *(starts for starts, _ in bounds)])
        self.ends = np.concatenate([empty, *(ends for _, ends in bounds)])
        self.weights = np.concatenate([np.empty(0), *(_weights(layouts[name]) for name in others)])
        self.their = np.repeat(self.shares, sizes)
        rivals = [
            _rivals(*own, [arc for i, arc in enumerate(self.arcs) if i != at])
            for at, own in enumerate(bounds)
        ]
        self.rivals = np.concatenate([np.empty(0), *rivals])
        self.met = np.array([_met(own, self.arcs, at) for at, own in enumerate(bounds)])

    def best(self) -> Home:
        """Try where arcs begin and end, then where chunks do near the best of those."""
        edges = {0} | {edge for arcs, _ in self.arcs for arc in arcs for edge in arc}
        coarse = self._least({edge - back for edge in edges for back in (0, self.layout.num_bytes)})
        reach = 2 * max(chunk.num_bytes for chunk in self.layout.chunks)
        fine = {coarse.offsets[0]}
        for here in (coarse.arcs[0][0], coarse.arcs[-1][1]):
            near = self.starts[np.abs(self.starts - here) <= reach]
            fine |= {coarse.offsets[0] + int(edge) - here for edge in near}
        return self._least(fine)

    def _least(self, starts: Iterable[int]) -> Home:
        placed = (
            home_at(self.layout, at, self.capacity_bytes) for at in {s % self.capacity_bytes for s in starts}
        )
        return min(filter(None, placed), key=lambda home: (round(self._cost(home)), home.offsets))

    def _cost(self, home: Home) -> float:
        if not len(self.starts):
            return 0.0
        covered = _rivals(self.starts, self.ends, [(home.arcs, self.share)])
        moved = _again(self.weights, self.their, self.rivals + covered)
        moved += _again(_weights(self.layout), self.share, _rivals(*_bounds(self.layout, home), self.arcs))
        meets = np.maximum.reduceat(covered, self.firsts)
        misses = _again(1.0, self.shares, self.met + meets)
        misses += _again(1.0, self.share, np.array(self.shares[meets > 0].sum()))
        return moved + self.miss_bytes * misses


def _streamed(layout: ModelLayout, capacity_bytes: int) -> Home:
    window_bytes = WINDOW_CHUNKS * max(chunk.num_bytes for chunk in layout.chunks)
    if window_bytes > capacity_bytes:
        raise BudgetError(
            f"{layout.name}: streaming needs {window_bytes} bytes for {WINDOW_CHUNKS} chunks, "
            f"the arena has {capacity_bytes}; give it that"
        )
    floor = num_fixed = 0
    while floor + layout.chunks[num_fixed].num_bytes <= capacity_bytes - window_bytes:
        floor += layout.chunks[num_fixed].num_bytes
        num_fixed += 1
    offsets = list(layout.starts[:num_fixed])
    at = floor
    for chunk in layout.chunks[num_fixed:]:
        at = floor if at + chunk.num_bytes > capacity_bytes else at
        offsets.append(at)
        at += chunk.num_bytes
    return Home(tuple(offsets), num_fixed, ((0, capacity_bytes),))


def _shares(layouts: Mapping[str, ModelLayout], popularity: Mapping[str, float] | None) -> dict[str, float]:
    if popularity is None:
        return dict.fromkeys(layouts, 1.0 / len(layouts))
    for model in layouts:
        if not popularity.get(model, 0.0) > 0.0:
            given = popularity.get(model)
            raise UsageError(f"popularity of {model} is {given}; give every model a positive share")
    total = sum(popularity[model] for model in layouts)
    return {model: popularity[model] / total for model in layouts}


def _bounds(layout: ModelLayout, home: Home) -> tuple[_Ints, _Ints]:
    starts = np.asarray(home.offsets, np.int64)
    return starts, starts + np.array([chunk.num_bytes for chunk in layout.chunks], np.int64)


def _weights(layout: ModelLayout) -> _Floats:
    """Bytes per chunk, those in front a little heavier."""
    return np.diff(np.asarray(layout.starts, float)) * np.linspace(1.0 + FRONT, 1.0, layout.num_chunks)


def _rivals(
    starts: _Ints, ends: _Ints, others: Iterable[tuple[tuple[tuple[int, int], ...], float]]
) -> _Floats:
    """Per chunk, the shares of the models that lie on it."""
    total = np.zeros(len(starts))
    for arcs, share in others:
        hit = np.zeros(len(starts), bool)
        for start, end in arcs:
            hit |= (starts < end) & (ends > start)
        total += share * hit
    return total


def _met(own: tuple[_Ints, _Ints], arcs: list[tuple[tuple[tuple[int, int], ...], float]], at: int) -> float:
    """Shares of the models that lie on any chunk of number `at`."""
    return sum(arc[1] for i, arc in enumerate(arcs) if i != at and _rivals(*own, [arc]).any())


def _again(sizes: float | _Floats, share: float | _Floats, rivals: _Floats) -> float:
    """What has to come again per request: bytes, or with sizes of 1 the chance of a miss."""
    return float(np.sum(sizes * share * rivals / (share + rivals)))
