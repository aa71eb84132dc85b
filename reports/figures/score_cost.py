"""What a router's score costs: mean task score against token cost and against seconds, both per job.

`offline-optimum` knows what is to come: a ceiling, and no point of the front.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from reports import cells, jobs
from reports.figures import curves
from reports.records import Record
from reports.runs import Run
from reports.summaries import Estimate, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Panel", "Point", "data", "draw", "front"]

CEILING = ("offline-optimum",)
CONTROLS = ("greedy", "best-single", "random", "preference")
MODELS = ("planner",)
LOG_FROM = 12.0
"""The ratio of dearest to cheapest from which costs stand on a logarithmic axis."""


KINDS = ("router", "model", "control", "ceiling")
SAME = 0.01
"""Share of the axis up to which two costs cannot be told apart."""
ROUNDING = 1e-9
REACH = 1.25
"""How far beyond a cost the axis follows its interval; what lies beyond is cut."""


class Point(NamedTuple):
    """One router; several that cannot be told apart share a point."""

    name: str
    cost: Estimate
    score: Estimate
    kind: str
    """One of `KINDS`."""


class Panel(NamedTuple):
    """All routers against one cost."""

    unit: str
    label: str
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    """Those that no other beats on both, from the cheapest to the dearest."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]


class Arm(NamedTuple):
    """One router's gradings and times."""

    name: str
    scores: list[float]
    token_cost: Estimate
    with_planning: bool
    """Whether the tokens that a model spent on planning are in that cost."""
    job_s: Estimate


