"""Load at rising rate: what each arm served of what was offered, over all rounds that offered it.

A record's `sweep` holds points of name "open_loop", one per arm, rate and round: {arm, variant, rate_per_s,
goodput_per_s, throughput_per_s, p50_s, slo_s, n, round}. An arm that several tests measured (the baseline,
beside each variant) pools their rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from reports.records import Record
from reports.tabular.summaries import Estimate, mean

__all__ = ["POINTS", "Ladders", "Point", "ladders"]

POINTS = "open_loop"
SAME_SLO = 0.01
"""Relative spread up to which the records' SLOs are one."""


class Point(NamedTuple):
    """One arm at one offered rate."""

    arm: str
    rate_per_s: float
    goodput_per_s: Estimate
    throughput_per_s: Estimate
    p50_s: Estimate


class Ladders(NamedTuple):
    """All arms of one experiment."""

    scope: str
    slo_s: float | None
    """`None` when the records state several, or none."""
    slos_s: tuple[float, ...]
    arms: tuple[str, ...]
    """Controls first."""
    points: tuple[Point, ...]


def ladders(records: Iterable[Record], experiment: str) -> Ladders:
    """Means with Student's 95 % interval for each arm and rate."""
    swept = [r for r in records if r.experiment == experiment and r.sweep]
    found = [(_arm(r, p), p) for r in swept for p in r.sweep if p.get("name") == POINTS]
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for arm, point in found:
        groups.setdefault((arm, float(point["rate_per_s"])), []).append(point)
    arms = tuple(dict.fromkeys(arm for arm, _ in groups))
    controls = tuple(a for a in arms if a in {r.control for r in swept})
    slos = tuple(sorted({float(p["slo_s"]) for _, p in found if p.get("slo_s") is not None}))
    return Ladders(
        scope=_scope(swept, groups),
        slo_s=fmean(slos) if slos and slos[-1] - slos[0] <= SAME_SLO * slos[0] else None,
        slos_s=slos,
        arms=(*controls, *(a for a in arms if a not in controls)),
        points=tuple(
            Point(arm, rate, *(_mean(group, key) for key in ("goodput_per_s", "throughput_per_s", "p50_s")))
            for (arm, rate), group in groups.items()
        ),
    )


def _arm(record: Record, point: Mapping[str, Any]) -> str:
    """The name of a point's arm: its variant, or the record's own word for treatment and control."""
    arm = point.get("variant") or point.get("arm") or "treatment"
    return str({"treatment": record.variant, "control": record.control}.get(str(arm), arm))


def _mean(points: Iterable[Mapping[str, Any]], key: str) -> Estimate:
    return mean([v for p in points if (v := p.get(key)) is not None])


def _scope(records: Sequence[Record], groups: Mapping[tuple[str, float], list[Mapping[str, Any]]]) -> str:
    if not records:
        return "nothing measured"
    models = {role: label for r in records for role, label in r.models.items()}
    rounds = sorted({len(group) for group in groups.values()})
    sizes = sorted({int(p["n"]) for group in groups.values() for p in group if p.get("n") is not None})
    parts = [
        " and ".join(dict.fromkeys(r.backend for r in records)),
        ", ".join(f"{role} = {label}" for role, label in models.items()),
        f"{_range(rounds)} rounds of {_range(sizes)} arrivals at each rate" if rounds and sizes else "",
        "profile " + " and ".join(dict.fromkeys(r.profile for r in records)),
        " and ".join(dict.fromkeys(r.evidence for r in records)),
    ]
    return " · ".join(part for part in parts if part)


def _range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
