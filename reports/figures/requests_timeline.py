"""One trace as it went, arm beneath arm: what was copied when, who waited, who computed.

Shown is the seed in which the default gained as much as in the median of all, over the time of the whole
trace; so none is picked. The default's and lookahead's panels come twice: on the time of the control, which
shows the gain, and stretched, which shows what happened. Trap: a streaming model waits and computes in turns
within a request; the waits up to its first token are drawn as one, in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments import switching
from reports.figures import curves
from reports.figures import switching as looks
from reports.runs import Run
from reports.tabular import cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Data", "Lane", "Span", "data", "draw"]

SHOWN = (switching.CONTROL, switching.DEFAULT, "home-slot-lookahead")
PANEL, BETWEEN = 0.62, 0.36
"""Inches of a panel's lanes, and of what stands between two."""
STRETCH = 1.5
"""From how many times as long on stretching shows more."""
HEIGHT = 0.78
"""Of a bar, in lanes."""
WAIT: dict[str, Any] = {"facecolor": "white", "edgecolor": "#777777", "hatch": "xxxxx", "linewidth": 0.4}
NOTES = (
    "Upper lane: copies to the device; a black frame: ahead of the request's turn. Lower lane: what a "
    "request waited (as one, in front) and computed. One for which nothing is copied in its turn is a hit.",
)


class Span(NamedTuple):
    """Something of a request, from when to when, in seconds since the trace began."""

    model: str
    kind: str
    """ "copy", "ahead", "wait" or "compute"."""
    began_s: float
    done_s: float


