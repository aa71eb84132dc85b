"""The compute-optimal question: at equal tokens, more answers of a small model, or a larger one?

The compute-optimal question, by token: at equal tokens, is it better to draw more answers and choose by a
verifier, to let them vote, or to ask a larger model once? Lines come from one pool of samples per task, by
the estimators of `harness.strategies.estimators`: they are means over every way to take k of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments.strategies import SINGLE, Cell, cells_of
from reports.figures import base, curves
from reports.records import Record
from reports.runs import Run
from reports.tabular.summaries import scope, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "Data", "data", "draw"]

POOL = "best-of-8"
"""The strategy whose records hold the points over k."""
POINT = "k"
RULES: Mapping[str, Any] = {"best": "solid", "majority": (0, (4, 1.5))}
"""What is drawn over k, and its dashes; `samples` draws what the samples hold."""
MARKS = "osD^vP*"
"""Of models, so that colour alone tells nothing."""
HEIGHT = 3.0
NOTES = (
    "Lines: k = 1 to 8 samples at one temperature; best: the highest score by the verifier (visible tests of "
    "code and fix, else the least token log-probability); majority: the most frequent answer. Large hollow "
    "mark: one greedy answer, with Wilson's 95 % interval. One model against another: read upwards, at equal "
    "tokens; paired differences stand in the table of equal tokens.",
    "Tokens: read and written per task, the prompt once. A token of a larger model costs more time: equal "
    "tokens are not equal seconds.",
)


class Curve(NamedTuple):
    """A model on one family: its points over k, and its one greedy answer."""

    model: str
    family: str
    tokens: tuple[float, ...]
    shares: dict[str, tuple[float, ...]]
    """rule → share solved, in the order of `tokens`"""
    single: Cell | None


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """In order."""
        return tuple(dict.fromkeys(curve.family for curve in self.curves))

    @property
    def models(self) -> tuple[str, ...]:
        """In order."""
        return tuple(dict.fromkeys(curve.model for curve in self.curves))


def data(run: Run, experiment: str) -> Data | None:
    """Every model and family with a pool of samples whose tokens were counted; None where there is none."""
    records = [r for r in run.records if r.experiment == experiment]
    found = [curve for record in records for curve in _curves(record, records)]
    if not found:
        return None
    variants = [v for v in summarize(records) if v.name.endswith(f"-{POOL}")]
    title = f"{experiment}: best of k, the vote of k, or a larger model, at equal tokens"
    return Data(title, scope(variants), tuple(found), NOTES)


def draw(data: Data) -> Figure:
    """A panel per family, a colour per model, dashes per rule."""
    columns = min(3, len(data.families))
    rows = -(-len(data.families) // columns)
    figure, _ = base.frame(HEIGHT * rows + 0.5, data.title, data.scope, data.notes)
    top, panels = curves.grid(figure, rows, columns, HEIGHT * rows, 0.5)
    flat = [axes for row in panels for axes in row]
    for axes, family in zip(flat, data.families, strict=False):
        for curve in data.curves:
            if curve.family == family:
                _curve(axes, curve, data.models.index(curve.model))
        axes.set_title(family, loc="left")
        axes.set_xlim(left=0)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("tokens per task")
    for axes in flat[len(data.families) :]:
        axes.set_axis_off()
    for row in panels:
        row[0].set_ylabel("solved, % of tasks")
    _key(top, data.models)
    return figure


def _curves(record: Record, records: Sequence[Record]) -> list[Curve]:
    model, _, strategy = record.variant.partition("-")
    if strategy != POOL:
        return []
    points: dict[str, list[dict[str, Any]]] = {}
    for point in record.sweep:
        if point["name"] == POINT and point["tokens"] is not None:
            points.setdefault(point["family"], []).append(point)
    own = [r for r in records if r.variant == f"{model}-{SINGLE}"]
    return [_curve_of(model, family, found, own) for family, found in sorted(points.items())]


def _curve_of(model: str, family: str, points: Sequence[dict[str, Any]], records: Sequence[Record]) -> Curve:
    ordered = sorted(points, key=lambda point: int(point["k"]))
    single = cells_of(records, family)
    return Curve(
        model=model,
        family=family,
        tokens=tuple(point["tokens"] for point in ordered),
        shares={rule: tuple(point[rule] for point in ordered) for rule in RULES},
        single=single[0] if single else None,
    )


def _curve(axes: Axes, curve: Curve, place: int) -> None:
    colour, marker = base.PALETTE[place % len(base.PALETTE)], MARKS[place % len(MARKS)]
    for rule, dashes in RULES.items():
        shares = [100 * share for share in curve.shares[rule]]
        axes.plot(
            curve.tokens, shares, color=colour, linestyle=dashes, linewidth=1.3, zorder=2,
            marker=marker, markersize=3.6 if rule == "best" else 2.6,
        )  # fmt: skip
    cell = curve.single
    if cell is not None and cell.tokens is not None and cell.solved is not None:
        ends = [100 * cell.solved.low, 100 * cell.solved.high]
        axes.plot([cell.tokens] * 2, ends, color=colour, linewidth=0.9, alpha=0.5, zorder=1)
        axes.plot(
            cell.tokens, 100 * cell.solved.estimate, marker, color=colour, markersize=8.5,
            markerfacecolor="white", markeredgewidth=1.4, zorder=3,
        )  # fmt: skip


def _key(top: Axes, models: Sequence[str]) -> None:
    from reports.figures.agents import line, mark

    handles = [
        line(curves.Look(base.PALETTE[i % len(base.PALETTE)], MARKS[i % len(MARKS)], "solid"), model)
        for i, model in enumerate(models)
    ]
    handles += [line(curves.Look(base.INK, "", dashes), f"{rule}@k") for rule, dashes in RULES.items()]
    handles += [mark("o", "one greedy answer", markersize=8.5, markerfacecolor="white")]
    curves.place_key(top, handles, len(handles), handlelength=2.8, columnspacing=1.4)
