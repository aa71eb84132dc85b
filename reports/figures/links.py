"""What policies gain on links from the source's to PCIe 5, simulated: to the first token, and in total.

A total has the computing of all its tokens in it, so that the gain in it shrinks as copies get faster, while
that to the first token stays. The source's times imply 4.4 GB/s of its pinned copies, far below its device's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports.experiments.switching import CONTROL
from reports.experiments.switching_grids import Grid, grid, simulated_scope
from reports.figures import curves
from reports.figures import switching as looks
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "data", "draw"]

VARIANT = "sim-links"
PUBLISHED_LINK, PUBLISHED = 4.4, 3.1
"""GB/s that the source's times imply, and its ratio of P50 totals. Source: seeds/switching.md, Key Result."""
PANELS = (
    ("switch_mean_s", 1e3, "switch, mean, ms"),
    ("ttft_ratio_mean", 1.0, "first token, mean ×"),
    ("total_ratio_mean", 1.0, "last token, mean ×"),
    ("total_ratio_p50", 1.0, "last token, p50 ×"),
)
HEIGHT = 2.5


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    grid: Grid
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """The sweep of links; None where there is none."""
    found = grid((r for r in run.records if r.experiment == experiment), VARIANT, "link_gb_s")
    if found is None:
        return None
    notes = (
        f"×: times as fast as {CONTROL} on the same link, over all requests of all seeds. The last token is "
        "the 50th; its computing gets no faster with the link. A switch of 0 is not drawn.",
        f"Dashed: {PUBLISHED_LINK:g} GB/s, what the source's times imply of its link; star: its "
        f"{PUBLISHED:g}× of p50 totals.",
    )
    title = f"{experiment}: what a faster link leaves of the gain (simulated)"
    return Data(title, simulated_scope(found), found, notes)


def draw(data: Data) -> Figure:
    """Two rows of two panels."""
    figure, rows = looks.sheet(data, 2, 2, HEIGHT)
    for at, (key, factor, label) in enumerate(PANELS):
        axes = rows[at // 2][at % 2]
        looks.curve(axes, data.grid, key, factor)
        if "ratio" in key:
            looks.ratio_axis(axes, label)
        else:
            _seconds(axes, label)
        _published(axes, data.grid, is_star=key == "total_ratio_p50")
        curves.name_levels(axes, [f"{level:g}" for level in data.grid.levels])
        axes.set_xlabel("link, GB/s" if at >= 2 else "")
    return figure


def _seconds(axes: Axes, label: str) -> None:
    from reports.figures.agents import log_axis

    axes.set_yscale("log", nonpositive="mask")
    log_axis(axes.yaxis)
    axes.set_ylabel(label)


def _published(axes: Axes, found: Grid, *, is_star: bool) -> None:
    from reports.figures import base

    if PUBLISHED_LINK not in found.levels:
        return
    x = found.levels.index(PUBLISHED_LINK)
    axes.axvline(x, color=base.GREY, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
    if is_star:
        axes.plot(x, PUBLISHED, "*", markersize=12, color="white", markeredgecolor=base.INK, zorder=5)
        axes.set_ylim(top=max(axes.get_ylim()[1], 1.08 * PUBLISHED))
