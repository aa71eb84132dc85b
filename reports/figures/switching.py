"""What switching's figures have in common: how an arm and a model look, keys, and axes of ratios.

An arm keeps its colour, mark and dashes from figure to figure: its colour says the family, the rest which
one of it. A model has a hatch beside its colour. A bar that is simulated is hatched, a measured point is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from reports.experiments.switching import CONTROL, in_order
from reports.experiments.switching_grids import Grid
from reports.figures import base, curves
from reports.figures.agents import line, log_axis
from reports.figures.curves import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LINES", "MODELS", "Skin", "curve", "key", "look", "ratio_axis", "sheet", "skins", "step"]

_RELOAD, _DISK, _ENGINE, _LAST, _RING, _WHOLE, _CHUNK, _HOME = (
    base.PALETTE[6], base.PALETTE[5], base.PALETTE[3], base.PALETTE[4], base.PALETTE[1], base.PALETTE[3],
    base.PALETTE[2], base.PALETTE[0],
)  # fmt: skip
_LONG, _SHORT, _DOTS, _MIXED = (0, (5, 1.5)), (0, (2, 1)), (0, (1, 1)), (0, (5, 1, 1, 1))
LOOKS: Mapping[str, Look] = {
    "reload-every": Look(_RELOAD, "s", "solid"),
    "fresh": Look(_RELOAD, "v", _SHORT),
    "serverless-warm": Look(_DISK, "^", "solid"),
    "serverless-cold": Look(_DISK, "v", _SHORT),
    "vllm-recreate": Look(_ENGINE, "X", _SHORT),
    "vllm-sleep": Look(_ENGINE, "P", "solid"),
    "process-per-model": Look(_ENGINE, "h", _DOTS),
    "keep-last": Look(_LAST, "D", _MIXED),
    "fifo-ring-copy-out": Look(_RING, "v", _SHORT),
    "fifo-ring": Look(_RING, "<", "solid"),
    "lru": Look(_WHOLE, "s", _LONG),
    "gdsf": Look(_WHOLE, "p", _MIXED),
    "chunk-lru": Look(_CHUNK, "v", _DOTS),
    "chunk-slots": Look(_CHUNK, "d", "solid"),
    "chunk-slots-lookahead": Look(_CHUNK, ">", _SHORT),
    "home-slot-blind": Look(_HOME, "v", _DOTS),
    "home-slot-sync": Look(_HOME, "s", _MIXED),
    "home-slot": Look(_HOME, "o", "solid"),
    "home-slot-lookahead": Look(_HOME, "^", _SHORT),
    "belady": Look(base.INK, "x", _DOTS),
    "resident": Look(base.INK, "", "solid"),
}
OTHERS = ("*", "8", "H")
LINES = (
    *("reload-every", "keep-last", "fifo-ring-copy-out", "fifo-ring", "lru", "chunk-slots", "home-slot"),
    *("chunk-slots-lookahead", "home-slot-lookahead", "belady"),
)
"""The policies that figures along a parameter show; tables have them all."""
COLUMNS = 5
MARKED = (0.1, 0.5, 0.9)
"""Where on its line an arm's mark stands, as shares of its requests."""
SEVERAL = 4.0
DODGE = 0.055
"""Between policies at one level, in levels."""


class Skin(NamedTuple):
    """How a model shows."""

    colour: str
    hatch: str


MODELS = (
    *(Skin(base.PALETTE[5], ""), Skin(base.PALETTE[4], "////"), Skin(base.PALETTE[2], "....")),
    *(Skin(base.PALETTE[3], "\\\\\\\\"), Skin(base.PALETTE[6], "xxxx")),
)


def look(arm: str) -> Look:
    """How an arm shows; one that is not known is dotted in black."""
    return LOOKS.get(arm) or Look(base.INK, OTHERS[len(arm) % len(OTHERS)], _DOTS)


