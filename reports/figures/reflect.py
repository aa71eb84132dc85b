"""REASON ÷ REFLECT against the length of the prompt: measured here, and what the source's model allows.

On the left each round of each arm, and the roofline's prediction where the run has one. On the right the most
that Llama-2-7B can show on the source's device and its successor (`reports.bounds.agents`): where a line
crosses 5×, and that the longer the steps are, the further away it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.bounds.agents import reflect_ratio
from reports.experiments import agents
from reports.figures import curves
from reports.figures.agents import ARM_LOOKS, in_order, key, line, log_axis, scope
from reports.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Allowed", "Data", "data", "draw"]

VARIANT = "curve-prompt"
PUBLISHED = (5.0, 20.0)
HEIGHT = 3.6
PROMPTS = tuple(round(2 ** (at / 8)) for at in range(4 * 8, 16 * 8 + 1))
LONGEST = 4096
"""Tokens of Llama-2's context."""
MODEL: Mapping[str, Any] = {"params": 6_607_343_616, "weight_bytes": 2 * 6_607_343_616, "published": 5.0}
"""Llama-2-7B in fp16, without the embedding's rows that no token reads; see bench/claims/agents.toml."""
DEVICES: Mapping[str, Mapping[str, float]] = {
    "A100": {"bandwidth_bytes_per_s": 2.039e12, "peak_flops_per_s": 312e12},
    "H100": {"bandwidth_bytes_per_s": 3.35e12, "peak_flops_per_s": 989.5e12},
}
NEW_TOKENS = (1, 5, 50)
NOTES = (
    "Left: the time to the first token of REASON over that of REFLECT. Mark: the median of a length's "
    "rounds, each a dot; grey line: the roofline's prediction, weights read once or every token computed at "
    "the rate measured here, whichever takes longer.",
    "Right: the most that Llama-2-7B in fp16 allows up to the last of so many new tokens (1: the first), "
    "prompts computed at half of the device's peak, decoding at the memory's floor. Dots: where 5× begin. "
    "Grey: beyond its context of 4,096 tokens.",
)