class Lane(NamedTuple):
    """One arm."""

    arm: str
    spans: tuple[Span, ...]
    done_s: float
    requests: int
    hits: int | None
    moved_bytes: float | None


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    lanes: tuple[Lane, ...]
    models: tuple[str, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """The arms on one seed; None where no record has both arms."""
    arms = {arm.name: arm for arm in switching.arms(r for r in run.records if r.experiment == experiment)}
    if not {switching.CONTROL, switching.DEFAULT} <= arms.keys():
        return None
    by_seed = {name: _by_seed(arms[name]) for name in SHOWN if name in arms}
    seed = _median_seed(by_seed)
    if seed is None:
        return None
    lanes = tuple(_lane(name, of[seed]) for name, of in by_seed.items() if seed in of)
    found = [arms[lane.arm] for lane in lanes]
    models = tuple(sorted({span.model for lane in lanes for span in lane.spans}))
    notes = (*NOTES, f"Seed {seed:g}: of all seeds that they share, the one with the median gain in time.")
    title = f"{experiment}: one trace, request by request ({switching.where(found)})"
    return Data(title, switching.scope(found), lanes, models, notes)


def draw(data: Data) -> Figure:
    """A panel per arm on one axis of time, and those but the control again, stretched."""
    from reports.figures import base

    again = [lane for lane in data.lanes if lane.arm != switching.CONTROL]
    whole, least = (max(lane.done_s for lane in of) for of in (data.lanes, again))
    panels = [(lane, whole) for lane in data.lanes]
    if whole > STRETCH * least:
        panels += [(lane, least) for lane in again]
    entries = _key(data.models)
    key_height = looks.key_height(len(entries), len(entries))
    height = key_height + (PANEL + BETWEEN) * len(panels) + 0.55
    figure, _ = base.frame(height, data.title, data.scope, data.notes)
    grid = figure.add_gridspec(1 + len(panels), 1, height_ratios=[key_height, *[PANEL] * len(panels)])
    top = figure.add_subplot(grid[0, 0])
    top.set_axis_off()
    curves.place_key(top, entries, len(entries), columnspacing=1.3)
    scale = cells.scale_of("s", [whole])
    skins = looks.skins(data.models)
    for at, (lane, end_s) in enumerate(panels):
        axes = figure.add_subplot(grid[1 + at, 0])
        _panel(axes, lane, skins, scale)
        axes.set_xlim(0, 1.005 * scale.factor * end_s)
        is_again = at >= len(data.lanes)
        axes.set_title(f"{lane.arm}, stretched" if is_again else _heading(lane), loc="left", fontsize=8.5)
        is_last = at in (len(data.lanes) - 1, len(panels) - 1)
        axes.tick_params(axis="x", labelbottom=is_last)
        axes.set_xlabel(f"{scale.unit} since the trace began" if is_last else "")
    return figure


def _panel(axes: Axes, lane: Lane, skins: Mapping[str, looks.Skin], scale: cells.Scale) -> None:
    from reports.figures import base

    rows = {"copy": 0, "ahead": 0, "wait": 1, "compute": 1}
    for span in lane.spans:
        skin = skins[span.model]
        look: dict[str, Any] = {
            "facecolor": skin.colour,
            "hatch": skin.hatch,
            "edgecolor": "white",
            "linewidth": 0.7 if span.kind == "compute" else 0.0,
        }
        if span.kind == "wait":
            look = WAIT
        left, width = scale.factor * span.began_s, scale.factor * (span.done_s - span.began_s)
        axes.barh(rows[span.kind], width, HEIGHT, left=left, **look)
        if span.kind == "ahead":
            axes.barh(
                rows[span.kind], width, HEIGHT, left=left, facecolor="none", edgecolor=base.INK, linewidth=0.9
            )
    axes.set_yticks([0, 1], ["copies", "requests"])
    axes.set_ylim(1.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _key(models: Sequence[str]) -> list[Any]:
    from matplotlib.patches import Patch

    from reports.figures import base

    entries = [
        Patch(facecolor=skin.colour, hatch=skin.hatch, edgecolor="white", linewidth=0, label=name)
        for name, skin in looks.skins(models).items()
    ]
    ahead = Patch(facecolor="white", edgecolor=base.INK, linewidth=0.9, label="copied ahead")
    return [*entries, Patch(**WAIT, label="waits"), ahead]


def _heading(lane: Lane) -> str:
    parts = [f"{lane.requests} requests in {cells.estimate(lane.done_s, None, 's')}"]
    if lane.hits is not None:
        parts.append(f"{lane.hits} hits")
    if lane.moved_bytes is not None:
        scale = cells.Scale(1e-9, "GB") if lane.moved_bytes >= 1e9 else cells.Scale(1e-6, "MB")
        parts.append(f"{cells.number(scale(lane.moved_bytes))} {scale.unit} copied")
    return f"{lane.arm}: {', '.join(parts)}"


def _lane(name: str, requests: Sequence[Mapping[str, Any]]) -> Lane:
    hits = [one.get("is_hit") for one in requests]
    moved = [switching.moved(one) for one in requests]
    known = [one for one in moved if one is not None]
    return Lane(
        name,
        tuple(span for one in requests for span in _spans(one)),
        max(one["done_s"] for one in requests),
        len(requests),
        None if None in hits else sum(map(bool, hits)),
        sum(known) if len(known) == len(moved) else None,
    )


def _spans(one: Mapping[str, Any]) -> list[Span]:
    """What a request copied, waited and computed; lookahead for another belongs to the one that found it."""
    model, began_s, waited_s = str(one["model"]), float(one["began_s"]), float(one.get("switch_s") or 0.0)
    out = []
    for key, kind in (("ahead_s", "ahead"), ("copied_s", "copy")):
        if ends := one.get(key):
            out.append(Span(model, kind, float(ends[0]), float(ends[1])))
    out.append(Span(model, "wait", began_s, began_s + waited_s))
    return [*out, Span(model, "compute", began_s + waited_s, float(one["done_s"]))]


def _by_seed(arm: switching.Arm) -> dict[Any, list[Mapping[str, Any]]]:
    """Seed → its requests in order, as it was replayed first; seeds with one not answered are left out."""
    out: dict[Any, list[Mapping[str, Any]]] = {}
    for one in arm.requests:
        of = out.setdefault(one.get("seed", one.get("round")), [])
        if not of or of[0].get("round") == one.get("round"):  # else a merged session replayed it again
            of.append(one)
    return {
        seed: sorted(of, key=lambda one: one["began_s"])
        for seed, of in out.items()
        if seed is not None and all(o.get("done_s") is not None and o.get("began_s") is not None for o in of)
    }


def _median_seed(by_seed: Mapping[str, Mapping[Any, Sequence[Mapping[str, Any]]]]) -> Any:
    """The seed with the median gain, of those that all arms share, else of those that two do."""
    shared = set.intersection(*(set(of) for of in by_seed.values()))
    control, default = by_seed[switching.CONTROL], by_seed[switching.DEFAULT]
    shared = shared or (set(control) & set(default))

    def gain(seed: Any) -> float:
        ends = [max(one["done_s"] for one in of[seed]) for of in (control, default)]
        return float(ends[0] / ends[1])

    ranked = sorted(shared, key=lambda seed: (gain(seed), seed))
    return ranked[len(ranked) // 2] if ranked else None
