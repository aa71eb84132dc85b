"""What became of the agents of each arm and count: their steps, their quantiles, and who was refused.

Read of a record "<arm>-<count>": its sweep's points named "request", one per step, with arm, phase,
`total_s`, `ttft_s` and `queue_s`; of its rounds the memory that was refused. A control that has no record of
its own counts as the arm that it is. A quantile comes with what n supports: below that there is none, and
nothing is drawn or printed in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.records import Record

if TYPE_CHECKING:
    from reports.stats import Interval

__all__ = [
    "ARMS",
    "REASON",
    "REFLECT",
    "Point",
    "highest",
    "is_count",
    "needed",
    "points",
    "quantile",
    "sweep",
]

ARMS = ("ray-keepalive", "ray-serverless", "shared-recompute", "shared", "engine-prefix-cache")
"""In the order in which they are shown: the source's two peers first."""
REASON, REFLECT = "reason", "reflect"
REQUEST, POINT = "request", "point"
QUANTILES = (0.99, 0.95, 0.9, 0.75, 0.5)
_COUNTED = re.compile(rf"({'|'.join(ARMS)})-(\d+)")


class Point(NamedTuple):
    """An arm at one count of agents."""

    arm: str
    agents: int
    steps: tuple[Mapping[str, Any], ...]
    """Of all rounds, as the record has them."""
    oom_at: int | None
    """The number of the first agent that was refused memory; None where nobody was."""
    finished: int | None
    """Agents that took both steps, at least; None where it was not told."""
    evidence: str

    def values(self, key: str, phase: str | None = None) -> list[float]:
        """A number of every step that has it, of one phase or of both."""
        kept = [s for s in self.steps if phase in (None, s.get("phase"))]
        return [float(v) for s in kept if (v := s.get(key)) is not None]


def points(records: Iterable[Record]) -> list[Point]:
    """Every arm and count, in the order of `ARMS` and rising."""
    records = list(records)
    found: dict[tuple[str, int], Point] = {}
    for record in records:
        if named := _named(record.variant):
            found[named] = _point(named, record, "treatment")
    for record in records:
        named = _named(record.control or "") if is_count(record.variant) else None
        if named and named not in found:
            found[named] = _point(named, record, "control")
    return sorted((p for p in found.values() if _has_any(p)), key=lambda p: (ARMS.index(p.arm), p.agents))


def is_count(variant: str) -> bool:
    """Whether a variant is an arm at a count of agents, and not a curve or another run of its own."""
    return _named(variant) is not None


def quantile(values: Sequence[float], share: float) -> Interval | None:
    """A quantile with its interval; None below the number of values that it needs."""
    from reports.intervals.quantiles import quantile_of
    from reports.stats import Unsupported

    found = quantile_of(values, share)
    return None if isinstance(found, Unsupported) else found


def needed(share: float) -> int:
    """The fewest values that support a quantile."""
    from reports.intervals.quantiles import needed_for

    return needed_for(share)


def highest(values: Sequence[float]) -> tuple[float, Interval] | None:
    """The highest usual quantile that so many values support; None where not even the median is."""
    found = ((share, quantile(values, share)) for share in QUANTILES)
    return next(((share, one) for share, one in found if one is not None), None)


def sweep(records: Iterable[Record], variant: str) -> tuple[Record, list[Mapping[str, Any]]] | None:
    """The record of a curve and its points; None where there is none."""
    for record in records:
        found = [p for p in record.sweep if p.get("name") == POINT]
        if record.variant == variant and found:
            return record, list(found)
    return None


def _named(variant: str) -> tuple[str, int] | None:
    found = _COUNTED.fullmatch(variant)
    return (found[1], int(found[2])) if found else None


def _point(named: tuple[str, int], record: Record, side: str) -> Point:
    refused, finished = record.values("oom_at", side), record.values("finished_agents", side)
    return Point(
        arm=named[0],
        agents=named[1],
        steps=tuple(p for p in record.sweep if p.get("name") == REQUEST and p.get("arm") == side),
        oom_at=round(min(refused)) if refused else None,
        finished=round(min(finished)) if finished else None,
        evidence=record.evidence,
    )


def _has_any(point: Point) -> bool:
    return bool(point.steps) or point.oom_at is not None
