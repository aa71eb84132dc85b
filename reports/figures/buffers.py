"""Hits, bytes and speed-up against the size of the buffer, simulated: a line per policy.

The source's 3.07–3.13× at every size is the ratio of two P50 of totals. Above 50 % of hits that P50 is
computing alone, so that it says nothing of the buffer; mean and P99 do. 20 and 25 GB are one size to
policies of whole models: neither holds two of the larger ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments.switching import CONTROL, SOURCE
from reports.experiments.switching_grids import Grid, grid, grids, simulated_scope
from reports.figures import curves
from reports.figures import switching as looks
from reports.records import Record
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "data", "draw"]

VARIANT = "sim-buffers"
PUBLISHED = (3.07, 3.13)
"""Source: seeds/switching.md, Key Findings of the buffer sweep."""
WHOLE = (SOURCE, "fifo-ring", "lru", "gdsf")
"""Policies of whole models that could keep more than one."""
SAME = (20.0, 25.0)
EXACT = 1e-9
PANELS = (
    ("hit_share", 100.0, "hits, % of requests"),
    ("bytes_in_gb", 1.0, "moved, GB per trace"),
    ("total_ratio_p50", 1.0, "last token, p50 ×"),
    ("ttft_ratio_p50", 1.0, "first token, p50 ×"),
    ("ttft_ratio_mean", 1.0, "first token, mean ×"),
    ("ttft_ratio_p99", 1.0, "first token, p99 ×"),
)
HEIGHT = 2.3


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    grid: Grid
    same: tuple[str, ...]
    """Policies of whole models to which `SAME` are one size."""
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """The sweep of buffers; None where there is none."""
    records = [r for r in run.records if r.experiment == experiment]
    found = grid(records, VARIANT, "buffer_gb")
    if found is None:
        return None
    same = tuple(name for name in WHOLE if _is_same(found, name))
    notes = [
        f"×: times as fast as {CONTROL}; p50, mean and p99 over all requests of all seeds. Sizes stand "
        "equally far apart, policies slightly apart at one.",
        f"Band: the source's {PUBLISHED[0]}–{PUBLISHED[1]}× at every size, of p50 totals, on a link whose "
        "times imply 4.4 GB/s: above 50 % hits that p50 is computing alone.",
    ]
    if same:
        notes.append(
            f"20 and 25 GB are the same to {', '.join(same)}: neither holds two of the larger models."
        )
    if (most := _cold(records)) is not None:
        notes.append(
            "The arena is filled first. From cold, no policy without lookahead has more than "
            f"{100 * most:.0f} % hits at any size."
        )
    title = f"{experiment}: hits, bytes and speed-up by the size of the buffer (simulated)"
    return Data(title, simulated_scope(found), found, same, tuple(notes))


def draw(data: Data) -> Figure:
    """Two rows of three panels."""
    figure, rows = looks.sheet(data, 2, 3, HEIGHT)
    for at, (key, factor, label) in enumerate(PANELS):
        axes = rows[at // 3][at % 3]
        looks.curve(axes, data.grid, key, factor)
        if "ratio" in key:
            looks.ratio_axis(axes, label)
        else:
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
        if key == "total_ratio_p50":
            _published(axes)
        curves.name_levels(axes, [f"{level:g}" for level in data.grid.levels])
        axes.set_xlabel("buffer, GB" if at >= 3 else "")
    return figure


def _published(axes: Axes) -> None:
    from reports.figures import base

    axes.axhspan(*PUBLISHED, color=base.INK, alpha=0.25, linewidth=0, zorder=0)
    axes.annotate(
        "published", (0, PUBLISHED[1]), (3, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=8,
    )  # fmt: skip
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.9), max(high, 1.15 * PUBLISHED[1]))


def _cold(records: Iterable[Record]) -> float | None:
    """The largest share of hits without warm-up and lookahead; None where that was not simulated."""
    colds = [one for one in grids(records, VARIANT, "buffer_gb") if one.fixed.get("warm") == "cold"]
    known = [p for one in colds for p in one.points if p.get("hit_share") is not None]
    able = [p for p in known if p["policy"] != "resident" and not p["policy"].endswith("-lookahead")]
    return max((p["hit_share"] for p in able), default=None)


def _is_same(found: Grid, name: str) -> bool:
    """Whether both sizes give equal hits and bytes."""
    points = [found.at(name, size) for size in SAME]
    keys = ("hit_share", "bytes_in_gb")
    if any(p.get(key) is None for p in points for key in keys):
        return False
    return all(abs(points[0][key] - points[1][key]) <= EXACT for key in keys)
