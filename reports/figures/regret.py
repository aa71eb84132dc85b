"""What looking ahead is worth: regret against the offline optimum, by the number of layers seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from reports.figures import curves
from reports.runs import Run
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RECORD", "Data", "data", "draw"]

RECORD = "sweep-window"


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    windows: tuple[int | None, ...]
    """Layers seen; None: all."""
    regret: Mapping[str, Mapping[int | None, Estimate]]
    """Planner → window → utility per task short of the offline optimum."""
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Regret of each planner at each window; None where none was recorded."""
    record = curves.record(run, experiment, RECORD)
    if record is None:
        return None
    found = [p for p in curves.points(record) if p.get("regret") is not None]
    regret = {
        planner: {p.get("along"): curves.estimate(p, "regret") for p in found if p["planner"] == planner}
        for planner in curves.planners(found)
    }
    notes = (
        "Regret: utility per task that a stream of jobs falls short of the offline optimum, which sees all.",
        "Window: layers seen when a step is planned, the ready one among them. Bars: 95 % intervals over "
        "jobs. Planners stand slightly apart at one window.",
    )
    title = f"{experiment}: regret against the offline optimum, by window"
    return Data(title, curves.scope(record), curves.levels(found), regret, notes) if found else None


def draw(data: Data) -> Figure:
    """One line per planner, zero in the frame."""
    from reports.figures import base

    names = tuple(data.regret)
    height = curves.key_height(names)
    figure, _ = base.frame(3.6 + height, data.title, data.scope, data.notes)
    top, ((axes,),) = curves.grid(figure, 1, 1, 3.6, height)
    found = curves.looks(names)
    for i, name in enumerate(names):
        curves.draw(axes, data.windows, data.regret[name], found[name], i - (len(names) - 1) / 2, 1.0)
    curves.name_levels(axes, ["full" if w is None else f"{w:g}" for w in data.windows])
    curves.key(top, names, found)
    axes.axhline(0, color=base.INK, linewidth=0.9, zorder=1)
    axes.set_xlabel("window, layers")
    axes.set_ylabel("regret, utility per task (lower is better)")
    return figure
