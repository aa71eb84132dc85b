"""Points of scores against a cost, with their intervals and their front: how `score_cost` draws a panel."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.tabular import cells
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["KINDS", "Panel", "Point", "draw", "key", "scale_of", "segments", "x_of", "y_of"]

KINDS = ("router", "model", "control", "ceiling")
SCORES = (-4.0, 104.0)
"""Per cent that the axis of scores may reach, so that marks at its ends are whole."""
LOG_FROM = 12.0
"""The ratio of dearest to cheapest from which costs stand on a logarithmic axis."""
REACH = 1.25
"""How far beyond a cost the axis follows its interval; what lies beyond is cut."""


class Point(NamedTuple):
    """One router; several that cannot be told apart share a point."""

    name: str
    cost: Estimate
    score: Estimate
    kind: str
    """One of `KINDS`."""
    also: tuple[str, ...] = ()
    """The kinds of the others that share the point."""


class Panel(NamedTuple):
    """All routers against one cost."""

    unit: str
    label: str
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    """Those that no other beats on both, from the cheapest to the dearest."""


def scale_of(panel: Panel) -> cells.Scale:
    """The scale of the costs."""
    return cells.scale_of(panel.unit, [p.cost.value for p in panel.points])


def x_of(point: Point, scale: cells.Scale) -> float:
    """The cost, as the axis has it."""
    return (point.cost.value or 0.0) * scale.factor


def y_of(point: Point) -> float:
    """The score in per cent."""
    return 100 * (point.score.value or 0.0)


def segments(panel: Panel, scale: cells.Scale) -> list[tuple[float, float, float, float]]:
    """The steps of the front, which names leave free."""
    out = []
    for a, b in pairwise(panel.front):
        out += [
            (x_of(a, scale), y_of(a), x_of(b, scale), y_of(a)),
            (x_of(b, scale), y_of(a), x_of(b, scale), y_of(b)),
        ]
    return out


def _looks() -> dict[str, tuple[str, str, str]]:
    """Kind → (mark, colour, words)."""
    from reports.figures import base

    return {
        "router": ("o", base.PALETTE[0], "computed"),
        "model": ("P", base.PALETTE[3], "a model plans"),
        "control": ("s", base.PALETTE[1], "control"),
        "ceiling": ("*", base.PALETTE[2], "ceiling (sees all)"),
    }


def draw(axes: Axes, panel: Panel) -> None:
    """The front, the points and their intervals, and what the axes show."""
    from reports.figures import base

    scale = scale_of(panel)
    axes.plot(
        [x_of(p, scale) for p in panel.front],
        [y_of(p) for p in panel.front],
        drawstyle="steps-post",
        color=base.INK,
        linewidth=1.2,
        alpha=0.6,
    )
    for point in panel.points:
        _point(axes, point, scale, is_filled=point in panel.front or point.kind == "ceiling")
    costs = [x_of(p, scale) for p in panel.points]
    if min(costs) > 0 and max(costs) / min(costs) > LOG_FROM:
        axes.set_xscale("log")
    else:
        margin = 0.16 * ((max(costs) - min(costs)) or max(costs) or 1.0)
        ends = [
            min(p.cost.high * scale.factor, REACH * x_of(p, scale))
            for p in panel.points
            if p.cost.high is not None
        ]
        axes.set_xlim(
            max(0.0, min(costs) - margin), max([max(costs) + margin, *(end + margin / 8 for end in ends)])
        )
    unit = f", {scale.unit}" if scale.unit else ""
    axes.set_xlabel(f"{panel.label}{unit} ({'faster' if panel.unit == 's' else 'cheaper'} to the left)")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, SCORES[0]), min(high, SCORES[1]))
    axes.set_ylabel("mean task score, %")
    for point in panel.points:
        _cut(axes, point, scale)


def _cut(axes: Axes, point: Point, scale: cells.Scale) -> None:
    """An arrow where an interval of the cost goes on beyond the axis."""
    if point.cost.interval is None:
        return
    left, right = axes.get_xlim()
    low, high = (end * scale.factor for end in point.cost.interval)
    look: dict[str, Any] = {"color": _looks()[point.kind][1], "markersize": 5, "alpha": 0.7, "clip_on": False}
    if high > right:
        axes.plot([right], [y_of(point)], marker=">", **look)
    if low < left:
        axes.plot([left], [y_of(point)], marker="<", **look)
    axes.set_xlim(left, right)


def _point(axes: Axes, point: Point, scale: cells.Scale, *, is_filled: bool) -> None:
    marker, colour, _ = _looks()[point.kind]
    x, y = x_of(point, scale), y_of(point)
    bars: dict[str, Any] = {"color": colour, "linewidth": 0.9, "alpha": 0.4, "zorder": 2}
    if point.score.interval is not None:
        axes.plot([x, x], [100 * end for end in point.score.interval], **bars)
    if point.cost.interval is not None:
        axes.plot([end * scale.factor for end in point.cost.interval], [y, y], **bars)
    size, inside = 10 if marker == "*" else 6.5, colour if is_filled else "white"
    axes.plot([x], [y], marker=marker, markersize=size, color=colour, markerfacecolor=inside, zorder=3)
    for i, kind in enumerate(point.also, start=1):  # around it, so that none hides another
        marker, colour, _ = _looks()[kind]
        around: dict[str, Any] = {"markerfacecolor": "none", "markersize": size + 5 * i, "zorder": 3}
        axes.plot([x], [y], marker=marker, color=colour, **around)


def key(kinds: set[str]) -> list[Any]:
    """What the marks of these kinds mean, and the line."""
    from matplotlib.lines import Line2D

    from reports.figures import base

    out = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=7, label=words)
        for kind, (marker, colour, words) in _looks().items()
        if kind in kinds
    ]
    out += [Line2D([], [], color=base.INK, alpha=0.6, linewidth=1.2, label="front, its routers filled")]
    return out
