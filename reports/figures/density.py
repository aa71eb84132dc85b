"""How many agents fit against the device's memory, with a model of their own and over shared weights.

Lines are arithmetic, ⌊C ÷ (W + kv)⌋ and ⌊(C − W) ÷ kv⌋; marks are what found room when the device's allocator
was asked, up to the first refusal. Their ratio has no limit but C ÷ kv: it says how short histories are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports import agents
from reports.figures import base, curves
from reports.figures.agents import ARM_LOOKS, key, line, log_axis, mark, scope
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Fit", "data", "draw"]

VARIANT = "curve-density"
HEIGHT = 3.2
OWN, SHARED = "ray-keepalive", "shared"
PUBLISHED = 20.0
NOTES = (
    "Left: lines are what arithmetic predicts, marks what found room before the allocator refused. Right: "
    "their ratio; dotted: the published 20×, of an experiment that ends at 32 sessions, where 80 GB hold 5 "
    "models of Llama-2-7B in fp16 (6.4×) or 2 in fp32 (16×).",
)


class Fit(NamedTuple):
    """One budget."""

    budget_bytes: int
    own: float | None
    sessions: float | None
    predicted_own: float | None
    predicted_sessions: float | None


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    fits: tuple[Fit, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """Every budget of the curve, rising; None where there is none."""
    records = [r for r in run.records if r.experiment == experiment]
    found = agents.sweep(records, VARIANT)
    if found is None:
        return None
    keys = ("own_models", "sessions", "predicted_own_models", "predicted_sessions")
    fits = {
        int(p["budget_bytes"]): Fit(int(p["budget_bytes"]), *(p.get(key) for key in keys))
        for p in found[1]
        if p.get("budget_bytes") is not None
    }
    title = f"{experiment}: agents that fit, by the device's memory"
    return (
        Data(title, scope([found[0]], without=["budget_bytes"]), tuple(fits[b] for b in sorted(fits)), NOTES)
        if fits
        else None
    )


def draw(data: Data) -> Figure:
    """Numbers, and their ratio."""
    figure, _ = base.frame(HEIGHT + 0.35, data.title, data.scope, data.notes)
    top, [[numbers, ratio]] = curves.grid(figure, 1, 2, HEIGHT, 0.3)
    own, shared = ARM_LOOKS[OWN], ARM_LOOKS[SHARED]
    budgets = [fit.budget_bytes / 1e6 for fit in data.fits]
    for look, predicted, found in (
        (own, [f.predicted_own for f in data.fits], [f.own for f in data.fits]),
        (shared, [f.predicted_sessions for f in data.fits], [f.sessions for f in data.fits]),
    ):
        _line(numbers, budgets, predicted, look.colour)
        known = [(x, y) for x, y in zip(budgets, found, strict=True) if y]
        numbers.plot(*zip(*known, strict=True) if known else ([], []), look.marker, color=look.colour)
    both = [(f.budget_bytes / 1e6, f.sessions / f.own) for f in data.fits if f.own and f.sessions is not None]
    ratio.plot([x for x, _ in both], [y for _, y in both], "o-", color=base.INK, markersize=4.5)
    ratio.axhline(PUBLISHED, color=base.INK, linewidth=0.9, linestyle=(0, (1, 2)))
    ratio.annotate("published: 20×", (0.01, PUBLISHED), (0, 3), xycoords=("axes fraction", "data"),
                   textcoords="offset points", fontsize=8)  # fmt: skip
    ratio.set_ylim(0, 1.15 * max([PUBLISHED, *(y for _, y in both)]))
    numbers.set_yscale("log")
    log_axis(numbers.yaxis)
    numbers.set_title("agents that fit", loc="left")
    ratio.set_title("over shared weights ÷ with a model each", loc="left")
    for axes in (numbers, ratio):
        axes.set_xlabel("device memory, MB")
        axes.set_xlim(left=0)
    entries = [
        line(own, "a model each"), line(shared, "sessions over shared weights"),
        mark("s", "found room, then refused", base.GREY),
    ]  # fmt: skip
    key(top, (), entries, columns=3)
    return figure


def _line(axes: Axes, budgets: list[float], values: list[float | None], colour: str) -> None:
    known = [(x, y) for x, y in zip(budgets, values, strict=True) if y]
    if known:
        axes.plot(*zip(*known, strict=True), color=colour, linewidth=1.2)
