"""Load at rising rate: what each arm served of what was offered, over all rounds that offered it.

A record's `sweep` holds points of name "open_loop", one per arm, rate and round: {arm, variant, rate_per_s,
goodput_per_s, throughput_per_s, p50_s, slo_s, n, round, and where sessions were merged, session}. An arm
that several tests measured (the baseline, beside each variant) pools their rounds; where what was measured
stayed up for a session, each record's sessions are the observations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from reports.records import Record
from reports.tabular.means import Estimate, mean

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
    is_by_session: bool = False
    """Whether intervals of some arm are over sessions, not over rounds."""


class Measured(NamedTuple):
    """A point and the record that it is of."""

    record: Record
    point: Mapping[str, Any]


def ladders(records: Iterable[Record], experiment: str) -> Ladders:
    """Means with Student's 95 % interval for each arm and rate, over rounds or sessions."""
    from reports.intervals.launches import is_by_launch

    swept = [r for r in records if r.experiment == experiment and r.sweep]
    found = [Measured(r, p) for r in swept for p in r.sweep if p.get("name") == POINTS]
    groups: dict[tuple[str, float], list[Measured]] = {}
    for one in found:
        groups.setdefault((_arm(one), float(one.point["rate_per_s"])), []).append(one)
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
        is_by_session=any(is_by_launch(record) for record, _ in found),
    )


def _arm(one: Measured) -> str:
    """The name of a point's arm: its variant, or the record's own word for treatment and control."""
    arm = one.point.get("variant") or one.point.get("arm") or "treatment"
    return str({"treatment": one.record.variant, "control": one.record.control}.get(str(arm), arm))


def _mean(group: Sequence[Measured], key: str) -> Estimate:
    """Over rounds; over sessions of the records where those are the observations."""
    from reports.intervals.launches import is_by_launch

    known = [one for one in group if one.point.get(key) is not None]
    values = [one.point[key] for one in known]
    if not any(is_by_launch(record) for record, _ in known):
        return mean(values)
    units = [
        (id(record), point.get("session") or 0) if is_by_launch(record) else (id(point), 0)
        for record, point in known
    ]
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    return mean(values, sessions=[places[unit] for unit in units])


def _scope(records: Sequence[Record], groups: Mapping[tuple[str, float], list[Measured]]) -> str:
    if not records:
        return "nothing measured"
    models = {role: label for r in records for role, label in r.models.items()}
    rounds = sorted({len(group) for group in groups.values()})
    sizes = sorted({int(p["n"]) for group in groups.values() for _, p in group if p.get("n") is not None})
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
