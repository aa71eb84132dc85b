"""How long requests of each arm took: the time kept from computing, the first token and the last, apart.

Shares are of all requests that were to be answered, over all seeds, so that the line of an arm that lost some
ends below 100 %. The source draws totals, and reads hits below 10 ms off them: hits are seen in the first
panel alone. Two rows, since more lines than a few cannot be told apart: what the source compares and the
defaults here, and the rest against two of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments import switching
from reports.figures import switching as looks
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "Data", "data", "draw"]

MAIN = (
    *(switching.CONTROL, "serverless-cold", "vllm-recreate", "keep-last", switching.SOURCE, "fifo-ring"),
    *(switching.DEFAULT, "home-slot-lookahead"),
)
AGAINST = (switching.CONTROL, switching.DEFAULT)
"""Drawn faint among the rest."""
PANELS = (
    ("switch_s", "switch: kept from computing"),
    ("ttft_s", "to the first token"),
    ("total_s", "to the last token"),
)
LEAST_MS = 0.01
HEIGHT = 2.5


class Curve(NamedTuple):
    """One arm."""

    arm: str
    of: int
    """Requests that were to be answered."""
    seeds: int
    values_ms: Mapping[str, tuple[float, ...]]
    """Of every request, by key."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    rows: tuple[tuple[Curve, ...], ...]
    """Those of the first line of panels, and the rest."""
    against: tuple[Curve, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Every arm's requests; None where none was answered."""
    found = switching.arms(r for r in run.records if r.experiment == experiment)
    found = [arm for arm in found if arm.values("total_s")]
    if not found:
        return None
    whole = switching.sizes(found)
    all_curves = [_curve(arm) for arm in found]
    main = tuple(one for one in all_curves if one.arm in MAIN) or tuple(all_curves)
    rest = tuple(one for one in all_curves if one not in main)
    told = [_told(arm, whole) for arm in found if arm.name in (switching.DEFAULT, switching.SOURCE)]
    notes = [
        f"Share of all requests of all seeds that took no longer. Below {LEAST_MS:g} ms drawn there. A line "
        "that ends below 100 % lost requests.",
        *told,
    ]
    if rest:
        notes.append(f"Lower row: the other arms; faint: {' and '.join(AGAINST)} again.")
    return Data(
        f"{experiment}: how long requests wait and take, by arm ({switching.where(found)})",
        switching.scope(found),
        (main, rest) if rest else (main,),
        tuple(one for one in all_curves if one.arm in AGAINST),
        tuple(notes),
    )


def draw(data: Data) -> Figure:
    """A row of three panels per group of arms, each beneath its key."""
    from reports.figures import base

    keys = [looks.key_height(len(row)) for row in data.rows]
    height = sum(keys) + HEIGHT * len(data.rows) + 0.3
    figure, _ = base.frame(height, data.title, data.scope, data.notes)
    ratios = [part for key in keys for part in (key, HEIGHT)]
    grid = figure.add_gridspec(2 * len(data.rows), len(PANELS), height_ratios=ratios)
    for at, row in enumerate(data.rows):
        top = figure.add_subplot(grid[2 * at, :])
        top.set_axis_off()
        looks.key(top, [one.arm for one in row])
        for column, (key, title) in enumerate(PANELS):
            axes = figure.add_subplot(grid[2 * at + 1, column])
            _panel(axes, key, row, data.against if at else ())
            if at == 0:
                axes.set_title(title, loc="left")
            if at == len(data.rows) - 1:
                axes.set_xlabel("ms (lower is better)")
            if column == 0:
                axes.set_ylabel("% of requests")
            else:
                axes.tick_params(axis="y", labelleft=False)
    return figure


def _panel(axes: Axes, key: str, row: Sequence[Curve], against: Sequence[Curve]) -> None:
    from reports.figures.agents import log_axis

    for one in against:
        if one.values_ms[key]:
            looks.step(axes, one.values_ms[key], one.of, one.arm, LEAST_MS, alpha=0.3, linestyle="solid")
    for one in row:
        if one.values_ms[key]:
            looks.step(axes, one.values_ms[key], one.of, one.arm, LEAST_MS)
    axes.set_xscale("log")
    axes.set_ylim(0, 102)
    shown = [max(v, LEAST_MS) for one in (*row, *against) for v in one.values_ms[key]]
    if shown:
        low, high = min(shown) / 1.3, max(shown) * 1.3
        axes.set_xlim(low, high)
        log_axis(axes.xaxis)
        if high / low > 300:
            _decades(axes)


def _decades(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator

    axes.xaxis.set_major_locator(LogLocator(numticks=12))


def _curve(arm: switching.Arm) -> Curve:
    values = {key: tuple(1e3 * v for v in arm.values(key)) for key, _ in PANELS}
    return Curve(arm.name, max(arm.planned or 0, len(arm.requests)), arm.seeds, values)


def _told(arm: switching.Arm, whole: Mapping[str, int]) -> str:
    """The modes of an arm as shares and counts."""
    modes = arm.modes(whole)
    parts = [
        f"{100 * modes[m] / len(arm.answered):.0f} % {m} ({modes[m]})" for m in switching.MODES if modes[m]
    ]
    return f"{arm.name}: {', '.join(parts)} of {len(arm.answered)} requests."
