"""Goodput against offered rate: how much load each variant serves within the SLO."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from reports.runs import Run
from reports.tabular import cells
from reports.tabular.ladders import Ladders, Point, ladders
from reports.tabular.means import BY_SESSION, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "data", "draw"]

MARKERS = "sovD^P*"


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
    found = ladders(run.records, experiment)
    within = (
        f"the SLO of {cells.estimate(found.slo_s, None, 's')} per task"
        if found.slo_s
        else "each record's SLO"
    )
    title = f"{experiment}: goodput against offered rate, tasks finished within {within}"
    return Data(title, found.scope, found.slo_s, found.arms, found.points, tuple(_notes(found)))


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
    left.set_ylim(0, _top((p.goodput_per_s for p in data.points), top))
    left.set_ylabel("goodput, tasks/s within the SLO")
    right.set_ylim(0, _top((p.p50_s for p in data.points), data.slo_s or 0.0) * latency.factor)
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

    aside = 1 + 0.012 * i  # so that intervals at one rate stand beside each other
    known = [(p.rate_per_s * aside, e) for p, e in zip(points, values, strict=True) if e.value is not None]
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


def _top(estimates: Iterable[Estimate], least: float) -> float:
    """The upper end of an axis: the widest interval, but no further than twice the means or `least`."""
    known = [e for e in estimates if e.value is not None]
    means = max([least, *(e.value for e in known if e.value is not None)])
    ends = max([means, *(e.high for e in known if e.high is not None)])
    return min(1.12 * ends, 2 * means) or 1.0


def _notes(found: Ladders) -> list[str]:
    notes = [
        "Means over rounds with Student's 95 % interval, cut at 0 and at the frame.",
        "Latency counts from the intended start of a task. Arms stand slightly apart at one rate.",
    ]
    notes += [f"{BY_SESSION.capitalize()}."] if found.is_by_session else []
    notes += ["Dashed: everything that is offered finishes within the SLO."]
    if found.slos_s and found.slo_s is None:
        low, high = found.slos_s[0], found.slos_s[-1]
        notes += [f"The records hold themselves to different SLOs, {low:.3g} to {high:.3g} s."]
    return notes
