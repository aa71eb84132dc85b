"""Where a task's time goes: stage latency by variant, with 95 % intervals and the residual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reports.runs import Run
from reports.tabular import cells
from reports.tabular.means import BY_SESSION, Estimate
from reports.tabular.summaries import Variant, scope, stages_of, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Row", "data", "draw"]


WHOLE = "whole task"
REACH = 2.5
"""How far beyond the longest mean an axis follows wide intervals; what lies beyond ends in an arrow."""


class Row(NamedTuple):
    """One panel's number for one variant."""

    backend: str
    variant: str
    panel: str
    estimate: Estimate
    is_control: bool
    """The line that the others are read against."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    backends: tuple[str, ...]
    """Each has a row of panels with a scale of its own."""
    panels: tuple[str, ...]
    """The stages in order, then "other", then the whole task."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data:
    """Mean seconds per task: each stage, what is left over, and the whole."""
    variants = [v for v in summarize(run.records) if v.experiment == experiment]
    timed = [v for v in variants if v.task_s.value is not None]
    panels = (*stages_of(timed), "other", WHOLE)
    dashed = _dashed(timed)
    rows = []
    for v in timed:
        numbers = {**v.stages_s, "other": v.other_s, WHOLE: v.task_s}
        rows += [
            Row(v.backend, v.name, panel, numbers.get(panel, Estimate(None)), v in dashed) for panel in panels
        ]
    untimed = [
        v.name + (f" (failures: {v.num_failures})" if v.num_failures else "")
        for v in variants
        if v not in timed
    ]
    is_by_session = any(v.is_by_session for v in timed)
    unit = "sessions" if is_by_session else "rounds"
    notes = [f"Mean of a task over {unit} with Student's 95 % interval; other: the whole less its stages."]
    notes += [f"{BY_SESSION.capitalize()}."] if is_by_session else []
    notes += [f"Dashed: {', '.join(v.name for v in dashed)}."] if dashed else []
    notes += [f"{v.name}: measured as the control beside {v.beside}." for v in timed if v.beside]
    notes += [f"{v.name}: failures: {v.num_failures}, in no mean." for v in timed if v.num_failures]
    notes += [f"Not timed: {', '.join(untimed)}."] if untimed else []
    title = f"{experiment}: time per task, by stage and variant"
    backends = tuple(dict.fromkeys(v.backend for v in timed))
    return Data(title, scope(timed), backends, panels, tuple(rows), tuple(notes))


def _dashed(variants: Sequence[Variant]) -> list[Variant]:
    """The control of most variants on each backend, which the others are read against."""
    out = []
    for backend in dict.fromkeys(v.backend for v in variants):
        group = [v for v in variants if v.backend == backend]
        usual = Counter(v.control for v in group if v.control).most_common(1)
        out += [v for v in group if usual and v.name == usual[0][0]]
    return out


def draw(data: Data) -> Figure:
    """One panel per stage on a common scale, the whole task beside them."""
    from reports.figures import base

    if not data.rows:
        return base.empty(
            data.title, data.scope, "No variant of this run timed its tasks. " + " ".join(data.notes[1:])
        )
    groups = [[row for row in data.rows if row.backend == backend] for backend in data.backends]
    heights = [base.rows_height(_names(rows)) + 0.75 for rows in groups]
    figure, _ = base.frame(sum(heights), data.title, data.scope, data.notes)
    ratios = [1.0] * (len(data.panels) - 1) + [1.35]
    grid = figure.subplots(
        len(groups), len(data.panels), squeeze=False, sharey="row", width_ratios=ratios, height_ratios=heights
    )
    for line, rows in zip(grid, groups, strict=True):
        _panels(line, data.panels, rows)
        if len(groups) > 1:
            line[0].set_ylabel(rows[0].backend, fontweight="bold")
    return figure


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.variant for row in rows))


def _panels(line: Sequence[Axes], panels: Sequence[str], rows: Sequence[Row]) -> None:
    """One backend: stages and residual on one scale, the whole task on its own."""
    from reports.figures import base

    scale = cells.scale_of("s", [row.estimate.value for row in rows])
    names = _names(rows)
    for i, (axes, panel) in enumerate(zip(line, panels, strict=True)):
        mine = {row.variant: row for row in rows if row.panel == panel}
        colour = base.INK if panel == WHOLE else base.PALETTE[i % len(base.PALETTE)]
        axes.set_xlim(*_limits([r.estimate for r in rows if (r.panel == WHOLE) == (panel == WHOLE)], scale))
        for y, name in enumerate(names):
            _bar(axes, y, mine[name].estimate, scale, colour)
        control = next((row.estimate.value for row in mine.values() if row.is_control), None)
        if control is not None:
            axes.axvline(
                control * scale.factor, color=base.GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1
            )
        axes.set_title(panel, loc="left", color=colour, fontweight="bold")
        axes.set_xlabel(f"{scale.unit} per task")
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
    base.labels(line[0], names)


def _bar(axes: Axes, y: int, e: Estimate, scale: cells.Scale, colour: str) -> None:
    from reports.figures import base

    value = scale(e.value)
    if value is None:
        axes.text(0, y, cells.ABSENT, va="center", ha="left")
        return
    axes.barh(y, value, height=0.62, color=colour, alpha=0.3, linewidth=0)
    ends = scale.interval(e.interval)
    if ends is not None:
        if ends[1] > axes.get_xlim()[1]:
            axes.plot([axes.get_xlim()[1]], [y], color=base.INK, marker=">", markersize=4.5, clip_on=False)
        axes.plot(ends, [y, y], color=base.INK, linewidth=1.1, marker="|", markersize=7, markeredgewidth=1.1)
    axes.plot([value], [y], marker="o", markersize=2.6, color=base.INK)


def _limits(estimates: Sequence[Estimate], scale: cells.Scale) -> tuple[float, float]:
    """From 0, or below for a negative residual, to the longest interval or `REACH` longest means."""
    means = [e.value * scale.factor for e in estimates if e.value is not None] or [1.0]
    ends = [end * scale.factor for e in estimates for end in (e.low, e.high) if end is not None]
    top = min(max([*means, *ends]), REACH * max(means)) or 1.0
    low = max(min([0.0, *means, *ends]), -0.25 * top)
    return 1.1 * low, 1.08 * top
