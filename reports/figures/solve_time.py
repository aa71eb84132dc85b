"""How long planning a step takes as it grows: exact beside a warm LP solver beside cvxpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from reports.figures import curves
from reports.runs import Run
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["RECORD", "Data", "data", "draw"]

RECORD = "solve-time-by-size"
TAIL = "p99, open"


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    sizes: tuple[str, ...]
    """"tasks × models", the smallest first."""
    median_ms: Mapping[str, Mapping[str, Estimate]]
    """Planner → size → milliseconds per call."""
    p99_ms: Mapping[str, Mapping[str, Estimate]]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Median and 99th percentile of each planner at each size; None where none was recorded."""
    record = curves.record(run, experiment, RECORD)
    if record is None:
        return None
    found = [p for p in curves.points(record) if (p.get("median_ms") or 0.0) > 0]
    if not found:
        return None
    median_ms, p99_ms = (
        {
            planner: {
                size_of(p): Estimate(p[key])
                for p in found
                if p["planner"] == planner and (p.get(key) or 0.0) > 0
            }
            for planner in curves.planners(found)
        }
        for key in ("median_ms", "p99_ms")
    )
    notes = (
        "Filled: median, open above it: 99th percentile, of whole calls that plan one step. Logarithmic "
        "axis: a line of the grid is ten times the one beneath.",
        "Planners stand slightly apart at one size; a missing mark was not measured.",
    )
    title = f"{experiment}: time to plan a step, by size"
    return Data(title, curves.scope(record), sizes_of(found), median_ms, p99_ms, notes)


def size_of(point: Mapping[str, object]) -> str:
    """The size of a point in words."""
    return f"{point.get('num_tasks')} × {point.get('num_models')}"


def sizes_of(found: list[Mapping[str, object]]) -> tuple[str, ...]:
    """The sizes of points, the smallest first."""
    by_size = sorted(found, key=lambda p: float(p.get("num_tasks") or 0) * float(p.get("num_models") or 0))  # type: ignore[arg-type]
    return tuple(dict.fromkeys(size_of(p) for p in by_size))


def draw(data: Data) -> Figure:
    """A line of medians per planner, its tail in open marks."""
    from matplotlib.lines import Line2D

    from reports.figures import base

    names = tuple(data.median_ms)
    height = curves.key_height((*names, TAIL))
    figure, _ = base.frame(4.2 + height, data.title, data.scope, data.notes)
    top, ((axes,),) = curves.grid(figure, 1, 1, 4.2, height)
    axes.set_yscale("log")
    found = curves.looks(names)
    for i, name in enumerate(names):
        place = 1.4 * (i - (len(names) - 1) / 2)
        curves.draw(axes, data.sizes, data.median_ms[name], found[name], place, 1.0)
        _tails(axes, data, name, found[name], place)
    curves.name_levels(axes, data.sizes)
    tail = Line2D([], [], color=base.INK, marker="o", markerfacecolor="white", linewidth=0.9, label=TAIL)
    curves.key(top, names, found, [tail])
    axes.set_xlabel("tasks × models")
    axes.set_ylabel("time per call, ms (log)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


def _tails(axes: Axes, data: Data, name: str, look: curves.Look, place: float) -> None:
    for at, size in enumerate(data.sizes):
        low, high = data.median_ms[name].get(size), data.p99_ms[name].get(size)
        if low is None or high is None or low.value is None or high.value is None:
            continue
        x = at + place * curves.DODGE
        axes.plot([x, x], [low.value, high.value], color=look.colour, linewidth=0.9, zorder=2)
        axes.plot(
            [x],
            [high.value],
            color=look.colour,
            marker=look.marker,
            markersize=5.5,
            markerfacecolor="white",
            zorder=3,
        )