def skins(models: Iterable[str]) -> dict[str, Skin]:
    """A colour and a hatch per model, in the order of their names."""
    return dict(zip(sorted(set(models)), cycle(MODELS), strict=False))


def key(axes: Axes, arms: Sequence[str], extra: Sequence[Any] = (), columns: int = COLUMNS) -> None:
    """Name every arm beside its line and mark, row by row, and after them `extra`."""
    handles = [*(line(look(arm), arm) for arm in in_order(arms)), *extra]
    curves.place_key(axes, by_rows(handles, columns), columns, handlelength=3.0, columnspacing=1.4)


def key_height(num: int, columns: int = COLUMNS) -> float:
    """Inches of a key of so many entries."""
    return 0.22 * -(-num // columns) + 0.06


def by_rows(handles: Sequence[Any], columns: int) -> list[Any]:
    """Entries in the order in which a legend, which fills its columns first, shows them row by row."""
    rows = [handles[at : at + columns] for at in range(0, len(handles), columns)]
    full = len(handles) % columns or columns
    heights = [len(rows) if at < full else len(rows) - 1 for at in range(columns)]
    return [rows[row][at] for at in range(columns) for row in range(heights[at])]


def step(axes: Axes, values: Sequence[float], of: int, arm: str, least: float, **more: Any) -> None:
    """The share of `of` requests that took no longer, `values` rising; below `least` drawn there."""
    known = [max(value, least) for value in sorted(values)]
    shares = [100 * (at + 1) / of for at in range(len(known))]
    mine = look(arm)
    xs, ys = [known[0], *known], [0.0, *shares]
    drawn = {"color": mine.colour, "linestyle": mine.dashes, "linewidth": 1.5} | more
    axes.plot(xs, ys, drawstyle="steps-post", **drawn)
    if not more and mine.marker:
        marked = [max(1, round(share * len(known))) for share in MARKED]
        axes.plot(
            [xs[at] for at in marked], [ys[at] for at in marked], linestyle="", marker=mine.marker,
            markersize=4.6, color=mine.colour,
        )  # fmt: skip


def curve(axes: Axes, one: Grid, key: str, factor: float = 1.0) -> None:
    """A quantity of a grid's points, a line per policy; levels stand equally far apart.

    Of ratios the control's is left out: it is 1.
    """
    shown = [name for name in one.policies if name in LINES]
    for place, name in enumerate(shown):
        if name == CONTROL and "ratio" in key:
            continue
        mine = look(name)
        known = [
            (at + DODGE * (place - (len(shown) - 1) / 2), factor * value)
            for at, level in enumerate(one.levels)
            if (value := one.at(name, level).get(key)) is not None
        ]
        axes.plot(
            [x for x, _ in known], [y for _, y in known], color=mine.colour, marker=mine.marker,
            linestyle=mine.dashes, markersize=4.6, linewidth=1.3, zorder=3,
        )  # fmt: skip


class Swept(Protocol):
    """What a figure of policies along a parameter shows."""

    @property
    def title(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def grid(self) -> Grid: ...
    @property
    def notes(self) -> Sequence[str]: ...


def sheet(data: Swept, num_rows: int, num_columns: int, row_height: float) -> tuple[Figure, Any]:
    """A framed figure with the policies' key on top, and its rows of panels; heights in inches."""
    shown = [name for name in data.grid.policies if name in LINES]
    height = key_height(len(shown))
    figure, _ = base.frame(num_rows * row_height + height + 0.4, data.title, data.scope, data.notes)
    top, rows = curves.grid(figure, num_rows, num_columns, row_height, height)
    key(top, shown)
    return figure, rows


def ratio_axis(axes: Axes, name: str) -> None:
    """An axis of times as fast, with a line at 1; logarithmic where it spans several times."""
    axes.axhline(1, color=base.INK, linewidth=0.9, zorder=1)
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if low > 0 and high / low > SEVERAL:
        axes.set_yscale("log")
        log_axis(axes.yaxis)
    axes.set_ylabel(name)
