"""Latency of REASON and REFLECT against the number of agents, and the part of it that is queueing: Figure 6.

The source draws the p99. Here a line joins medians, every step is a dot, and a triangle is the highest
quantile that a count's steps support: one iteration at 32 agents has no p99. A cross marks a count at which
an arm was refused memory; its dots are of the agents that had found room.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments import agents
from reports.experiments.agents import REASON, REFLECT
from reports.figures import curves
from reports.figures.agents import ARM_LOOKS, CROSS, in_order, key, log_axis, mark, scope
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Count", "Data", "data", "draw"]

HEIGHT = 3.6
DODGE = 0.06
"""Of a doubling, between arms at one count."""
LEAST_MS = 0.1
"""Of queueing; below it an axis of logarithms has nothing to show."""
NOTES = (
    "Latency of a step, from when it was due to its last token. Dots: every step. Line: medians, with their "
    "95 % interval from 6 steps on. Triangle: the highest quantile above the median that a count's steps "
    "support: p75 from 13, p90 from 36, p95 from 72, p99 from 368 on.",
    "Cross: so many agents were refused memory; what stands there is of those that had found room, and at "
    "the top where none had. Queueing: mean of all steps, until something was done for them; drawn at 0.1 ms "
    "where it is less.",
)


class Count(NamedTuple):
    """An arm at one number of agents."""

    arm: str
    agents: int
    reason_ms: tuple[float, ...]
    reflect_ms: tuple[float, ...]
    queue_ms: float | None
    oom_at: int | None


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    counts: tuple[Count, ...]
    notes: tuple[str, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """In their order."""
        return in_order(count.arm for count in self.counts)


def data(run: Run, experiment: str) -> Data | None:
    """Every arm and count; None where no step was taken."""
    records = [r for r in run.records if r.experiment == experiment]
    found = agents.points(records)
    if not any(point.steps for point in found):
        return None
    title = f"{experiment}: latency of a step against the number of agents, and who was refused memory"
    named = [r for r in records if agents.points([r])]
    return Data(title, scope(named), tuple(map(_count, found)), NOTES)


def draw(data: Data) -> Figure:
    """Three panels over one axis of counts: REASON, REFLECT, queueing."""
    from reports.figures import base

    figure, _ = base.frame(HEIGHT + 0.55, data.title, data.scope, data.notes)
    top, [[reason, reflect, queue]] = curves.grid(figure, 1, 3, HEIGHT, 0.55)
    reflect.sharey(reason)
    for place, arm in enumerate(data.arms):
        shift = 2 ** (DODGE * (place - (len(data.arms) - 1) / 2))
        mine = [count for count in data.counts if count.arm == arm]
        _line(reason, [(c, c.reason_ms) for c in mine], arm, shift)
        _line(reflect, [(c, c.reflect_ms) for c in mine], arm, shift)
        waited = [(c.agents * shift, max(c.queue_ms, LEAST_MS)) for c in mine if c.queue_ms is not None]
        _joined(queue, waited, arm)
    numbers = sorted({count.agents for count in data.counts})
    for axes, text in ((reason, "REASON"), (reflect, "REFLECT"), (queue, "queueing, both steps")):
        _scale(axes, numbers, text)
    reason.set_ylabel("ms")
    marks = [
        mark(CROSS, "refused memory", markersize=8),
        mark("^", "highest supported quantile", markersize=6, markerfacecolor="white"),
    ]
    key(top, data.arms, marks)
    return figure


def _line(axes: Axes, counts: Sequence[tuple[Count, Sequence[float]]], arm: str, shift: float) -> None:
    colour = ARM_LOOKS[arm].colour
    taken = [(count, values) for count, values in counts if values]
    for count in (count for count, values in counts if not values and count.oom_at is not None):
        axes.plot(
            count.agents * shift, 0.97, CROSS, markersize=11, color=colour, markeredgecolor="black",
            transform=axes.get_xaxis_transform(), zorder=6,
        )  # fmt: skip
    for count, values in taken:
        x = count.agents * shift
        axes.plot([x] * len(values), values, ".", markersize=2.2, color=colour, alpha=0.35, zorder=1)
        _quantiles(axes, x, values, colour)
        if count.oom_at is not None:
            axes.plot(
                x, median(values), CROSS, markersize=11, color=colour, markeredgecolor="black", zorder=6
            )  # fmt: skip
    _joined(axes, [(count.agents * shift, median(values)) for count, values in taken], arm)


def _joined(axes: Axes, found: Sequence[tuple[float, float]], arm: str) -> None:
    look = ARM_LOOKS[arm]
    axes.plot(
        [x for x, _ in found], [y for _, y in found], color=look.colour, marker=look.marker,
        linestyle=look.dashes, markersize=4.5, linewidth=1.4, zorder=3,
    )  # fmt: skip


def _quantiles(axes: Axes, x: float, values: Sequence[float], colour: str) -> None:
    """The median's interval, and the highest quantile above it."""
    middle, best = agents.quantile(values, 0.5), agents.highest(values)
    if middle is not None:
        axes.plot([x, x], [middle.low, middle.high], color=colour, linewidth=1.1, zorder=2)
    if best is not None and best[0] > 0.5:
        axes.plot(x, best[1].estimate, "^", markersize=5, markerfacecolor="white", color=colour, zorder=4)


def _scale(axes: Axes, numbers: Sequence[int], text: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    log_axis(axes.xaxis, numbers)
    log_axis(axes.yaxis)
    axes.set_xlim(numbers[0] / 1.25, numbers[-1] * 1.25)
    axes.set_xlabel("agents at once")
    axes.set_title(text, loc="left")


def _count(point: agents.Point) -> Count:
    def of(phase: str) -> tuple[float, ...]:
        return tuple(1e3 * value for value in point.values("total_s", phase))

    waited = point.values("queue_s")
    queue_ms = 1e3 * fmean(waited) if waited else None
    return Count(point.arm, point.agents, of(REASON), of(REFLECT), queue_ms, point.oom_at)
