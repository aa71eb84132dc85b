"""Solved share against tokens, a panel per model: which strategies nothing cheaper beats.

A model's strategies are compared with each other and not with another model's: a token of a larger model
costs more. The front goes by the estimates; `strategies_advice` says which of its steps are certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments.strategies import SINGLE, Cell, cells_of
from reports.experiments.strategies_advice import advise
from reports.runs import Run
from reports.tabular.summaries import scope, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Panel", "data", "draw", "front_of"]

HEIGHT = 3.3
STACKED = (5.0, 13.0)
"""Points to the side and upwards between two marks, below which their names would not find room."""
NOTES = (
    "Tokens: mean per task, read and written, as the server counted them. Solved: all tasks, with Wilson's "
    "95 % interval, which holds for one share alone; gains are paired and stand in the tables.",
    "Line: the front by the estimates, its strategies filled. Ring: what the data supports, by paired "
    "intervals: see the tables' recommendation, and whether it is decided. Triangle: asks another model too, "
    "whose tokens cost something else, and is no point of the front.",
)


class Panel(NamedTuple):
    """One model's strategies."""

    model: str
    cells: tuple[Cell, ...]
    front: tuple[Cell, ...]
    """Those that no other beats on both, from the cheapest to the dearest."""
    advised: str | None
    """The recommended strategy."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Every model with a strategy whose tokens were counted; None where there is none."""
    records = [r for r in run.records if r.experiment == experiment]
    found = [c for c in cells_of(records) if c.tokens is not None and c.solved is not None]
    if not found:
        return None
    use = {one.model: one.strategy for one in advise(records)}
    panels = []
    for model in dict.fromkeys(cell.model for cell in found):
        mine = tuple(cell for cell in found if cell.model == model)
        own = [cell for cell in mine if not cell.asks_others]
        panels.append(Panel(model, mine, front_of(own), use.get(model)))
    graded = [v for v in summarize(records) if v.solved.value is not None]
    title = f"{experiment}: solved share against tokens, and the front of each model"
    return Data(title, scope(graded), tuple(panels), NOTES)


def front_of(found: Sequence[Cell]) -> tuple[Cell, ...]:
    """Those that no other beats: at most as many tokens and as many solved, one of both strictly."""

    def key(cell: Cell) -> tuple[float, float]:
        assert cell.tokens is not None
        assert cell.solved is not None
        return cell.tokens, -cell.solved.estimate

    kept = [
        cell
        for cell in found
        if not any(
            all(a <= b for a, b in zip(key(other), key(cell), strict=True)) and key(other) != key(cell)
            for other in found
        )
    ]
    return tuple(sorted(kept, key=key))


def draw(data: Data) -> Figure:
    """Two panels in a row, names beside the points."""
    from reports.figures import base, curves

    rows = -(-len(data.panels) // 2)
    figure, _ = base.frame(HEIGHT * rows + 0.4, data.title, data.scope, data.notes)
    top, grid = curves.grid(figure, rows, 2, HEIGHT, 0.4)
    flat = [axes for row in grid for axes in row]
    for axes, panel in zip(flat, data.panels, strict=False):
        _panel(axes, panel)
    for axes in flat[len(data.panels) :]:
        axes.set_axis_off()
    _key(top)
    base.settle(figure)  # names are placed in final pixels
    for axes, panel in zip(flat, data.panels, strict=False):
        _names(axes, panel)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    from reports.figures import base
    from reports.figures.agents import log_axis

    axes.plot(
        [_x(c) for c in panel.front], [_y(c) for c in panel.front],
        drawstyle="steps-post", color=base.INK, linewidth=1.2, alpha=0.6, zorder=1,
    )  # fmt: skip
    for cell in panel.cells:
        assert cell.solved is not None
        is_single, x, y = cell.strategy == SINGLE, _x(cell), _y(cell)
        colour = base.PALETTE[1 if is_single else 0]
        ends = [100 * cell.solved.low, 100 * cell.solved.high]
        axes.plot([x, x], ends, color=colour, linewidth=0.9, alpha=0.4, zorder=2)
        axes.plot(
            x, y, "s" if is_single else "^" if cell.asks_others else "o", color=colour, markersize=6.5,
            markerfacecolor=colour if cell in panel.front else "white", zorder=3,
        )  # fmt: skip
        if cell.strategy == panel.advised:
            axes.plot(x, y, "o", color=base.INK, markersize=13, markerfacecolor="none", zorder=3)
    xs = [_x(c) for c in panel.cells]
    axes.set_xscale("log")
    left, right = min(xs) / 1.25, max(xs) * 1.7  # names stand to the right of the dearest
    axes.set_xlim(left, right)
    log_axis(axes.xaxis, _ticks(left, right))
    low = min(100 * c.solved.low for c in panel.cells if c.solved is not None)
    high = max(100 * c.solved.high for c in panel.cells if c.solved is not None)
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    axes.set_title(panel.model, loc="left")
    axes.set_xlabel("tokens per task (cheaper to the left)")
    axes.set_ylabel("solved, % of tasks")


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade; 1 to 9 where fewer than three of those lie on the axis."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [d * 10**e for e in range(7) for d in digits if low <= d * 10**e <= high]
        if len(found) >= 3:
            break
    return found


def _names(axes: Axes, panel: Panel) -> None:
    from reports.figures import base, labels

    names = []
    for group in _groups(axes, panel):
        text, is_front = "\n".join(cell.strategy for cell in group), any(c in panel.front for c in group)
        y = sum(map(_y, group)) / len(group)
        names.append(labels.Label(text, _x(group[0]), y, base.INK if is_front else base.GREY))
    steps = []
    for a, b in pairwise(panel.front):
        steps += [(_x(a), _y(a), _x(b), _y(a)), (_x(b), _y(a), _x(b), _y(b))]
    labels.place(axes, names, [labels.Segment(*ends) for ends in steps], size=8)


def _groups(axes: Axes, panel: Panel) -> list[list[Cell]]:
    """Strategies whose marks stand on top of each other share a text, a line each, in the marks' order.

    The dearest come first, which have the least room.
    """
    reach = [points * axes.figure.dpi / 72 for points in STACKED]
    out: list[list[Cell]] = []
    for cell in sorted(panel.cells, key=lambda c: (-_x(c), -_y(c))):
        x, y = axes.transData.transform((_x(cell), _y(cell)))
        for group in out:
            above = axes.transData.transform((_x(group[-1]), _y(group[-1])))
            if abs(above[0] - x) < reach[0] and abs(above[1] - y) < reach[1]:
                group.append(cell)
                break
        else:
            out.append([cell])
    return out


def _key(top: Axes) -> None:
    from reports.figures import base, curves
    from reports.figures.agents import line, mark

    handles = [
        line(curves.Look(base.INK, "", "solid"), "front"),
        mark("s", "one greedy answer", base.PALETTE[1], markersize=6.5),
        mark("o", "strategy on the front", base.PALETTE[0], markersize=6.5),
        mark("o", "another costs no more and solves no less", base.PALETTE[0], markerfacecolor="white"),
        mark("o", "supported by the data", base.INK, markersize=12, markerfacecolor="none"),
    ]
    curves.place_key(top, handles, len(handles), columnspacing=1.4)


def _x(cell: Cell) -> float:
    return cell.tokens or 0.0


def _y(cell: Cell) -> float:
    return 100 * (0.0 if cell.solved is None else cell.solved.estimate)
