"""What was simulated: points of policies along a key, one grid per setting of all others.

Read of a record whose variant begins with "sim-": its sweep's points named "point", one per policy and
setting. Ratios in them are times as fast as the control. Of several settings, the one that live arms have is
shown: the published mix, the arena filled before the first request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reports.experiments.switching import EXPERIMENT, in_order, span
from reports.records import Record

__all__ = ["Grid", "grid", "grids", "simulated_scope"]

POINT = "point"
SETTING = ("models", "mix", "warm", "buffer_gb", "link_gb_s")
TRACE = "trace"
MIXES, WARM = ("published", "published-mix"), ("fill", "each", "cold")


class Grid(NamedTuple):
    """Points of one setting along one of its keys."""

    record: Record
    along: str
    fixed: Mapping[str, Any]
    """Key of the setting → its value; `along` is not among them."""
    points: tuple[Mapping[str, Any], ...]

    @property
    def policies(self) -> tuple[str, ...]:
        """In the order of `ARMS`."""
        return in_order(str(p["policy"]) for p in self.points)

    @property
    def levels(self) -> tuple[Any, ...]:
        """The values of `along`, rising."""
        return tuple(sorted({p[self.along] for p in self.points if p.get(self.along) is not None}))

    def at(self, policy: str, level: Any) -> Mapping[str, Any]:
        """The point of a policy at a level; empty where there is none."""
        found = (p for p in self.points if p["policy"] == policy and p.get(self.along) == level)
        return next(found, {})


def grids(records: Iterable[Record], variant: str, along: str) -> list[Grid]:
    """A simulated variant's points along a key, a grid per setting: the live arms' setting first."""
    out = []
    for record in records:
        if record.experiment != EXPERIMENT or record.variant != variant:
            continue
        groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for point in record.sweep:
            if point.get("name") == POINT and point.get("policy"):
                groups.setdefault(tuple(point.get(key) for key in SETTING if key != along), []).append(point)
        names = [key for key in SETTING if key != along]
        out += [
            Grid(record, along, dict(zip(names, key, strict=True)), tuple(of)) for key, of in groups.items()
        ]
    return sorted(out, key=_preference)


def grid(records: Iterable[Record], variant: str, along: str) -> Grid | None:
    """The first of `grids` that has two levels or more; None where none has."""
    return next((one for one in grids(records, variant, along) if len(one.levels) > 1), None)


def simulated_scope(one: Grid, level: Any = None) -> str:
    """What points of the simulator hold for; `level` is that of the key along which they run."""
    told = {**one.fixed, one.along: level}
    seeds = sorted({int(p["seeds"]) for p in one.points if p.get("seeds")})
    parts = [
        f"simulated ({one.record.evidence})" if one.record.evidence != "simulated" else "simulated",
        f"{told['models']} models" if told["models"] else "",
        f"buffer {told['buffer_gb']:g} GB" if told["buffer_gb"] else "",
        f"link {told['link_gb_s']:g} GB/s" if told["link_gb_s"] else "",
        _requests(told["mix"], seeds),
        f"warmed up: {told['warm']}" if told["warm"] else "",
        "published sizes and compute times",
    ]
    return " · ".join(part for part in parts if part)


def _requests(mix: str | None, seeds: Sequence[int]) -> str:
    """What was asked for, and how often it was drawn."""
    if mix == TRACE:
        return "one trace"
    drawn = f"{span(seeds)} seeds" if seeds else ""
    return f"{drawn} of the {mix} mix".strip() if mix else drawn


def _preference(one: Grid) -> tuple[bool, int]:
    warm = one.fixed.get("warm")
    return one.fixed.get("mix") not in MIXES, WARM.index(warm) if warm in WARM else len(WARM)