class Allowed(NamedTuple):
    """What a device allows, by new tokens."""

    device: str
    new_tokens: int
    ratios: tuple[float, ...]
    """Along `PROMPTS`."""
    from_prompt: int
    """Tokens of prompt from which on 5× are possible."""


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    ratios: Mapping[str, Mapping[int, tuple[float, ...]]]
    """Arm → tokens of prompt → REASON ÷ REFLECT of every round."""
    predicted: tuple[tuple[int, float], ...]
    allowed: tuple[Allowed, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """The curve of the run; None where there is none."""
    records = [r for r in run.records if r.experiment == experiment]
    found = agents.sweep(records, VARIANT)
    if found is None:
        return None
    record, points = found
    ratios: dict[str, dict[int, tuple[float, ...]]] = {}
    predicted: dict[int, float] = {}
    for point in points:
        arm, prompt = str(point.get("arm")), point.get("prompt_tokens")
        if prompt is None:
            continue
        if (one := _ratio(point, "")) is not None and arm in ARM_LOOKS:
            known = ratios.setdefault(arm, {})
            known[int(prompt)] = (*known.get(int(prompt), ()), one)
        if (one := _ratio(point, "predicted_")) is not None:
            predicted[int(prompt)] = one
    title = f"{experiment}: how much sooner REFLECT's first token comes, by the length of the prompt"
    return Data(
        title,
        scope([record], without=["prompt_tokens", "budget_bytes"]),
        ratios,
        tuple(sorted(predicted.items())),
        _allowed(),
        NOTES,
    )


def draw(data: Data) -> Figure:
    """Measured beside allowed, on the same axes of logarithms."""
    from reports.figures import base

    figure, _ = base.frame(HEIGHT + 0.55, data.title, data.scope, data.notes)
    top, [[measured, allowed]] = curves.grid(figure, 1, 2, HEIGHT, 0.55)
    _measured(measured, data)
    _bounds(allowed, data.allowed)
    measured.set_title("measured here, first token", loc="left")
    allowed.set_title("Llama-2-7B, at most", loc="left")
    measured.set_ylabel("REASON ÷ REFLECT")
    for axes in (measured, allowed):
        axes.set_xlabel("tokens of prompt")
        for value in PUBLISHED:
            axes.axhline(value, color=base.INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        log_axis(axes.yaxis)
    measured.text(
        0.012, PUBLISHED[0] * 1.03, "published: 5–20×", transform=measured.get_yaxis_transform(), fontsize=8,
        va="bottom",
    )  # fmt: skip
    entries = [line(curves.Look(base.GREY, "", "solid"), "prediction")] if data.predicted else []
    bounds = [line(_look(one), f"{one.device}, {one.new_tokens} new") for one in data.allowed]
    key(top, in_order(data.ratios), bounds, columns=6, also=entries)
    return figure


def _measured(axes: Axes, data: Data) -> None:
    from reports.figures import base

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    prompts = sorted({p for of in data.ratios.values() for p in of} | {p for p, _ in data.predicted})
    for arm in in_order(data.ratios):
        look, of = ARM_LOOKS[arm], data.ratios[arm]
        for prompt, values in of.items():
            axes.plot([prompt] * len(values), values, ".", markersize=2.5, color=look.colour, alpha=0.5)
        axes.plot(
            sorted(of), [median(of[p]) for p in sorted(of)], color=look.colour, marker=look.marker,
            linestyle=look.dashes, markersize=5.5, linewidth=1.5, zorder=3,
        )  # fmt: skip
    if data.predicted:
        axes.plot(*zip(*data.predicted, strict=True), color=base.GREY, linewidth=1.4, zorder=2)
    if prompts:
        log_axis(axes.xaxis, prompts)
        axes.set_xlim(prompts[0] / 1.2, prompts[-1] * 1.2)
    _, high = axes.get_ylim()
    axes.set_ylim(top=max(high, 1.5 * PUBLISHED[1]))


def _bounds(axes: Axes, allowed: Sequence[Allowed]) -> None:

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.axvspan(LONGEST, PROMPTS[-1], color="#ececec", linewidth=0, zorder=0)
    for one in allowed:
        look = _look(one)
        axes.plot(PROMPTS, one.ratios, color=look.colour, linestyle=look.dashes, linewidth=1.5)
        axes.plot(one.from_prompt, PUBLISHED[0], "o", markersize=5, color=look.colour, zorder=4)
        is_first = one.device == next(iter(DEVICES))
        axes.annotate(
            f"{one.from_prompt:,}", (one.from_prompt, PUBLISHED[0]), (-3, 5) if is_first else (4, -10),
            fontsize=7.5, color=look.colour, textcoords="offset points", ha="right" if is_first else "left",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )  # fmt: skip
    log_axis(axes.xaxis, [16, 64, 256, 1024, 4096, 16384])
    axes.set_xlim(PROMPTS[0], PROMPTS[-1])
    axes.set_ylim(0.9, 1.5 * PUBLISHED[1])


def _look(one: Allowed) -> curves.Look:
    from reports.figures import base

    dashes: Any = ("solid", (0, (5, 1.5)), (0, (1, 1)))[NEW_TOKENS.index(one.new_tokens)]
    return curves.Look((base.PALETTE[5], base.PALETTE[3])[list(DEVICES).index(one.device)], "", dashes)


def _allowed() -> tuple[Allowed, ...]:
    out = []
    for name, device in DEVICES.items():
        for new in NEW_TOKENS:
            at = {**MODEL, **device, "new_tokens": new}
            ratios = tuple(reflect_ratio(**at, prompt_tokens=prompt).value for prompt in PROMPTS)
            out.append(Allowed(name, new, ratios, _begins(at)))
    return tuple(out)


def _begins(at: Mapping[str, Any]) -> int:
    """The first prompt of which the bound allows the published ratio; it rises with the prompt."""
    low, high = 1, 2**20
    while low < high:
        middle = (low + high) // 2
        if reflect_ratio(**at, prompt_tokens=middle).value >= PUBLISHED[0]:
            high = middle
        else:
            low = middle + 1
    return low


def _ratio(point: Mapping[str, Any], prefix: str) -> float | None:
    reason, reflect = (point.get(f"{prefix}{phase}_ttft_s") for phase in ("reason", "reflect"))
    return None if reason is None or not reflect else float(reason) / float(reflect)
