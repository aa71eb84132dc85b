"""What each mode of decoding takes per token, what it moves, and where its time went: a row per variant.

The first panel marks the floor of a row's own run: the bytes that a token has to read over the memory's
measured bandwidth. Both axes of sizes are logarithmic: modes lie orders of magnitude apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from reports.figures import curves
from reports.records import Record
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Row", "data", "draw"]

PARTS = ("queue_s", "compute_s", "transfer_s")


class Row(NamedTuple):
    """One variant."""

    name: str
    token_ms: tuple[float, ...]
    """Of every round."""
    floor_ms: float | None
    bytes_per_token: float | None
    """None where nothing crossed, or it was not counted."""
    shares: Mapping[str, float]
    """Part → share of the time; empty where it was not split."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Times and bytes of every variant; None where nothing was decoded."""
    records = [r for r in run.records if r.experiment == experiment and r.values("token_s")]
    if not records:
        return None
    notes = (
        "Time per token: each round, and their median (bar), the prompt's time in it. Black tick: the least "
        "that its reads take at the bandwidth measured here. Of a batch: the time of all ÷ all their tokens.",
        "Bytes per token: at the client's socket, both ways. Rounds over a link or with weights decode fewer "
        "tokens, so that the prompt weighs more; compare such rows with their own native in the tables.",
    )
    title = f"{experiment}: time per token, bytes per token and where the time went"
    return Data(title, curves.scope(records[0]), tuple(map(_row, records)), notes)


def _row(record: Record) -> Row:
    parts = {part: record.values(part) for part in PARTS}
    totals = record.values("total_s")
    whole = all(len(values) == len(totals) for values in parts.values())
    crossed = record.values("client_server_bytes_per_token")
    floors = [floor.value for floor in record.floors if floor.name == "token_floor"]
    return Row(
        name=record.variant + ("" if record.evidence == "measured" else f" ({record.evidence})"),
        token_ms=tuple(1e3 * value for value in record.values("token_s")),
        floor_ms=1e3 * floors[0] if floors else None,
        bytes_per_token=fmean(crossed) or None if crossed else None,
        shares={part: sum(values) / sum(totals) for part, values in parts.items()} if whole else {},
    )


def draw(data: Data) -> Figure:
    """Three panels beside each other, rows in the order of the run."""
    from reports.figures import base

    names = [row.name for row in data.rows]
    figure, _ = base.frame(base.rows_height(names) + 0.9, data.title, data.scope, data.notes)
    times, sizes, split = figure.subplots(1, 3, sharey=True, width_ratios=[1.2, 1.0, 1.0])
    _times(times, data.rows)
    _sizes(sizes, data.rows)
    _split(split, data.rows)
    for axes in (times, sizes, split):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    base.labels(times, names)
    return figure


def _times(axes: Axes, rows: Sequence[Row]) -> None:
    from reports.figures import base

    lowest = min(min(row.floor_ms or row.token_ms[0], *row.token_ms) for row in rows)
    axes.set_xscale("log")
    for y, row in enumerate(rows):
        axes.barh(y, median(row.token_ms), height=0.62, color=base.PALETTE[0], alpha=0.3, linewidth=0)
        axes.plot(row.token_ms, [y] * len(row.token_ms), "o", markersize=2.6, color=base.PALETTE[0])
        if row.floor_ms is not None:
            axes.plot([row.floor_ms] * 2, [y - 0.36, y + 0.36], color=base.INK, linewidth=1.4)
    axes.set_xlim(left=lowest / 2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlabel("ms per token (lower is better)")


def _sizes(axes: Axes, rows: Sequence[Row]) -> None:
    from reports.figures import base

    axes.set_xscale("log")
    axes.set_xlim(1, 3 * max([10.0, *(row.bytes_per_token or 0.0 for row in rows)]))
    for y, row in enumerate(rows):
        if row.bytes_per_token is None:
            axes.text(1.2, y, "–", va="center")
        else:
            axes.barh(y, row.bytes_per_token, height=0.62, color=base.PALETTE[1], alpha=0.45, linewidth=0)
    axes.set_xlabel("bytes per token, client and server")


def _split(axes: Axes, rows: Sequence[Row]) -> None:
    from reports.figures import base

    for at, part in enumerate(PARTS):
        lefts = [sum(row.shares.get(other, 0.0) for other in PARTS[:at]) for row in rows]
        widths = [row.shares.get(part, 0.0) for row in rows]
        axes.barh(
            range(len(rows)), widths, left=lefts, height=0.62, color=base.PALETTE[at + 2], linewidth=0,
            hatch=("", "//", "..")[at], edgecolor="white", label=part.removesuffix("_s"),
        )  # fmt: skip
    for y, row in enumerate(rows):
        if not row.shares:
            axes.text(0.02, y, "–", va="center")
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the time")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0)
