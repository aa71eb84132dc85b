"""Cost against solved share: which variants nothing else beats on both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.runs import Run
from reports.tabular import cells
from reports.tabular.means import Estimate
from reports.tabular.summaries import Variant, scope, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Point", "data", "draw", "frontier"]

HINDSIGHT = ("oracle",)
"""Variants that know the grades: a ceiling, and no point of the frontier."""
LOG_FROM = 12.0
"""The ratio of dearest to cheapest from which costs stand on a logarithmic axis."""


class Point(NamedTuple):
    """One variant."""

    name: str
    cost_usd: Estimate
    solved: Estimate
    kind: str
    """"control", "variant" or "ceiling"."""
    on_frontier: bool


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    points: tuple[Point, ...]
    frontier: tuple[Point, ...]
    """From the cheapest to the dearest."""
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data:
    """Cost per task and solved share of every variant that has both."""
    variants = [v for v in summarize(run.records) if v.experiment == experiment]
    graded = [v for v in variants if v.cost_usd.value is not None and v.solved.value is not None]
    controls = {v.control for v in variants if v.control}
    backends = Counter(v.backend for v in variants)
    best = frontier([v for v in graded if v.name not in HINDSIGHT])
    points = tuple(
        Point(_name(v, backends), v.cost_usd, v.solved, _kind(v, controls), v in best) for v in graded
    )
    line = sorted((p for p in points if p.on_frontier), key=lambda p: p.cost_usd.value or 0.0)
    notes = [
        "Cost: mean over tasks, Student's 95 % interval; solved by hidden tests: Wilson's 95 % interval."
    ]
    notes += [
        "Line: variants that no other beats on both by the estimates; neighbours within intervals may swap."
    ]
    if any(p.kind == "ceiling" for p in points):
        notes += [f"{', '.join(HINDSIGHT)}: chosen with hindsight, a ceiling and not a choice."]
    absent = [v.name for v in variants if v not in graded]
    notes += [f"Without cost or grades: {', '.join(absent)}."] if absent else []
    return Data(f"{experiment}: cost against solved share", scope(graded), points, tuple(line), tuple(notes))


def frontier(variants: Sequence[Variant]) -> list[Variant]:
    """Those that no other beats: at most as dear and solving at least as much, one of both strictly."""

    def key(v: Variant) -> tuple[float, float]:
        assert v.cost_usd.value is not None
        assert v.solved.value is not None
        return v.cost_usd.value, -v.solved.value

    return [
        v
        for v in variants
        if not any(
            all(a <= b for a, b in zip(key(o), key(v), strict=True)) and key(o) != key(v) for o in variants
        )
    ]


def draw(data: Data) -> Figure:
    """Every variant with both intervals, the frontier as a line, names beside the points."""
    from reports.figures import base, labels

    if not data.points:
        why = "No variant of this run has both a cost and graded tasks. " + " ".join(data.notes[2:])
        return base.empty(data.title, data.scope, why)
    scale = cells.scale_of("USD", [p.cost_usd.value for p in data.points])
    figure, _ = base.frame(5.6, data.title, data.scope, data.notes)
    axes = figure.subplots()
    _line(axes, data, scale)
    for point in data.points:
        _point(axes, point, scale)
    _axes(axes, data, scale)
    base.settle(figure)  # names are placed in final pixels
    names = [
        labels.Label(
            "\n".join(base.wrapped(p.name, 26)), _x(p, scale), _y(p), base.INK if p.on_frontier else base.GREY
        )
        for p in data.points
    ]
    labels.place(axes, names, [labels.Segment(*ends) for ends in _segments(data, scale)])
    return figure


def _name(variant: Variant, backends: Counter[str]) -> str:
    """The variant's name, with its backend where that is not the one of most variants."""
    usual = backends.most_common(1)[0][0]
    return variant.name if variant.backend == usual else f"{variant.name} ({variant.backend})"


def _kind(variant: Variant, controls: set[str]) -> str:
    if variant.name in HINDSIGHT:
        return "ceiling"
    return "control" if variant.name in controls else "variant"


