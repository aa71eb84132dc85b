"""What decoding reaches of the two roofs that were measured here: memory's bandwidth and arithmetic.

A token reads so many bytes and makes so many operations; their quotient is its place on the horizontal axis,
whatever the mode. Left of the ridge memory binds, right of it arithmetic (Williams et al., "Roofline", CACM
2009). Sessions that share one reading of the weights move to the right: the same operations, fewer bytes.

Both counts are the least that a token needs, so a point tells what was achieved of useful work: a program
that reads its weights twice lies lower, and not further left.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.figures import curves
from reports.records import Floor, Record
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Point", "data", "draw"]

VARIANTS = ("native", "full", "transformers-generate", "batched-32", "transformers-batched-32")
"""Those that leave nothing to cross but ids."""
MARKERS = ("o", "s", "^", "D", "v")


class Point(NamedTuple):
    """One variant."""

    name: str
    flop_per_byte: float
    gflop_per_s: tuple[float, ...]
    """Of every round."""
    tokens_per_s: float
    roof_share: float
    """Median ÷ the roof above the point."""
    with_prompt: bool
    """Whether the prompt's time is in it, because the first token's was not told."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    points: tuple[Point, ...]
    gb_per_s: float
    """Memory's roof."""
    gflop_per_s: float
    """Arithmetic's roof."""
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """The points of the modes that leave state where it is; None where no roofs were measured."""
    records = [r for r in run.records if r.experiment == experiment and r.variant in VARIANTS]
    records = [
        r for r in sorted(records, key=lambda r: VARIANTS.index(r.variant)) if _floors(r) and _times(r)
    ]
    if not records:
        return None
    memory, compute = _floors(records[0])
    gb_per_s, gflop_per_s = (
        _number(memory, "bandwidth_bytes_per_s") / 1e9,
        _number(compute, "flop_per_s") / 1e9,
    )
    notes = (
        f"Roofs: {gb_per_s:.3g} GB/s of memory ({memory.inputs.get('bandwidth', '')}), "
        f"{gflop_per_s:.3g} GFLOP/s of products ({compute.inputs.get('compute', '')}).",
        "Points: operations and bytes that a token needs at least, over the time per token after the first "
        "(tpot_s; in a batch, of all sessions together); each round, and their median. "
        "* The first token's time is not told, so the prompt's is in it.",
    )
    title = f"{experiment}: what tokens reach of memory's and arithmetic's roofs"
    return Data(title, curves.scope(records[0]), tuple(map(_point, records)), gb_per_s, gflop_per_s, notes)


def draw(data: Data) -> Figure:
    """Both axes logarithmic, the roofs in black, points with their share of the roof in the key."""
    from reports.figures import base

    figure, _ = base.frame(4.4, data.title, data.scope, data.notes)
    axes = figure.subplots()
    _roofs(axes, data)
    for at, point in enumerate(data.points):
        look: dict[str, Any] = {"color": base.PALETTE[at], "marker": MARKERS[at], "linestyle": "none"}
        xs = [point.flop_per_byte] * len(point.gflop_per_s)
        axes.plot(xs, point.gflop_per_s, markersize=4, alpha=0.35, markeredgewidth=0, **look)
        star = " *" if point.with_prompt else ""
        label = (
            f"{point.name}{star}: {_short(point.tokens_per_s)} tokens/s, {point.roof_share:.0%} of its roof"
        )
        axes.plot(xs[:1], [median(point.gflop_per_s)], markersize=8, label=label, **look)
    axes.set_xlabel("operations per byte that a token reads (FLOP/B)")
    axes.set_ylabel("achieved GFLOP/s")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), borderpad=0, labelspacing=1.0)
    return figure


def _roofs(axes: Axes, data: Data) -> None:
    from reports.figures import base

    ridge = data.gflop_per_s / data.gb_per_s
    places = [point.flop_per_byte for point in data.points]
    left, right = min([*places, ridge]) / 2.5, max([*places, ridge]) * 4
    lowest = min(value for point in data.points for value in point.gflop_per_s)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min(lowest, left * data.gb_per_s) / 1.5, data.gflop_per_s * 2)
    axes.plot(
        [left, ridge, right], [left * data.gb_per_s, *[data.gflop_per_s] * 2], color=base.INK, linewidth=1.4
    )
    axes.axvline(ridge, color=base.GREY, linewidth=0.8, linestyle=":")
    axes.text(
        ridge / 1.12, axes.get_ylim()[0] * 1.15, f"ridge, {ridge:.3g} FLOP/B", rotation=90, ha="right",
        va="bottom", fontsize=8, color=base.GREY,
    )  # fmt: skip
    axes.text(
        right / 1.1, data.gflop_per_s * 1.08, f"{data.gflop_per_s:.3g} GFLOP/s", ha="right", va="bottom",
        fontsize=8.5,
    )  # fmt: skip
    middle = (left * min(ridge, right)) ** 0.5
    axes.annotate(
        f"{data.gb_per_s:.3g} GB/s", (middle, middle * data.gb_per_s), xytext=(-6, 5),
        textcoords="offset points", ha="right", va="bottom", fontsize=8.5,
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: _short(value))


def _point(record: Record) -> Point:
    memory, compute = _floors(record)
    sessions = _number(memory, "sessions")
    read = _number(memory, "step_bytes") / sessions + _number(memory, "kv_bytes")
    flop, times = _number(compute, "flop"), _times(record)
    roof_s = max(read / _number(memory, "bandwidth_bytes_per_s"), flop / _number(compute, "flop_per_s"))
    middle_s = median(times)
    return Point(
        name=record.variant,
        flop_per_byte=flop / read,
        gflop_per_s=tuple(flop / one_s / 1e9 for one_s in times),
        tokens_per_s=1 / middle_s,
        roof_share=roof_s / middle_s,
        with_prompt=not record.values("tpot_s") and sessions == 1,
    )


def _times(record: Record) -> list[float]:
    """Seconds per token: after the first, if that was told; a batch's prompts are in none of its times."""
    return record.values("tpot_s") or record.values("token_s")


def _floors(record: Record) -> tuple[Floor, ...]:
    """Memory's floor and arithmetic's; empty where one of them is missing."""
    named = {floor.name: floor for floor in record.floors}
    wanted = ("token_floor", "compute_floor")
    return tuple(named[name] for name in wanted) if set(wanted) <= named.keys() else ()


def _number(floor: Floor, name: str) -> float:
    return float(floor.inputs[name])


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
