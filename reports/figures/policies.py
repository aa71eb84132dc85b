"""Hits and bytes of every policy against Belady's: simulated at paper scale, and beside it what ran.

Bytes are shown over the least that any policy moves for the same traces, which is the same whatever the
scale, so that the live arms, whose models are a thousandth, stand beside the simulated ones. Lookahead moves
more than it has to where a guess was wrong. Bytes copied back are in numbers: read-only weights need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments import switching
from reports.experiments.switching_grids import Grid, grids, simulated_scope
from reports.experiments.switching_tables import over_belady
from reports.runs import Run
from reports.tabular import cells
from reports.tabular.means import NOTHING, Estimate, divided, of_rounds, unit_notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Row", "data", "draw"]

VARIANT = "sim-policies"
BUFFER_GB = 25.0
LINK = 0.14
"""Of a row: how far measured marks stand beneath the middle of a bar."""


class Row(NamedTuple):
    """One policy; None is not known."""

    name: str
    hits: float | None
    """%, simulated, as the next three."""
    moved_gb: float | None
    over: float | None
    out_gb: float | None
    live_hits: Estimate
    live_over: float | None


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    rows: tuple[Row, ...]
    belady_gb: float | None
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Every policy that was simulated, and every arm that ran one; None where none was simulated."""
    records = [r for r in run.records if r.experiment == experiment]
    found = next(iter(grids(records, VARIANT, "buffer_gb")), None)
    if found is None:
        return None
    level = BUFFER_GB if BUFFER_GB in found.levels else found.levels[0]
    live = {arm.name: arm for arm in switching.arms(records)}
    rows = tuple(_row(found, level, name, live.get(name)) for name in found.policies)
    least = next((p["belady_bytes_gb"] for p in found.points if p.get("belady_bytes_gb") is not None), None)
    notes = [
        "Bars: simulated, mean over seeds. Line at 1×: the least that any policy moves for these traces "
        "(Belady over bytes, each byte copied when it is needed); lookahead may move more.",
    ]
    scope = simulated_scope(found, level)
    shown = [arm for name, arm in live.items() if name in found.policies]
    if shown:
        unit = "sessions" if unit_notes(arm.record for arm in shown) else "seeds"
        notes.append(
            f"Circles: measured, all requests of all seeds, with 95 % intervals over {unit}; over the least "
            "bytes of their own traces."
        )
        scope += f"\nmeasured: {switching.scope(shown)}"
    title = f"{experiment}: hits and bytes by policy, against the least that any moves (simulated"
    title += f"; circles: {switching.where(shown)})" if shown else ")"
    return Data(title, scope, rows, least, tuple(notes))


def draw(data: Data) -> Figure:
    """Hits, bytes over Belady's, and bytes as numbers."""
    from reports.figures import base

    names = [row.name for row in data.rows]
    figure, _ = base.frame(0.27 * len(names) + 0.95, data.title, data.scope, data.notes)
    hits, over = figure.subplots(1, 2, sharey=True, width_ratios=[1.0, 1.35])
    _hits(hits, data.rows)
    _over(over, data)
    for axes in (hits, over):
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    base.labels(hits, names)
    return figure


def _hits(axes: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    from reports.figures import base

    for y, row in enumerate(rows):
        _bar(axes, y, row.hits)
        if row.live_hits.value is not None:
            if row.live_hits.interval is not None:
                axes.plot(row.live_hits.interval, [y + LINK] * 2, color=base.INK, linewidth=1.2, zorder=4)
            _dot(axes, row.live_hits.value, y)
    axes.set_xlim(0, 102)
    axes.set_xlabel("hits, % of requests")
    entries = [
        Patch(facecolor="#c9dcea", edgecolor=base.PALETTE[0], hatch="///", linewidth=0.6, label="simulated"),
        Line2D([], [], linestyle="", marker="o", markersize=5, color=base.INK, label="measured"),
    ]
    if not any(row.live_hits.value is not None or row.live_over is not None for row in rows):
        entries = entries[:1]
    axes.legend(handles=entries, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)


def _over(axes: Axes, data: Data) -> None:
    from reports.figures import base

    top = max([2.0, *(v for row in data.rows for v in (row.over, row.live_over) if v is not None)])
    for y, row in enumerate(data.rows):
        _bar(axes, y, row.over)
        if row.live_over is not None:
            _dot(axes, row.live_over, y)
        axes.text(1.0, y, _numbers(row), va="center", fontsize=8, transform=axes.get_yaxis_transform())
    axes.axvline(1, color=base.INK, linewidth=1.2, zorder=3)
    axes.set_xlim(0, 1.05 * top)
    least = "" if data.belady_gb is None else f" ({data.belady_gb:.3g} GB per trace)"
    axes.set_xlabel(f"bytes moved ÷ the least{least}")
    axes.text(
        1.0, 1.0, "moved, copied back\nGB per trace", va="bottom", fontsize=8, color=base.GREY,
        transform=axes.transAxes,
    )  # fmt: skip


def _numbers(row: Row) -> str:
    out = "0" if row.out_gb == 0 else cells.number(row.out_gb)
    return f"  {cells.number(row.moved_gb)}, {out}"


def _bar(axes: Axes, y: int, value: float | None) -> None:
    from reports.figures import base

    if value is not None:
        axes.barh(
            y, value, height=0.68, facecolor="#c9dcea", edgecolor=base.PALETTE[0], hatch="///", linewidth=0.6
        )


def _dot(axes: Axes, value: float, y: int) -> None:
    from reports.figures import base

    axes.plot(value, y + LINK, "o", markersize=5, color=base.INK, markeredgecolor="white", zorder=5)


def _row(found: Grid, level: float, name: str, arm: switching.Arm | None) -> Row:
    point = found.at(name, level)
    hits = point.get("hit_share")
    live = divided(of_rounds(arm.record, "hit_share", arm.side), 1 / 100) if arm else NOTHING
    return Row(
        name,
        None if hits is None else 100 * hits,
        point.get("bytes_in_gb"),
        point.get("bytes_over_belady"),
        point.get("bytes_out_gb"),
        live,
        over_belady(arm) if arm else None,
    )