def _x(point: Point, scale: cells.Scale) -> float:
    return (point.cost_usd.value or 0.0) * scale.factor


def _segments(data: Data, scale: cells.Scale) -> Iterator[tuple[float, float, float, float]]:
    """Both bars of every point and the steps of the frontier, as (x0, y0, x1, y1)."""
    for p in data.points:
        x, y = _x(p, scale), _y(p)
        if p.solved.interval is not None:
            yield x, 100 * p.solved.interval[0], x, 100 * p.solved.interval[1]
        if p.cost_usd.interval is not None:
            yield p.cost_usd.interval[0] * scale.factor, y, p.cost_usd.interval[1] * scale.factor, y
    for a, b in pairwise(data.frontier):
        yield _x(a, scale), _y(a), _x(b, scale), _y(a)
        yield _x(b, scale), _y(a), _x(b, scale), _y(b)


def _y(point: Point) -> float:
    return 100 * (point.solved.value or 0.0)


def _line(axes: Axes, data: Data, scale: cells.Scale) -> None:
    from reports.figures import base

    xs = [_x(p, scale) for p in data.frontier]
    ys = [_y(p) for p in data.frontier]
    axes.plot(
        xs, ys, drawstyle="steps-post", color=base.PALETTE[0], linewidth=1.4, alpha=0.7, label="frontier"
    )


def _point(axes: Axes, point: Point, scale: cells.Scale) -> None:
    from reports.figures import base

    looks = {
        "control": ("s", base.PALETTE[1]),
        "variant": ("o", base.PALETTE[0]),
        "ceiling": ("*", base.PALETTE[2]),
    }
    marker, colour = looks[point.kind]
    x, y = _x(point, scale), _y(point)
    bars: dict[str, Any] = {"color": colour, "linewidth": 0.9, "alpha": 0.45, "zorder": 2}
    if point.solved.interval is not None:
        axes.plot([x, x], [100 * end for end in point.solved.interval], **bars)
    if point.cost_usd.interval is not None:
        axes.plot([end * scale.factor for end in point.cost_usd.interval], [y, y], **bars)
    filled = point.on_frontier or point.kind == "ceiling"
    axes.plot(
        [x],
        [y],
        marker=marker,
        markersize=10 if marker == "*" else 6.5,
        color=colour,
        markerfacecolor=colour if filled else "white",
        linestyle="none",
        zorder=3,
    )


def _axes(axes: Axes, data: Data, scale: cells.Scale) -> None:
    from matplotlib.lines import Line2D

    from reports.figures import base

    costs = [_x(p, scale) for p in data.points]
    if min(costs) > 0 and max(costs) / min(costs) > LOG_FROM:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, max(costs) * 1.12 or 1.0)
    lows = [100 * p.solved.low for p in data.points if p.solved.low is not None]
    highs = [100 * p.solved.high for p in data.points if p.solved.high is not None]
    axes.set_ylim(max(0.0, min(lows, default=0.0) - 6), min(101.0, max(highs, default=100.0) + 6))
    axes.set_xlabel(f"cost per task, {scale.unit} (cheaper to the left)")
    axes.set_ylabel("solved share, % of graded tasks")
    shown = [
        Line2D([], [], marker="o", color=base.PALETTE[0], linestyle="-", label="on the frontier"),
        Line2D(
            [],
            [],
            marker="o",
            color=base.PALETTE[0],
            markerfacecolor="white",
            linestyle="none",
            label="another costs no more and solves no less",
        ),
        Line2D(
            [],
            [],
            marker="s",
            color=base.PALETTE[1],
            markerfacecolor="white",
            linestyle="none",
            label="control",
        ),
        Line2D(
            [],
            [],
            marker="*",
            markersize=9,
            color=base.PALETTE[2],
            linestyle="none",
            label="ceiling (hindsight)",
        ),
    ]
    kinds = {"control", "ceiling"} - {p.kind for p in data.points}
    shown = [line for line in shown if not any(str(line.get_label()).startswith(kind) for kind in kinds)]
    axes.legend(handles=shown, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(shown))
