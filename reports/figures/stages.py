"""Where a task's time goes: stage latency by variant, with 95 % intervals and the residual."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports import cells
from reports.runs import Run
from reports.summaries import Estimate, Variant, scope, stages_of, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Data", "Row", "data", "draw"]


class Row(NamedTuple):
    """One panel's number for one variant."""

    variant: str
    panel: str
    estimate: Estimate
    is_control: bool


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    variants: tuple[str, ...]
    panels: tuple[str, ...]
    """The stages in order, then "other", then "whole task"."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data:
    """Mean seconds per task: each stage, what is left over, and the whole."""
    variants = [v for v in summarize(run.records) if v.experiment == experiment]
    timed = [v for v in variants if v.task_s.value is not None]
    panels = (*stages_of(timed), "other", "whole task")
    controls = {v.control for v in variants if v.control}
    backends = {v.backend for v in variants}
    rows = []
    for v in timed:
        name = shown_name(v, many=len(backends) > 1)
        numbers = {**v.stages_s, "other": v.other_s, "whole task": v.task_s}
        rows += [Row(name, panel, numbers.get(panel, Estimate(None)), v.name in controls) for panel in panels]
    untimed = [
        v.name + (f" ({v.num_failures} failures)" if v.num_failures else "")
        for v in variants
        if v not in timed
    ]
    notes = ["Mean of a task over rounds with Student's 95 % interval; other: the whole less its stages."]
    if shown_controls := [v.name for v in timed if v.name in controls]:
        notes += [f"Dashed: {', '.join(shown_controls[:1])}."]
    notes += [f"{v.name}: measured as the control beside {v.beside}." for v in timed if v.beside]
    notes += [f"{v.name}: {v.num_failures} failures, counted in no mean." for v in timed if v.num_failures]
    notes += [f"Not timed: {', '.join(untimed)}."] if untimed else []
    title = f"{experiment}: time per task, by stage and variant"
    names = tuple(dict.fromkeys(row.variant for row in rows))
    return Data(title, scope(timed), names, panels, tuple(rows), tuple(notes))


def shown_name(variant: Variant, *, many: bool) -> str:
    """The variant's name, with its backend where several occur."""
    return f"{variant.name} ({variant.backend})" if many else variant.name


def draw(data: Data) -> Figure:
    """One panel per stage on a common scale, the whole task beside them."""
    from reports.figures import base

    if not data.rows:
        return base.empty(
            data.title, data.scope, "No variant of this run timed its tasks. " + " ".join(data.notes[1:])
        )
    scale = cells.scale_of("s", [row.estimate.value for row in data.rows])
    height = 0.8 + max(0.3 * len(data.variants), 0.6)
    figure, band = base.frame(height, data.title, data.scope, data.notes)
    ratios = [1.0] * (len(data.panels) - 1) + [1.35]
    grid = band.subplots(1, len(data.panels), sharey=True, width_ratios=ratios)
    parts = [r.estimate for r in data.rows if r.panel != "whole task"]
    for i, (axes, panel) in enumerate(zip(grid, data.panels, strict=True)):
        rows = {row.variant: row for row in data.rows if row.panel == panel}
        colour = base.INK if panel == "whole task" else base.PALETTE[i % len(base.PALETTE)]
        for y, name in enumerate(data.variants):
            _bar(axes, y, rows[name].estimate, scale, colour)
        control = next((row.estimate.value for row in rows.values() if row.is_control), None)
        if control is not None:
            axes.axvline(
                control * scale.factor, color=base.GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1
            )
        whole = [r.estimate for r in rows.values()] if panel == "whole task" else parts
        axes.set_xlim(*_limits(whole, scale))
        axes.set_title(panel, loc="left", color=colour, fontweight="bold")
        axes.set_xlabel(f"{scale.unit} per task")
        axes.locator_params(axis="x", nbins=4)
    base.labels(grid[0], data.variants)
    for axes in grid[1:]:
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    return figure


def _bar(axes: object, y: int, e: Estimate, scale: cells.Scale, colour: str) -> None:
    from matplotlib.axes import Axes

    from reports.figures import base

    assert isinstance(axes, Axes)
    value = scale(e.value)
    if value is None:
        axes.text(0, y, cells.ABSENT, va="center", ha="left")
        return
    axes.barh(y, value, height=0.62, color=colour, alpha=0.3, linewidth=0)
    ends = scale.interval(e.interval)
    if ends is not None:
        axes.plot(ends, [y, y], color=base.INK, linewidth=1.1, marker="|", markersize=7, markeredgewidth=1.1)
    axes.plot([value], [y], marker="o", markersize=2.6, color=base.INK)


def _limits(estimates: list[Estimate], scale: cells.Scale) -> tuple[float, float]:
    ends = [e.value for e in estimates] + [end for e in estimates for end in (e.low, e.high)]
    values = [v * scale.factor for v in ends if v is not None] or [1.0]
    return min(0.0, min(values) * 1.1), max(values) * 1.08 or 1.0
