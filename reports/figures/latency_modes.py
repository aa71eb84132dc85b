"""What requests of each arm met, and the middle and tail of their times: a row per arm.

The source calls its latencies trimodal in one place and bimodal in another. Here requests are counted by how
much of their model was missing when their turn came: nothing, some of it, all of it. Quantiles are over all
requests of all seeds; one that they do not support says so and is not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments import switching
from reports.figures import base
from reports.figures.agents import log_axis
from reports.runs import Run
from reports.tabular.means import Estimate, unit_notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Row", "data", "draw"]

SHARES = (0.5, 0.99)
KEYS = (("switch_s", "switch, ms"), ("ttft_s", "first token, ms"), ("total_s", "last token, ms"))
MARKS = {"p50": ("o", base.PALETTE[0]), "p99": ("^", base.PALETTE[1]), "largest": ("x", base.GREY)}
LEAST_MS = 0.01
TEXT = 0.055
"""The share from which a bar holds its number."""
NOTES = (
    "Left: requests by what of their model was missing when their turn came, in % of all; n: requests, over "
    "so many seeds. Partial: some of its bytes were resident.",
    "Right: of all requests, with 95 % intervals over seeds from 10 seeds on. A p99 is unsupported below 368 "
    "requests, and not drawn. Below 0.01 ms drawn there.",
)


class Row(NamedTuple):
    """One arm."""

    name: str
    requests: int
    seeds: int
    modes: Mapping[str, int]
    quantiles_ms: Mapping[str, tuple[Estimate, ...]]
    largest_ms: Mapping[str, float | None]


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Every arm; None where no request was answered."""
    found = switching.arms(r for r in run.records if r.experiment == experiment)
    if not found:
        return None
    whole = switching.sizes(found)
    title = f"{experiment}: what requests met at their turn, and p50 and p99 ({switching.where(found)})"
    notes = (*NOTES, *(f"{note.capitalize()}." for note in unit_notes(arm.record for arm in found)))
    return Data(title, switching.scope(found), tuple(_row(arm, whole) for arm in found), notes)


def draw(data: Data) -> Figure:
    """Modes, and a panel per time."""
    names = [f"{row.name}\nn = {row.requests}, {_seeds(row.seeds)}" for row in data.rows]
    figure, _ = base.frame(0.36 * len(names) + 0.8, data.title, data.scope, data.notes)
    panels = figure.subplots(1, 1 + len(KEYS), sharey=True, width_ratios=[1.35, 1.1, 0.9, 0.9])
    panels[0].set_title(" ")  # room for the keys
    _modes(panels[0], data.rows)
    for axes, (key, label) in zip(panels[1:], KEYS, strict=True):
        _times(axes, data.rows, key)
        supported = any(row.quantiles_ms[key][-1].value is not None for row in data.rows)
        axes.set_xlabel(label if supported else f"{label}\np99: unsupported")
    _key(panels[1])
    for axes in panels:
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _modes(axes: Axes, rows: Sequence[Row]) -> None:
    colours = (base.PALETTE[2], base.PALETTE[4], base.PALETTE[1], "#d9d9d9")
    skins = zip(switching.MODES, colours, ("", "//", "xx", ".."), strict=True)
    lefts = [0.0] * len(rows)
    for mode, colour, hatch in skins:
        widths = [100 * row.modes.get(mode, 0) / max(row.requests, 1) for row in rows]
        if any(widths):
            axes.barh(
                range(len(rows)), widths, left=lefts, height=0.66, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0, label=mode,
            )  # fmt: skip
        for y, (left, width) in enumerate(zip(lefts, widths, strict=True)):
            if width >= 100 * TEXT:
                box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
                axes.text(
                    left + width / 2, y, f"{width:.0f}", ha="center", va="center", fontsize=7.5, bbox=box
                )
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of requests")
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderpad=0, columnspacing=1.2)
    legend.set_in_layout(False)


def _key(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5, label=name)
        for name, (marker, colour) in MARKS.items()
    ]
    legend = axes.legend(
        handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, columnspacing=1.2
    )
    legend.set_in_layout(False)


def _times(axes: Axes, rows: Sequence[Row], key: str) -> None:
    axes.set_xscale("log")
    for y, row in enumerate(rows):
        marks = zip(row.quantiles_ms[key], MARKS.values(), (-0.13, 0.13), strict=False)
        for e, (marker, colour), shift in marks:
            if e.value is None:
                continue
            if e.interval is not None:
                ends = [max(end, LEAST_MS) for end in e.interval]
                axes.plot(ends, [y + shift] * 2, color=colour, linewidth=1.3, marker="|", markersize=5)
            axes.plot(max(e.value, LEAST_MS), y + shift, marker, markersize=5.5, color=colour)
        if (largest := row.largest_ms[key]) is not None:
            axes.plot(max(largest, LEAST_MS), y, markersize=4.5, marker="x", color=base.GREY)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    log_axis(axes.xaxis)
    if high / low > 300:
        from matplotlib.ticker import LogLocator

        axes.xaxis.set_major_locator(LogLocator(numticks=12))


def _row(arm: switching.Arm, whole: Mapping[str, int]) -> Row:
    quantiles = {key: tuple(map(_ms, arm.quantiles(key, SHARES))) for key, _ in KEYS}
    largest = {key: max((1e3 * v for v in arm.values(key)), default=None) for key, _ in KEYS}
    return Row(arm.name, len(arm.answered), arm.seeds, arm.modes(whole), quantiles, largest)


def _seeds(num: int) -> str:
    return f"{num} seed" if num == 1 else f"{num} seeds"


def _ms(e: Estimate) -> Estimate:
    def scaled(value: float | None) -> float | None:
        return None if value is None else 1e3 * value

    return Estimate(scaled(e.value), scaled(e.low), scaled(e.high), e.n)
