"""What k samples of a task hold, and what a rule makes of them: a column per family, a row per model.

oracle@k, which is pass@k, is the ceiling of every rule. The shaded gap between it and the verifier's choice
is what was drawn and not chosen: more samples cannot close it, a better verifier can. Where a family has
visible tests they are the verifier, and the choice by the model's own confidence stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments.strategies import ALL, SINGLE, Cell, cells_of, split
from reports.figures import base
from reports.figures.curves import Look
from reports.records import Record
from reports.runs import Run
from reports.tabular.summaries import scope, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LINES", "Data", "Panel", "data", "draw"]

POOLS = ("best-of-8", "likeliest-of-8")
"""Strategies whose records hold points over k: by the verifier, and by confidence alone."""
POINT = "k"
LINES = {
    "oracle": Look(base.INK, "^", (0, (1, 1.2))),
    "best": Look(base.PALETTE[0], "o", "solid"),
    "likeliest": Look(base.PALETTE[2], "D", (0, (3, 1, 1, 1))),
    "majority": Look(base.PALETTE[1], "s", (0, (4, 1.5))),
}
WORDS = {
    "oracle": "oracle@k = pass@k", "best": "best@k by the verifier", "likeliest": "best@k by confidence",
    "majority": "majority@k",
}  # fmt: skip
HEIGHT, WIDEST = 1.75, 6
NOTES = (
    "Means over every way to take k of the samples drawn at one temperature (pass@k: Chen et al. 2021, "
    "eq. 1). Verifier: the visible tests where a family has some, else the least token log-probability, and "
    "then both lines are one. Shaded: right answers that were drawn and that the verifier did not choose.",
    "Bars at the largest k: Wilson's 95 % interval over tasks, of the oracle and the verifier's choice. Grey "
    "line: one greedy answer of the same model.",
)


class Panel(NamedTuple):
    """A model on one family."""

    model: str
    family: str
    ks: tuple[int, ...]
    shares: Mapping[str, tuple[float, ...]]
    """line → share of tasks, in the order of `ks`"""
    single: Cell | None
    pool: Cell | None
    """The strategy that took all samples."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """All tasks first, then in order."""
        found = dict.fromkeys(panel.family for panel in self.panels)
        return tuple(sorted(found, key=lambda family: family != ALL))[:WIDEST]

    @property
    def models(self) -> tuple[str, ...]:
        """In order."""
        return tuple(dict.fromkeys(panel.model for panel in self.panels))


def data(run: Run, experiment: str) -> Data | None:
    """Every model with a pool of graded samples; None where there is none."""
    records = [r for r in run.records if r.experiment == experiment]
    pools = {split(r): r for r in records if split(r)[1] in POOLS}
    found = [
        panel
        for (model, strategy), record in pools.items()
        if strategy == POOLS[0]
        for panel in _panels(model, record, pools.get((model, POOLS[1])), records)
    ]
    if not found:
        return None
    variants = [v for v in summarize(records) if v.name.endswith(f"-{POOLS[0]}")]
    title = f"{experiment}: what k samples hold, and what is made of them"
    return Data(title, scope(variants), tuple(found), NOTES)


def draw(data: Data) -> Figure:
    """A row per model, a column per family, all on the same axes."""
    from reports.figures import curves

    rows, columns = len(data.models), len(data.families)
    height = max(HEIGHT, 3.2 - 0.5 * rows)
    figure, _ = base.frame(height * rows + 0.4, data.title, data.scope, data.notes)
    top, grid = curves.grid(figure, rows, columns, height, 0.4)
    known = {(panel.model, panel.family): panel for panel in data.panels}
    for row, model in enumerate(data.models):
        for column, family in enumerate(data.families):
            axes = grid[row][column]
            panel = known.get((model, family))
            if panel is None:
                axes.set_axis_off()
                continue
            _panel(axes, panel)
            axes.set_title(f"{model}, {family}", loc="left", fontsize=8.5)
            axes.tick_params(labelleft=column == 0, labelbottom=row == rows - 1)
            if column == 0:
                axes.set_ylabel("solved, %")
            if row == rows - 1:
                axes.set_xlabel("k")
    _key(top, [name for name in LINES if any(name in panel.shares for panel in data.panels)])
    return figure


def _panels(model: str, record: Record, confident: Record | None, records: Sequence[Record]) -> list[Panel]:
    points, beside = _points(record), {} if confident is None else _points(confident)
    own = [r for r in records if split(r) in ((model, SINGLE), (model, POOLS[0]))]
    out = []
    for family, found in points.items():
        cells = {c.strategy: c for c in cells_of(own, family)}
        shares = {name: tuple(point[name] for point in found) for name in ("oracle", "best", "majority")}
        if [point["k"] for point in beside.get(family, [])] == [point["k"] for point in found]:
            shares["likeliest"] = tuple(point["best"] for point in beside[family])
        ks = tuple(int(point["k"]) for point in found)
        out.append(Panel(model, family, ks, shares, cells.get(SINGLE), cells.get(POOLS[0])))
    return out


def _points(record: Record) -> dict[str, list[dict[str, Any]]]:
    """Family → its points, k rising."""
    out: dict[str, list[dict[str, Any]]] = {}
    for point in sorted((p for p in record.sweep if p.get("name") == POINT), key=lambda p: int(p["k"])):
        out.setdefault(point["family"], []).append(point)
    return out


def _panel(axes: Axes, panel: Panel) -> None:
    ceiling, best = ([100 * share for share in panel.shares[name]] for name in ("oracle", "best"))
    axes.fill_between(panel.ks, best, ceiling, color="#c9c9c9", linewidth=0, zorder=1)
    if panel.single is not None and panel.single.solved is not None:
        axes.axhline(100 * panel.single.solved.estimate, color=base.GREY, linewidth=1.0, zorder=1)
    for name in ("majority", "likeliest", "best", "oracle"):
        if name in panel.shares:
            look = LINES[name]
            axes.plot(
                panel.ks, [100 * share for share in panel.shares[name]], color=look.colour,
                linestyle=look.dashes, marker=look.marker, markersize=3.4, linewidth=1.3, zorder=3,
                clip_on=False,
            )  # fmt: skip
    _bars(axes, panel)
    axes.set_xlim(panel.ks[0] - 0.4, panel.ks[-1] + 0.7)
    axes.set_xticks([k for k in panel.ks if k == 1 or k % 2 == 0] if len(panel.ks) > 4 else panel.ks)
    axes.set_ylim(-4, 104)
    axes.set_yticks([0, 25, 50, 75, 100])


def _bars(axes: Axes, panel: Panel) -> None:
    """Intervals at the largest k, where the estimators are plain shares of tasks."""
    from reports.intervals.shares import share
    from reports.stats import Interval

    cell = panel.pool
    if cell is None or cell.oracle is None:
        return
    num_right = round(cell.oracle * cell.n)
    ceiling = share([1.0] * num_right + [0.0] * (cell.n - num_right))
    for found, name, shift in ((ceiling, "oracle", 0.45), (cell.solved, "best", 0.25)):
        if isinstance(found, Interval):
            ends = [100 * found.low, 100 * found.high]
            axes.plot([panel.ks[-1] + shift] * 2, ends, color=LINES[name].colour, linewidth=1.1, zorder=2)


def _key(top: Axes, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from reports.figures import curves
    from reports.figures.agents import line

    handles: list[Any] = [line(LINES[name], WORDS[name]) for name in names]
    handles += [
        Patch(color="#c9c9c9", label="gap"),
        Line2D([], [], color=base.GREY, label="one greedy answer"),
    ]
    curves.place_key(top, handles, len(handles), handlelength=2.8, columnspacing=1.3)
