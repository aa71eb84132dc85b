"""Where each model lives when every chunk has one place for good.

Models are arcs on a ring as long as the arena; together they are longer, so arcs overlap. In a stretch that
several models share, whoever runs writes over the others: with request shares p, its owner changes with
probability Σp − Σp² ÷ Σp per request, and each change is that many bytes. The best places make the sum over all
stretches least; the most popular model is placed first, so it conflicts least.

Traps: a chunk is contiguous, so an arc wraps at a chunk's boundary and leaves the arena's last bytes unused. A
model larger than the arena cannot have a place for every chunk: its first chunks keep theirs, and the others
pass through a window of `WINDOW_CHUNKS` at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harness.errors import BudgetError, UsageError
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import by_popularity

__all__ = ["WINDOW_CHUNKS", "Home", "expected_bytes", "find_homes", "home_at"]

WINDOW_CHUNKS = 3
"""Of the largest size: one is computed, one has landed, one arrives."""

MAX_SWEEPS = 4


class Home(NamedTuple):
    """The places of a model's chunks."""

    offsets: tuple[int, ...]
    """Per chunk."""
    num_fixed: int
    """Chunks that have their place to themselves within the model; fewer than all only if it is too large."""
    arcs: tuple[tuple[int, int], ...]
    """What they cover, as [start, end)."""


class _Stretch(NamedTuple):
    start: int
    end: int
    share: float
    """Σp over the models that live here."""
    square: float
    """Σp²."""


def find_homes(
    layouts: Mapping[str, ModelLayout], capacity_bytes: int, popularity: Mapping[str, float] | None = None
) -> dict[str, Home]:
    """Place every model where it is expected to conflict least.

    popularity: share of requests per model, any scale; None when it is not known: all alike.

    Raises
    ------
    BudgetError: a model is too large even to stream through this arena.
    UsageError: the popularity of a model is missing, or is not positive.
    """
    shares = _shares(layouts, popularity)
    homes: dict[str, Home] = {}
    order = by_popularity(shares)
    for sweep in range(MAX_SWEEPS):
        before = dict(homes)
        for model in order:
            others = {one: home for one, home in homes.items() if one != model}
            homes[model] = _best(layouts[model], capacity_bytes, _stretches(others, shares), shares[model])
        if sweep and homes == before:
            break
    return homes


def expected_bytes(homes: Mapping[str, Home], popularity: Mapping[str, float]) -> float:
    """Bytes that a request moves in the long run, when requests are drawn independently."""
    total = sum(popularity[model] for model in homes)
    shares = {model: popularity[model] / total for model in homes}
    return sum((s.end - s.start) * _turnover(s.share, s.square) for s in _stretches(homes, shares))


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


def _streamed(layout: ModelLayout, capacity_bytes: int) -> Home:
    window_bytes = WINDOW_CHUNKS * max(chunk.num_bytes for chunk in layout.chunks)
    if window_bytes > capacity_bytes:
        raise BudgetError(
            f"{layout.name}: streaming needs {window_bytes} bytes for {WINDOW_CHUNKS} chunks, "
            f"the arena has {capacity_bytes}; give it that"
        )
    floor = 0
    num_fixed = 0
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
            raise UsageError(
                f"popularity of {model} is {popularity.get(model)}; give every model a positive share"
            )
    total = sum(popularity[model] for model in layouts)
    return {model: popularity[model] / total for model in layouts}


def _best(layout: ModelLayout, capacity_bytes: int, taken: list[_Stretch], share: float) -> Home:
    """Try where others begin and end, and where this one would end there."""
    edges = {0} | {stretch.start for stretch in taken} | {stretch.end for stretch in taken}
    starts = sorted({(edge - back) % capacity_bytes for edge in edges for back in (0, layout.num_bytes)})
    homes = [home for start in starts if (home := home_at(layout, start, capacity_bytes)) is not None]
    return min(homes, key=lambda home: (round(_conflict(home, taken, share)), home.offsets))


def _conflict(home: Home, taken: Iterable[_Stretch], share: float) -> float:
    """Bytes per request that this home adds."""
    total = 0.0
    for stretch in taken:
        shared = sum(max(0, min(end, stretch.end) - max(start, stretch.start)) for start, end in home.arcs)
        if shared:
            more = _turnover(stretch.share + share, stretch.square + share * share)
            total += shared * (more - _turnover(stretch.share, stretch.square))
    return total


def _turnover(share: float, square: float) -> float:
    """Probability that a request changes the owner of a stretch."""
    return share - square / share if share else 0.0


def _stretches(homes: Mapping[str, Home], shares: Mapping[str, float]) -> list[_Stretch]:
    """The ring cut wherever an arc begins or ends."""
    edges = sorted({edge for home in homes.values() for arc in home.arcs for edge in arc})
    cut = []
    for start, end in zip(edges, edges[1:], strict=False):
        here = [
            shares[model]
            for model, home in homes.items()
            if any(a <= start and end <= b for a, b in home.arcs)
        ]
        cut.append(_Stretch(start, end, sum(here), sum(share * share for share in here)))
    return cut
