"""Latency against the rate at which agents arrive, up to saturation; and replayed, up to ten thousand.

On the left what was measured: beyond the rate that saturates the server a queue only grows, and no latency is
a property of the server. On the right what a simulation with costs measured here makes of many agents; it is
labelled, and confirms nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments import agents
from reports.figures import base, curves
from reports.figures.agents import ARM_LOOKS, in_order, key, log_axis, mark, scope
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "Data", "data", "draw"]

RATES, REPLAY = "curve-rate", "replay"
HEIGHT = 3.4
TICKS_APART = 1.9
"""The least ratio of neighbouring ticks."""
PHASES = ("reason", "reflect")
NOTES = (
    "Median time to the first token, from when a step was due; REASON open and dotted, REFLECT filled. Left: "
    "measured; a mark is the median of a rate's rounds, the dashed line the rate at which the server is "
    "saturated, measured with no agent asleep.",
    "Right: simulated with costs measured here (harness/agents/replay.py), agents arriving at the rate named "
    "above it. Triangles: the 99th percentile, where there are agents enough for one (368).",
)


class Curve(NamedTuple):
    """One arm at one phase."""

    arm: str
    phase: str
    points: tuple[tuple[float, float], ...]
    """(arrivals per second or agents, seconds), rising."""
    p99s: tuple[tuple[float, float], ...] = ()


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    rates: tuple[Curve, ...]
    saturation_per_s: float | None
    alone_s: float | None
    """The median REFLECT of one agent alone."""
    replayed: tuple[Curve, ...]
    rate_text: str
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Both halves, as far as they were run; None without either."""
    records = [r for r in run.records if r.experiment == experiment]
    measured, replayed = agents.sweep(records, RATES), agents.sweep(records, REPLAY)
    if measured is None and replayed is None:
        return None
    points = measured[1] if measured else []
    simulated = replayed[1] if replayed else []
    full = [float(p["saturation_per_s"]) for p in points if p.get("saturation_per_s")]
    alone = [float(p["alone_ttft_p50_s"]) for p in points if p.get("alone_ttft_p50_s")]
    rates = sorted({float(p["arrival_rate_per_s"]) for p in simulated if p.get("arrival_rate_per_s")})
    return Data(
        title=f"{experiment}: time to the first token against the rate of arrivals, and for many agents",
        scope=scope([found[0] for found in (measured, replayed) if found]),
        rates=_curves(points, "arrival_rate_per_s"),
        saturation_per_s=median(full) if full else None,
        alone_s=median(alone) if alone else None,
        replayed=_curves(simulated, "agents"),
        rate_text=" to ".join(f"{r:.3g}" for r in dict.fromkeys((rates[0], rates[-1]))) if rates else "",
        notes=NOTES,
    )


def draw(data: Data) -> Figure:
    """Measured beside simulated; REASON open, REFLECT filled."""
    figure, _ = base.frame(HEIGHT + 0.55, data.title, data.scope, data.notes)
    top, [[rates, many]] = curves.grid(figure, 1, 2, HEIGHT, 0.55)
    for axes, found in ((rates, data.rates), (many, data.replayed)):
        axes.set_yscale("log")
        if found:
            for curve in found:
                _draw(axes, curve)
            axes.set_ylabel("ms to the first token")
            log_axis(axes.yaxis)
        else:
            axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color=base.GREY)
            axes.set_yticks([])
    if data.rates:
        _limits(rates, data)
    rates.set_title("measured", loc="left")
    rates.set_xlabel("agents arriving per second")
    if data.replayed:
        many.set_xscale("log")
        log_axis(many.xaxis, _apart({x for curve in data.replayed for x, _ in curve.points}))
    many.set_title(f"simulated, {data.rate_text} agents/s" if data.rate_text else "simulated", loc="left")
    many.set_xlabel("agents in all")
    arms = in_order(curve.arm for curve in (*data.rates, *data.replayed))
    phases = [
        mark("o", "REASON", markerfacecolor="white"), mark("o", "REFLECT"),
        mark("^", "p99, simulated", markerfacecolor="white"),
    ]  # fmt: skip
    key(top, arms, phases)
    return figure


def _draw(axes: Axes, curve: Curve) -> None:
    look = _look(curve.arm, curve.phase)
    fill = "white" if curve.phase == "reason" else look.colour
    axes.plot(
        [x for x, _ in curve.points], [1e3 * y for _, y in curve.points], color=look.colour,
        marker=look.marker, markerfacecolor=fill, linestyle=look.dashes, markersize=5, linewidth=1.4,
    )  # fmt: skip
    if curve.p99s:
        axes.plot(
            [x for x, _ in curve.p99s], [1e3 * y for _, y in curve.p99s], "^", color=look.colour,
            markerfacecolor=fill, markersize=5,
        )  # fmt: skip


def _apart(numbers: Iterable[float]) -> list[float]:
    """Those that can be written beside each other on an axis of four decades; the last one among them."""
    kept: list[float] = []
    for number in sorted(numbers, reverse=True):
        if not kept or number <= kept[-1] / TICKS_APART:
            kept.append(number)
    return kept[::-1]


def _limits(axes: Axes, data: Data) -> None:
    _, right = axes.get_xlim()
    axes.set_xlim(0, max(right, 1.06 * (data.saturation_per_s or 0.0)))
    if data.saturation_per_s is not None:
        axes.axvline(data.saturation_per_s, color=base.INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.annotate(
            "saturation", (data.saturation_per_s, 0), (-4, 6), xycoords=("data", "axes fraction"),
            textcoords="offset points", rotation=90, ha="right", va="bottom", fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )  # fmt: skip
    if data.alone_s is not None:
        axes.axhline(2e3 * data.alone_s, color=base.GREY, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            "twice REFLECT alone", (0, 2e3 * data.alone_s), (4, 3), textcoords="offset points", fontsize=8,
            color=base.GREY,
        )  # fmt: skip


def _look(arm: str, phase: str) -> curves.Look:
    look = ARM_LOOKS[arm]
    return look if phase == "reflect" else curves.Look(look.colour, look.marker, (0, (1, 1.2)))


def _curves(points: Sequence[Mapping[str, Any]], along: str) -> tuple[Curve, ...]:
    """Medians over rounds of every arm and phase."""
    out = []
    for arm in in_order(str(p.get("arm")) for p in points):
        for phase in PHASES:
            mine = [p for p in points if p.get("arm") == arm and p.get(along) is not None]
            middles, tails = (_along(mine, along, f"{phase}_ttft_{name}_s") for name in ("p50", "p99"))
            if middles:
                out.append(Curve(arm, phase, middles, tails))
    return tuple(out)


def _along(points: Sequence[Mapping[str, Any]], along: str, key: str) -> tuple[tuple[float, float], ...]:
    at: dict[float, list[float]] = {}
    for point in points:
        if point.get(key) is not None:
            at.setdefault(float(point[along]), []).append(float(point[key]))
    return tuple((x, median(at[x])) for x in sorted(at))