def data(run: Run, experiment: str) -> Data | None:
    """Score, token cost and seconds of every router; None where no router was graded and costed."""
    records = [r for r in run.records if r.experiment == experiment]
    graded = [r for r in records if any(t.treatment.get("score") is not None for t in r.tasks)]
    arms = _arms(graded)
    panels = [
        _panel("", "token cost per job", [(arm, arm.token_cost) for arm in arms]),
        _panel("s", "time per job", [(arm, arm.job_s) for arm in arms]),
    ]
    panels = [panel for panel in panels if panel.points]
    if not panels:
        return None
    sizes = sorted({len(arm.scores) for arm in arms})
    notes = [
        "Score: mean over graded tasks, Student's 95 % interval over tasks. Token cost: mean over jobs. "
        "Time: mean over rounds, planning and loading within. Both with Student's 95 % interval.",
        "Line: routers that no other beats on both by the estimates; neighbours within intervals may swap.",
    ]
    if any(" = " in p.name for panel in panels for p in panel.points):
        notes += ["=: equal scores at costs less than 1 % of the axis apart; the first one's intervals."]
    if not all(arm.with_planning for arm in arms if arm.name in MODELS):
        notes += [f"Token cost of {', '.join(MODELS)}: of the tasks alone, without what planning took."]
    if any(p.kind == "ceiling" for panel in panels for p in panel.points):
        notes += [f"{', '.join(CEILING)}: knows the jobs to come, a ceiling and not a choice."]
    title = f"{experiment}: score against cost, by router"
    scope = (
        f"{curves.scope(graded[0])} · {'–'.join(str(n) for n in (sizes[0], sizes[-1])[: len(sizes)])} tasks"
    )
    return Data(title, scope, tuple(panels), tuple(notes))


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats: at most as dear and scoring at least as much, one of both strictly."""

    def worth(p: Point) -> tuple[float, float]:
        return p.cost.value or 0.0, -(p.score.value or 0.0)

    kept = [
        p
        for p in points
        if not any(
            all(a <= b for a, b in zip(worth(o), worth(p), strict=True)) and worth(o) != worth(p)
            for o in points
        )
    ]
    return sorted(kept, key=lambda p: p.cost.value or 0.0)


def _arms(records: Sequence[Record]) -> list[Arm]:
    """Each router once: its own record, or the control arm of the first that has it beside it."""
    arms = {r.variant: _arm(r, "treatment", r.variant) for r in records}
    for r in records:
        if r.control is not None and r.control not in arms and jobs.tasks(r, "control"):
            arms[r.control] = _arm(r, "control", r.control)
    return list(arms.values())


def _arm(record: Record, side: str, name: str) -> Arm:
    found = jobs.tasks(record, side)
    scores = [v for _, values in found if (v := values.get("score")) is not None]
    costs = jobs.token_costs(record, side)
    cost = mean(list(costs.by_job.values()))
    return Arm(name, scores, cost, costs.with_planning, mean(record.values("job_s", side)))


def _panel(unit: str, label: str, costs: Sequence[tuple[Arm, Estimate]]) -> Panel:
    found = [(arm.name, cost, mean(arm.scores)) for arm, cost in costs]
    points = _merged(
        [
            Point(name, cost, score, _kind(name))
            for name, cost, score in found
            if cost.value is not None and score.value is not None
        ]
    )
    return Panel(unit, label, points, tuple(front([p for p in points if p.kind != "ceiling"])))


def _merged(points: Sequence[Point]) -> tuple[Point, ...]:
    """Points that would hide each other become one, of the first kind among them."""
    costs = [p.cost.value or 0.0 for p in points]
    near = SAME * (max(costs) - min(costs)) if costs else 0.0
    out: list[Point] = []
    for point in sorted(points, key=lambda p: KINDS.index(p.kind)):
        at = next((i for i, other in enumerate(out) if _hides(other, point, near)), None)
        if at is None:
            out.append(point)
        else:
            out[at] = out[at]._replace(name=f"{out[at].name} = {point.name}")
    return tuple(out)


def _hides(a: Point, b: Point, near: float) -> bool:
    return (
        abs((a.cost.value or 0.0) - (b.cost.value or 0.0)) <= near
        and abs((a.score.value or 0.0) - (b.score.value or 0.0)) <= ROUNDING
    )


def _kind(name: str) -> str:
    for kind, names in (("ceiling", CEILING), ("control", CONTROLS), ("model", MODELS)):
        if name in names:
            return kind
    return "router"


def draw(data: Data) -> Figure:
    """A panel per cost, the front as a line, names beside the points."""
    from reports.figures import base, labels

    figure, _ = base.frame(3.4 * len(data.panels) + 0.3, data.title, data.scope, data.notes)
    top, rows = curves.grid(figure, len(data.panels), 1, 3.4, 0.3)  # wide, since names are
    kinds = {p.kind for panel in data.panels for p in panel.points}
    curves.place_key(top, _key(kinds), 6)
    for panel, (axes,) in zip(data.panels, rows, strict=True):
        _draw(axes, panel)
    base.settle(figure)  # names are placed in final pixels
    for panel, (axes,) in zip(data.panels, rows, strict=True):
        scale = _scale(panel)
        names = [
            labels.Label(
                "\n".join(textwrap.wrap(p.name, 36, break_on_hyphens=False)),
                _x(p, scale),
                _y(p),
                base.INK if p in panel.front else base.GREY,
            )
            for p in panel.points
        ]
        labels.place(axes, names, [labels.Segment(*ends) for ends in _segments(panel, scale)], size=8)
    return figure


def _scale(panel: Panel) -> cells.Scale:
    return cells.scale_of(panel.unit, [p.cost.value for p in panel.points])


def _x(point: Point, scale: cells.Scale) -> float:
    return (point.cost.value or 0.0) * scale.factor


def _y(point: Point) -> float:
    return 100 * (point.score.value or 0.0)


def _segments(panel: Panel, scale: cells.Scale) -> list[tuple[float, float, float, float]]:
    """The steps of the front, which names leave free."""
    out = []
    for a, b in pairwise(panel.front):
        out += [(_x(a, scale), _y(a), _x(b, scale), _y(a)), (_x(b, scale), _y(a), _x(b, scale), _y(b))]
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


def _draw(axes: Axes, panel: Panel) -> None:
    from reports.figures import base

    scale = _scale(panel)
    axes.plot(
        [_x(p, scale) for p in panel.front],
        [_y(p) for p in panel.front],
        drawstyle="steps-post",
        color=base.INK,
        linewidth=1.2,
        alpha=0.6,
    )
    for point in panel.points:
        _point(axes, point, scale, is_filled=point in panel.front or point.kind == "ceiling")
    costs = [_x(p, scale) for p in panel.points]
    if min(costs) > 0 and max(costs) / min(costs) > LOG_FROM:
        axes.set_xscale("log")
    else:
        margin = 0.16 * ((max(costs) - min(costs)) or max(costs) or 1.0)
        ends = [
            min(p.cost.high * scale.factor, REACH * _x(p, scale))
            for p in panel.points
            if p.cost.high is not None
        ]
        axes.set_xlim(
            max(0.0, min(costs) - margin), max([max(costs) + margin, *(end + margin / 8 for end in ends)])
        )
    unit = f", {scale.unit}" if scale.unit else ""
    axes.set_xlabel(f"{panel.label}{unit} (cheaper to the left)")
    axes.set_ylabel("mean task score, %")


def _point(axes: Axes, point: Point, scale: cells.Scale, *, is_filled: bool) -> None:
    marker, colour, _ = _looks()[point.kind]
    x, y = _x(point, scale), _y(point)
    bars: dict[str, Any] = {"color": colour, "linewidth": 0.9, "alpha": 0.4, "zorder": 2}
    if point.score.interval is not None:
        axes.plot([x, x], [100 * end for end in point.score.interval], **bars)
    if point.cost.interval is not None:
        axes.plot([end * scale.factor for end in point.cost.interval], [y, y], **bars)
    size, inside = 10 if marker == "*" else 6.5, colour if is_filled else "white"
    axes.plot([x], [y], marker=marker, markersize=size, color=colour, markerfacecolor=inside, zorder=3)


def _key(kinds: set[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    from reports.figures import base

    out = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=7, label=words)
        for kind, (marker, colour, words) in _looks().items()
        if kind in kinds
    ]
    out += [Line2D([], [], color=base.INK, alpha=0.6, linewidth=1.2, label="front, its routers filled")]
    return out
