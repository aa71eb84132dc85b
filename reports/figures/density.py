"""How many agents fit against the device's memory, with a model of their own and over shared weights.

Lines are arithmetic, ⌊C ÷ (W + kv)⌋ and ⌊(C − W) ÷ kv⌋; marks are what found room when the device's allocator
was asked, up to the first refusal. Their ratio has no limit but C ÷ kv: it says how short histories are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports.experiments import agents
from reports.figures import base, curves
from reports.figures.agents import ARM_LOOKS, key, line, log_axis, mark, scope
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Data", "Fit", "data", "draw"]

VARIANT = "curve-density"
HEIGHT = 3.2
OWN, SHARED = "ray-keepalive", "shared"
PUBLISHED = 20.0
STEPS = 400
"""Budgets along which a prediction is drawn."""
NOTES = (
    "Left: lines are what arithmetic predicts, marks what found room before the allocator refused. Right: "
    "their ratio; dotted: the published 20×, of an experiment that ends at 32 sessions, where 80 GB hold 5 "
    "models of Llama-2-7B in fp16 (6.4×) or 2 in fp32 (16×).",
)


Place = tuple[float, float]


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
    needs: tuple[float, float] | None
    """Bytes of the weights, and of an agent's keys and values; None where the record does not say."""
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
    if not fits:
        return None
    title = f"{experiment}: agents that fit, by the device's memory"
    record = found[0]
    floor = next((f.inputs for f in record.floors if {"weight_bytes", "kv_bytes"} <= f.inputs.keys()), None)
    needs = (float(floor["weight_bytes"]), float(floor["kv_bytes"])) if floor else None
    about = scope([record], without=["budget_bytes"])
    return Data(title, about, tuple(fits[b] for b in sorted(fits)), needs, NOTES)


def draw(data: Data) -> Figure:
    """Numbers, and their ratio."""
    figure, _ = base.frame(HEIGHT + 0.35, data.title, data.scope, data.notes)
    top, [[numbers, ratio]] = curves.grid(figure, 1, 2, HEIGHT, 0.3)
    own, shared = ARM_LOOKS[OWN], ARM_LOOKS[SHARED]
    budgets = [fit.budget_bytes / 1e6 for fit in data.fits]
    for look, found in ((own, [f.own for f in data.fits]), (shared, [f.sessions for f in data.fits])):
        known = [(x, y) for x, y in zip(budgets, found, strict=True) if y]
        numbers.plot([x for x, _ in known], [y for _, y in known], look.marker, color=look.colour, zorder=3)
    for look, curve in zip((own, shared), _predicted(data), strict=True):
        numbers.plot([x for x, _ in curve], [y for _, y in curve], color=look.colour, linewidth=1.2)
    both = [(f.budget_bytes / 1e6, f.sessions / f.own) for f in data.fits if f.own and f.sessions is not None]
    ratio.plot([x for x, _ in both], [y for _, y in both], "o", color=base.INK, markersize=5, zorder=3)
    models, held = (dict(curve) for curve in _predicted(data))
    expected = [(x, held[x] / models[x]) for x in held if x in models]
    ratio.plot([x for x, _ in expected], [y for _, y in expected], color=base.GREY, linewidth=1.2)
    ratio.axhline(PUBLISHED, color=base.INK, linewidth=0.9, linestyle=(0, (1, 2)))
    ratio.annotate("published: 20×", (0.01, PUBLISHED), (0, 3), xycoords=("axes fraction", "data"),
                   textcoords="offset points", fontsize=8)  # fmt: skip
    ratio.set_ylim(0, 1.15 * max([PUBLISHED, *(y for _, y in (*both, *expected))]))
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


def _predicted(data: Data) -> tuple[list[Place], list[Place]]:
    """(MB, agents) along the memory, each way: fine steps where the bytes are known, else what was told."""
    if data.needs is None:
        told = [(f.budget_bytes / 1e6, f.predicted_own, f.predicted_sessions) for f in data.fits]
        return [(x, y) for x, y, _ in told if y], [(x, y) for x, _, y in told if y]
    weights, kv = data.needs
    most = 1.05 * data.fits[-1].budget_bytes
    budgets = [most * at / STEPS for at in range(1, STEPS + 1)]
    own = [(budget / 1e6, float(budget // (weights + kv))) for budget in budgets]
    sessions = [(budget / 1e6, float((budget - weights) // kv)) for budget in budgets]
    return [p for p in own if p[1] >= 1], [p for p in sessions if p[1] >= 1]
