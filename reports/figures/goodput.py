"""Goodput against offered rate: how much load each variant serves within the SLO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from reports import cells
from reports.records import Record
from reports.runs import Run
from reports.summaries import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["POINTS", "Data", "Point", "data", "draw"]

POINTS = "open_loop"
"""The name of the sweep's points that this figure shows."""
MARKERS = "sovD^P*"


class Point(NamedTuple):
    """One arm at one offered rate."""

    arm: str
    rate_per_s: float
    goodput_per_s: Estimate
    p50_s: Estimate


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    slo_s: float | None
    """`None` when the records state several."""
    arms: tuple[str, ...]
    points: tuple[Point, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data:
    """Mean goodput and median latency at each rate, over all rounds that offered it to the arm."""
    records = [r for r in run.records if r.experiment == experiment and r.sweep]
    found = [(_arm(r, p), p) for r in records for p in r.sweep if p.get("name") == POINTS]
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for arm, point in found:
        groups.setdefault((arm, float(point["rate_per_s"])), []).append(point)
    points = tuple(
        Point(arm, rate, _mean(group, "goodput_per_s"), _mean(group, "p50_s"))
        for (arm, rate), group in groups.items()
    )
    arms = tuple(sorted({arm for arm, _ in groups}, key=[arm for arm, _ in groups].index))
    controls = [a for a in arms if a in {r.control for r in records}]
    arms = (*controls, *(a for a in arms if a not in controls))
    slos = sorted({float(p["slo_s"]) for _, p in found if p.get("slo_s") is not None})
    slo_s = fmean(slos) if slos and slos[-1] - slos[0] <= 0.01 * slos[0] else None
    within = f"the SLO of {cells.estimate(slo_s, None, 's')} per task" if slo_s else "the SLO of each record"
    return Data(
        title=f"{experiment}: goodput against offered rate, tasks finished within {within}",
        scope=_scope(records, groups),
        slo_s=slo_s,
        arms=arms,
        points=points,
        notes=tuple(_notes(slos, slo_s)),
    )


def draw(data: Data) -> Figure:
    """Goodput on the left, median latency with the SLO on the right."""
    from reports.figures import base

    if not data.points:
        return base.empty(data.title, data.scope, "No variant of this run was offered load in an open loop.")
    figure, _ = base.frame(3.9, data.title, data.scope, data.notes)
    left, right = figure.subplots(1, 2)
    latency = cells.scale_of("s", [data.slo_s, *(p.p50_s.value for p in data.points)])
    for i, arm in enumerate(data.arms):
        mine = sorted((p for p in data.points if p.arm == arm), key=lambda p: p.rate_per_s)
        _curve(left, mine, [p.goodput_per_s for p in mine], cells.Scale(1, ""), i)
        _curve(right, mine, [p.p50_s for p in mine], latency, i)
    top = max(p.rate_per_s for p in data.points)
    left.plot([0, top], [0, top], color=base.GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    left.set_ylim(0, _highest(p.goodput_per_s for p in data.points) * 1.15)
    left.set_ylabel("goodput, tasks/s within the SLO")
    right.set_ylim(0, max(_highest(p.p50_s for p in data.points), data.slo_s or 0.0) * latency.factor * 1.12)
    right.set_ylabel(f"median latency, {latency.unit}, from the intended start")
    if data.slo_s:
        slo = data.slo_s * latency.factor
        right.axhline(slo, color=base.INK, linewidth=1.0, linestyle=(0, (1, 1.5)))
        right.text(0.01, slo, " SLO", transform=right.get_yaxis_transform(), va="bottom", fontsize=8.5)
    for axes in (left, right):
        axes.set_xlim(0, top * 1.05)
        axes.set_xlabel("offered rate, tasks/s")
    left.legend(loc="upper left")  # free: goodput cannot exceed what is offered
    return figure


def _curve(axes: Axes, points: list[Point], values: list[Estimate], scale: cells.Scale, i: int) -> None:
    from reports.figures import base

    known = [(p.rate_per_s, e) for p, e in zip(points, values, strict=True) if e.value is not None]
    colour = base.PALETTE[(1 if i == 0 else 0 if i == 1 else i) % len(base.PALETTE)]
    for rate, e in known:
        ends = scale.interval(e.interval)
        if ends is not None:
            axes.plot([rate, rate], ends, color=colour, linewidth=1.0, marker="_", markersize=5, alpha=0.8)
    axes.plot(
        [rate for rate, _ in known],
        [e.value * scale.factor for _, e in known if e.value is not None],
        marker=MARKERS[i % len(MARKERS)],
        markersize=5,
        linewidth=1.5,
        color=colour,
        label=points[0].arm,
    )


def _arm(record: Record, point: Mapping[str, Any]) -> str:
    """The name of a point's arm: its variant, or the record's own word for treatment and control."""
    arm = point.get("variant") or point.get("arm") or "treatment"
    return str({"treatment": record.variant, "control": record.control}.get(str(arm), arm))


def _mean(points: Iterable[Mapping[str, Any]], key: str) -> Estimate:
    from reports.summaries import mean

    return mean([v for p in points if (v := p.get(key)) is not None])


def _highest(estimates: Iterable[Estimate]) -> float:
    ends = [end for e in estimates for end in (e.value, e.high) if end is not None]
    return max(ends, default=1.0) or 1.0


def _scope(records: list[Record], groups: Mapping[tuple[str, float], list[Mapping[str, Any]]]) -> str:
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


def _notes(slos: list[float], slo_s: float | None) -> list[str]:
    notes = [
        "Means over rounds with Student's 95 % interval. Latency counts from the intended start of a task."
    ]
    notes += ["Dashed: everything that is offered finishes within the SLO."]
    if slos and slo_s is None:
        notes += [f"The records hold themselves to different SLOs, {slos[0]:.3g} to {slos[-1]:.3g} s."]
    return notes
