"""What a router's score costs: mean task score against token cost and against seconds, both per job.

`offline-optimum` knows what is to come: a ceiling, and no point of the front.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments import jobs
from reports.figures import curves, scatter
from reports.figures.scatter import KINDS, Panel, Point
from reports.intervals.units import unit_of
from reports.records import Record
from reports.runs import Run
from reports.tabular.means import Estimate, mean, of_rounds, unit_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Data", "Panel", "Point", "data", "draw", "front"]

CEILING = ("offline-optimum",)
CONTROLS = ("greedy", "best-single", "smallest", "random", "preference")
MODELS = (jobs.PLANNER,)
SAME = 0.01
"""Share of the axis up to which two costs cannot be told apart."""
ROUNDING = 1e-9


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]


class Arm(NamedTuple):
    """One router's gradings and times."""

    name: str
    score: Estimate
    num_tasks: int
    token_cost: Estimate
    with_planning: bool
    """Whether the tokens that a model spent on planning are in that cost."""
    job_s: Estimate


def data(run: Run, experiment: str) -> Data | None:
    """Score, token cost and seconds of every router; None where no router was graded and costed."""
    records = [r for r in run.records if r.experiment == experiment]
    graded = [r for r in records if any(t.treatment.get("score") is not None for t in r.tasks)]
    stand_ins = jobs.stand_ins(graded)
    arms = _arms(graded)
    panels = [
        _panel("", "token cost per job", [(arm, arm.token_cost) for arm in arms], stand_ins),
        _panel("s", "time per job", [(arm, arm.job_s) for arm in arms], stand_ins),
    ]
    panels = [panel for panel in panels if panel.points]
    if not panels:
        return None
    unit = "sessions" if unit_notes(graded) else "rounds"
    sizes = sorted({arm.num_tasks for arm in arms})
    notes = [
        f"Score: mean over graded tasks, Student's 95 % interval over {unit_of(graded[0])}s. "
        "Token cost: mean over jobs. "
        f"Time: mean over {unit}, planning and loading within. "
        "Both with Student's 95 % interval; an arrow: it goes on.",
        "Line: routers that no other beats on both by the estimates; neighbours within intervals may swap.",
    ]
    if any(" = " in p.name for panel in panels for p in panel.points):
        notes += ["=: equal scores at costs less than 1 % of the axis apart; the first one's intervals."]
    if not all(arm.with_planning for arm in arms if arm.name in MODELS):
        notes += [f"Token cost of {', '.join(MODELS)}: of the tasks alone, without what planning took."]
    if any("ceiling" in (p.kind, *p.also) for panel in panels for p in panel.points):
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
    score = jobs.graded(record, "score", side, span=(0.0, 1.0))
    costs = jobs.token_costs(record, side)
    cost = mean(list(costs.by_job.values()))
    num_tasks = sum(v.get("score") is not None for _, v in jobs.tasks(record, side))
    return Arm(name, score, num_tasks, cost, costs.with_planning, of_rounds(record, "job_s", side))


def _panel(unit: str, label: str, costs: Sequence[tuple[Arm, Estimate]], stand_ins: Collection[str]) -> Panel:
    found = [(arm.name, cost, arm.score) for arm, cost in costs]
    points = _merged(
        [
            Point(f"{name} (stand-in)" if name in stand_ins else name, cost, score, _kind(name))
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
            first = out[at]
            also = tuple(dict.fromkeys([*first.also, *([point.kind] if point.kind != first.kind else [])]))
            out[at] = first._replace(name=f"{first.name} = {point.name}", also=also)
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
    kinds = {kind for panel in data.panels for p in panel.points for kind in (p.kind, *p.also)}
    curves.place_key(top, scatter.key(kinds), 6)
    for panel, (axes,) in zip(data.panels, rows, strict=True):
        scatter.draw(axes, panel)
    base.settle(figure)  # names are placed in final pixels
    for panel, (axes,) in zip(data.panels, rows, strict=True):
        scale = scatter.scale_of(panel)
        names = [
            labels.Label(
                "\n".join(textwrap.wrap(p.name, 36, break_on_hyphens=False)),
                scatter.x_of(p, scale),
                scatter.y_of(p),
                base.INK if p in panel.front else base.GREY,
            )
            for p in panel.points
        ]
        labels.place(axes, names, [labels.Segment(*ends) for ends in scatter.segments(panel, scale)], size=8)
    return figure
