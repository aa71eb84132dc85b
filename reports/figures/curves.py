"""A quantity along a parameter, one line per planner: what the routing figures have in common.

A planner keeps its colour, mark and dashes from figure to figure, and is named in a key: colour alone tells
nothing. Levels of a parameter stand equally far apart, so that planners at one level can stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.figures import base
from reports.records import Record
from reports.runs import Run
from reports.tabular.means import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "POINT",
    "Look",
    "draw",
    "estimate",
    "grid",
    "key",
    "key_height",
    "levels",
    "looks",
    "name_levels",
    "place_key",
    "planners",
    "points",
    "record",
    "scope",
]

POINT = "point"
"""The name of a sweep's points."""
DODGE = 0.075
"""Distance between planners at one level, in levels."""
KEY = 0.26
"""Inches per line of a key."""
KEY_CHARACTERS = 118
"""Characters of names that fit beside each other; a mark counts six."""


class Look(NamedTuple):
    """How a planner shows."""

    colour: str
    marker: str
    dashes: Any


KNOWN = {
    "lp": Look(base.PALETTE[1], "s", (0, (4, 1.5))),
    "exact": Look(base.PALETTE[0], "o", "solid"),
    "sequential": Look(base.PALETTE[2], "D", "solid"),
    "planner": Look(base.PALETTE[3], "P", (0, (1, 1))),
    "greedy": Look(base.PALETTE[6], "v", (0, (3, 1, 1, 1))),
}
"""Planners that many figures show. The LP is dashed: what it promises need not fit."""
MARKS = "^X<>*ph8d"
DASHES: tuple[Any, ...] = ((0, (5, 1)), (0, (2, 1)), (0, (6, 1, 1, 1)), (0, (1, 2)))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each planner: its own where it is known, one that no other has where it is not."""
    all_names = tuple(dict.fromkeys(names))
    taken = {KNOWN[name].colour for name in all_names if name in KNOWN}
    colours = [colour for colour in base.PALETTE if colour not in taken] or list(base.PALETTE)
    rest = [name for name in all_names if name not in KNOWN]
    return {
        name: KNOWN[name]
        if name in KNOWN
        else Look(
            colours[rest.index(name) % len(colours)],
            MARKS[rest.index(name) % len(MARKS)],
            DASHES[rest.index(name) % len(DASHES)],
        )
        for name in all_names
    }


def record(run: Run, experiment: str, variant: str) -> Record | None:
    """The record of a sweep that has points; the last one where several have."""
    found = [r for r in run.records if (r.experiment, r.variant) == (experiment, variant) and points(r)]
    return found[-1] if found else None


def points(record: Record) -> list[Mapping[str, Any]]:
    """The points of a sweep that name their planner, in order."""
    return [p for p in record.sweep if p.get("name") == POINT and p.get("planner")]


def planners(found: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The planners of points: those with a look of their own first, otherwise in order."""
    names = dict.fromkeys(str(p["planner"]) for p in found)
    return tuple(sorted(names, key=lambda n: list(KNOWN).index(n) if n in KNOWN else len(KNOWN)))


def levels(found: Iterable[Mapping[str, Any]]) -> tuple[Any, ...]:
    """The parameter's values: numbers rising, then words in order, then None, which is "all of it"."""
    values = dict.fromkeys(p.get("along") for p in found)
    numbers = sorted(v for v in values if isinstance(v, int | float))
    words = [v for v in values if isinstance(v, str)]
    return (*numbers, *words, *(v for v in values if v is None))


def estimate(point: Mapping[str, Any], value: str, low: str = "", high: str = "") -> Estimate:
    """A number of a point with its interval, where it has one."""
    return Estimate(point.get(value), point.get(low or f"{value}_low"), point.get(high or f"{value}_high"))


def scope(record: Record) -> str:
    """What a curve holds for."""
    parts = [
        record.backend,
        ", ".join(f"{role} = {label}" for role, label in record.models.items()),
        f"fleet {fleet}" if isinstance(fleet := record.settings.get("fleet"), str) else "",
        f"profile {record.profile}",
        record.evidence,
    ]
    return " · ".join(part for part in parts if part)


def grid(figure: Figure, num_rows: int, num_columns: int, row_height: float, key_height: float) -> Any:
    """Rows of axes beneath a line that is left for the key; the key's axes and the rows, from the top."""
    lines = figure.add_gridspec(
        num_rows + 1, num_columns, height_ratios=[key_height, *[row_height] * num_rows]
    )
    top = figure.add_subplot(lines[0, :])
    top.set_axis_off()
    rows = [
        [figure.add_subplot(lines[row + 1, column]) for column in range(num_columns)]
        for row in range(num_rows)
    ]
    return top, rows


def key_height(names: Sequence[str]) -> float:
    """Inches that the key of these planners takes."""
    return KEY * -(-len(names) // _columns(names))


def key(axes: Axes, names: Sequence[str], found: Mapping[str, Look], extra: Sequence[Any] = ()) -> None:
    """Name every planner beside its line and mark; `extra` are further lines with labels."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D(
            [],
            [],
            color=found[name].colour,
            marker=found[name].marker,
            linestyle=found[name].dashes,
            markersize=5.5,
            label=name,
        )
        for name in names
    ]
    handles = [*lines, *extra]
    place_key(axes, handles, _columns([str(line.get_label()) for line in handles]), handlelength=3.4)


def place_key(axes: Axes, handles: Sequence[Any], num_columns: int, **look: Any) -> None:
    """Write a key from the figure's left edge on, at the height of `axes`; it moves nothing else."""
    from matplotlib.transforms import blended_transform_factory

    legend = axes.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(0.012, 0.5),
        bbox_transform=blended_transform_factory(axes.figure.transFigure, axes.transAxes),
        borderaxespad=0,
        borderpad=0,
        ncols=num_columns,
        **look,
    )
    legend.set_in_layout(False)


def _columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), KEY_CHARACTERS // (max(len(name) for name in names) + 6)))


def draw(
    axes: Axes, ticks: Sequence[Any], values: Mapping[Any, Estimate], look: Look, place: float, factor: float
) -> None:
    """One planner's line over the levels `ticks`, with intervals; a level without a number is left out.

    place: how far beside the level it stands, in units of the distance between planners. factor: to the
    axis's unit.
    """
    known = [
        (at + place * DODGE, found)
        for at, level in enumerate(ticks)
        if (found := values.get(level)) is not None and found.value is not None
    ]
    for x, found in known:
        if found.interval is not None:
            ends = [end * factor for end in found.interval]
            axes.plot([x, x], ends, color=look.colour, linewidth=1.1, marker="_", markersize=5, zorder=2)
    axes.plot(
        [x for x, _ in known],
        [found.value * factor for _, found in known if found.value is not None],
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        markersize=5.5,
        linewidth=1.5,
        zorder=3,
    )


def name_levels(axes: Axes, names: Sequence[str]) -> None:
    """The levels named on the x axis."""
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.45, len(names) - 0.55)
    axes.grid(visible=False, axis="x")
