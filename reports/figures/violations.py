"""How often a rounded plan does not fit: the LP beside the exact planner, by size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from reports.figures import curves
from reports.figures.solve_time import size_of, sizes_of
from reports.runs import Run
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RECORD", "Data", "data", "draw"]

RECORD = "violations-by-size"
MIXED = "fractional, open"


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    sizes: tuple[str, ...]
    """"tasks × models", the smallest first."""
    violating: Mapping[str, Mapping[str, Estimate]]
    """Planner → size → share of plans that need more than the budget."""
    fractional: Mapping[str, Mapping[str, Estimate]]
    """Planner → size → share of relaxed solutions that mix models; absent where nothing is relaxed."""
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Shares of each planner at each size; None where none was recorded."""
    record = curves.record(run, experiment, RECORD)
    if record is None:
        return None
    found = [p for p in curves.points(record) if p.get("violating_share") is not None]
    if not found:
        return None
    violating, fractional = {}, {}
    for planner in curves.planners(found):
        mine = [p for p in found if p["planner"] == planner]
        violating[planner] = {size_of(p): curves.estimate(p, "violating_share", "low", "high") for p in mine}
        mixed = {size_of(p): Estimate(v) for p in mine if (v := p.get("fractional_share")) is not None}
        if mixed:
            fractional[planner] = mixed
    notes = [
        "Violating: the models of the plan need more memory than the budget. Bars: 95 % intervals over "
        "random instances.",
    ]
    if fractional:
        notes += ["Fractional: the relaxed solution loads parts of models. It fits; rounded, it may not."]
    title = f"{experiment}: plans that do not fit the budget, by size"
    return Data(title, curves.scope(record), sizes_of(found), violating, fractional, tuple(notes))


def draw(data: Data) -> Figure:
    """A line of violations per planner, with the fractional share in open marks."""
    from matplotlib.lines import Line2D

    from reports.figures import base

    names = tuple(data.violating)
    more = [MIXED] if data.fractional else []
    height = curves.key_height((*names, *more))
    figure, _ = base.frame(3.6 + height, data.title, data.scope, data.notes)
    top, ((axes,),) = curves.grid(figure, 1, 1, 3.6, height)
    found = curves.looks(names)
    for i, name in enumerate(names):
        place = i - (len(names) - 1) / 2
        curves.draw(axes, data.sizes, data.violating[name], found[name], place, 100.0)
        mixed = [
            (at + place * curves.DODGE, 100 * v)
            for at, size in enumerate(data.sizes)
            if (e := data.fractional.get(name, {}).get(size)) is not None and (v := e.value) is not None
        ]
        axes.plot(
            [x for x, _ in mixed],
            [y for _, y in mixed],
            color=found[name].colour,
            marker=found[name].marker,
            markerfacecolor="white",
            markersize=5.5,
            linestyle=(0, (1, 2)),
            linewidth=1.0,
        )
    curves.name_levels(axes, data.sizes)
    line = Line2D([], [], color=base.INK, marker="o", markerfacecolor="white", linestyle=(0, (1, 2)))
    line.set_label(MIXED)
    curves.key(top, names, found, [line] if more else [])
    axes.axhline(0, color=base.INK, linewidth=0.9, zorder=1)
    axes.set_xlabel("tasks × models")
    axes.set_ylabel("share of instances, %")
    return figure
