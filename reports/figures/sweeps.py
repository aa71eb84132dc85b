"""Score, violations and what they cost along each parameter of routing, one line per planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments import jobs
from reports.figures import curves
from reports.intervals.units import unit_of
from reports.records import Record
from reports.runs import Run
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SWEPT", "Data", "Panel", "Row", "data", "draw"]

PREFIX = "sweep-"
SWEPT = {
    "lambda_token": ("λ_token", "token_cost"),
    "lambda_switch": ("λ_switch", "loads"),
    "budget": ("memory budget", "loads"),
    "num_models": ("models in the fleet", "loads"),
    "prior_quality": ("quality of the priors", "token_cost"),
}
"""Parameter → (its name in words, the third quantity shown along it). The record says what its values are."""
AXES = {
    "score": "task score, %",
    "violating_share": "over budget, % of steps",
    "loads": "loads per job",
    "token_cost": "token cost per job",
}
PERCENT = ("score", "violating_share")


class Panel(NamedTuple):
    """One quantity along one parameter."""

    metric: str
    values: Mapping[str, Mapping[Any, Estimate]]
    """Planner → level → value."""


class Row(NamedTuple):
    """One parameter."""

    parameter: str
    label: str
    levels: tuple[Any, ...]
    panels: tuple[Panel, ...]


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    planners: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Every sweep that was recorded; None where none was."""
    records = {name: curves.record(run, experiment, f"{PREFIX}{name}") for name in SWEPT}
    swept = {name: record for name, record in records.items() if record is not None}
    if not swept:
        return None
    rows = tuple(_row(name, curves.points(record)) for name, record in swept.items())
    names = curves.planners(p for record in swept.values() for p in curves.points(record))
    units = " or ".join(sorted({_units(record) for record in swept.values()}))
    scopes = tuple(dict.fromkeys(curves.scope(record) for record in swept.values()))
    notes = [
        f"Bars: 95 % intervals over {units}. Levels stand equally far apart, planners slightly apart at one.",
        "Over budget: the plan as made, before a plan that fits took its place.",
    ]
    notes += [
        what if what.startswith(SWEPT[name][0]) else f"{SWEPT[name][0]}: {what}"
        for name, record in swept.items()
        if isinstance(what := record.settings.get("along"), str)
    ]
    notes += [f"{name}: a stand-in, no model was asked." for name in jobs.stand_ins(swept.values())]
    title = f"{experiment}: score, violations and cost along each parameter"
    return Data(title, "\n".join(scopes), names, rows, tuple(notes))


def _units(record: Record) -> str:
    """What the intervals of a sweep's points count."""
    return "draws" if record.settings.get("draws", 1) > 1 else f"{unit_of(record)}s"


def _row(name: str, found: Sequence[Mapping[str, Any]]) -> Row:
    label, third = SWEPT[name]
    panels = tuple(
        Panel(
            metric,
            {
                planner: {
                    p.get("along"): curves.estimate(p, metric) for p in found if p["planner"] == planner
                }
                for planner in curves.planners(found)
            },
        )
        for metric in ("score", "violating_share", third)
    )
    return Row(name, label, curves.levels(found), panels)


def draw(data: Data) -> Figure:
    """A row of panels per parameter."""
    from reports.figures import base

    key_height = curves.key_height(data.planners)
    figure, _ = base.frame(2.3 * len(data.rows) + key_height, data.title, data.scope, data.notes)
    top, lines = curves.grid(figure, len(data.rows), 3, 2.3, key_height)
    found = curves.looks(data.planners)
    curves.key(top, data.planners, found)
    for row, line in zip(data.rows, lines, strict=True):
        for panel, axes in zip(row.panels, line, strict=True):
            _panel(axes, row, panel, data.planners, found)
    return figure


def _panel(
    axes: Axes, row: Row, panel: Panel, planners: Sequence[str], found: Mapping[str, curves.Look]
) -> None:
    from reports.figures import base

    factor = 100.0 if panel.metric in PERCENT else 1.0
    for i, name in enumerate(planners):
        place = i - (len(planners) - 1) / 2
        curves.draw(axes, row.levels, panel.values.get(name, {}), found[name], place, factor)
    curves.name_levels(
        axes, ["full" if v is None else f"{v:g}" if not isinstance(v, str) else v for v in row.levels]
    )
    axes.set_xlabel(row.label)
    axes.set_ylabel(AXES[panel.metric])
    if panel.metric != "score":
        axes.axhline(0, color=base.INK, linewidth=0.9, zorder=1)
