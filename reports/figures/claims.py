"""The claims forest: what was measured, with its interval, against what was published."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reports.runs import Run
from reports.tabular.cells import SHARES
from reports.tabular.summaries import scope, summarize
from reports.tabular.verdict_cells import (
    Verdict,
    counts,
    letter_and_word,
    measured,
    published,
    published_ends,
    why,
    word_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PANELS", "Data", "Row", "data", "draw"]


class Panel(NamedTuple):
    """One quantity with an axis of its own."""

    axis: str
    factor: float
    is_log: bool
    limits: tuple[float, float]
    """How far the axis may reach; what lies beyond is drawn as an arrow at its edge."""


PANELS = {
    "reduction": Panel("reduction against the control, %", 100, False, (-150, 100)),
    "ratio": Panel("gain over the control, × (log scale)", 1, True, (0.02, 100)),
    "points": Panel("difference of shares or of savings, percentage points", 100, False, (-100, 100)),
    "value": Panel("measured value ÷ published value (log scale)", 1, True, (0.01, 100)),
}
"""The panels in order; values in different units share one, each divided by its own published value."""

SHAPES = {
    "confirmed": ("o", "#009E73"),
    "confirmed, but": ("P", "#E69F00"),
    "inconclusive": ("D", "#7A7A7A"),
    "refuted": ("X", "#D55E00"),
    "error": ("v", "#D55E00"),
    "invalid": ("v", "#D55E00"),
}
MOST_LISTED = 12
"""Claims without a number to draw that are named one by one; more are counted."""
ROW = 0.36
"""Inches of a row: two lines of small text."""
OTHER = ("s", "#56B4E9")


class Row(NamedTuple):
    """One claim with a number, in its panel's scale."""

    id: str
    panel: str
    estimate: float
    low: float | None
    high: float | None
    published: tuple[float, ...]
    """One value, or both ends of a range."""
    band: tuple[float, float] | None
    """Where an equivalent or a no worse value lies."""
    word: str
    text: str
    """The verdict and the two numbers in words."""


class Listed(NamedTuple):
    """Claims that share a verdict and its reason."""

    word: str
    reason: str
    ids: tuple[str, ...]


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    rows: tuple[Row, ...]
    listed: tuple[Listed, ...]
    """The claims without a number to draw, those of one reason together."""
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data:
    """Every claim of the experiment: in a panel where it has a number, else in the list."""
    verdicts = [v for v in run.verdicts if v.get("experiment", experiment) == experiment]
    rows = {v["id"]: row for v in verdicts if (row := _row(v)) is not None}
    listed = _listed([v for v in verdicts if v["id"] not in rows])
    variants = [v for v in summarize(run.records) if v.experiment == experiment]
    notes = ["Measured: estimate with its 95 % interval. Published: bar, or band for a range."]
    if any(row.band for row in rows.values()):
        notes += ["Shaded light: within the claim's margin of the published value."]
    if any(row.panel == "value" for row in rows.values()):
        notes += ["Values in different units share a panel, each divided by its published value."]
    if 0 < sum(len(found.ids) for found in listed) <= MOST_LISTED:
        notes += ["Reasons are cut to one line here; claims.json holds them whole."]
    order = sorted(rows.values(), key=lambda row: list(PANELS).index(row.panel))
    title = f"{experiment}: measured against published claims"
    return Data(title, f"{counts(verdicts)}\n{scope(variants)}", tuple(order), listed, tuple(notes))


def draw(data: Data) -> Figure:
    """A panel per quantity, one row per claim; the claims without a number beneath."""
    from reports.figures import base

    listing = _listing(data.listed)
    if not data.rows and not listing:
        return base.empty(data.title, data.scope, "No claim of this experiment was judged in this run.")
    panels = [(name, [row for row in data.rows if row.panel == name]) for name in PANELS]
    panels = [(name, rows) for name, rows in panels if rows]
    heights = [ROW * len(rows) + 0.75 for _, rows in panels]
    bottom = 0.157 * len(listing) + 0.45 if listing else 0.0
    figure, area = base.frame(sum(heights) + bottom, data.title, data.scope, data.notes)
    if panels:
        area.leave(figure, beneath=bottom)
        grid = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)
        for (name, rows), axes in zip(panels, grid[:, 0], strict=True):
            _panel(axes, PANELS[name], rows)
    if listing:
        y = area.bottom + bottom - 0.05
        area.write(figure, y, ["Without a number to draw"], fontsize=9.5, fontweight="bold")
        area.write(figure, y - 0.24, listing, fontsize=8, linespacing=1.38)
    return figure


def _row(verdict: Verdict) -> Row | None:
    """The claim in its panel's scale; `None` where there is no number, or nothing to hold it against."""
    asked = f"{'asked' if verdict.get('scope') else 'published'} {published(verdict)}"
    estimate, ends = verdict.get("estimate"), [e for e in published_ends(verdict) if e is not None]
    if estimate is None or not math.isfinite(estimate) or not ends:
        return None
    name = _panel_of(verdict)
    if name == "value" and (min(ends) <= 0 or estimate <= 0):
        return None
    factor = 1 / ends[0] if name == "value" else PANELS[name].factor
    low, high = verdict.get("interval") or (None, None)
    return Row(
        id=verdict["id"],
        panel=name,
        estimate=estimate * factor,
        low=None if low is None else low * factor,
        high=None if high is None else high * factor,
        published=tuple(end * factor for end in ends),
        band=_band(verdict, ends[0], factor),
        word=word_of(verdict),
        text=f"{letter_and_word(verdict)}\n{measured(verdict)}; {asked}",
    )


def _panel_of(verdict: Verdict) -> str:
    quantity = verdict.get("quantity")
    if quantity == "reduction" and verdict.get("against"):
        return "points"
    if quantity in ("ratio", "reduction"):
        return str(quantity)
    in_points = quantity == "difference" and verdict.get("over") in ("tasks", "jobs")
    return "points" if in_points and (verdict.get("unit") or "") in SHARES else "value"


def _band(verdict: Verdict, centre: float, factor: float) -> tuple[float, float] | None:
    """The margin around the published value: relative for ratios and values, absolute otherwise."""
    margin = verdict.get("margin")
    if margin is None or verdict.get("form") not in ("equivalent", "no_worse_than"):
        return None
    if verdict.get("quantity") in ("ratio", "value"):
        return centre * factor / (1 + margin), centre * factor * (1 + margin)
    return (centre - margin) * factor, (centre + margin) * factor


def _listed(verdicts: Sequence[Verdict]) -> tuple[Listed, ...]:
    groups: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        value = f" ({measured(verdict)})" if verdict.get("estimate") is not None else ""
        groups.setdefault((letter_and_word(verdict), why(verdict)), []).append(f"{verdict['id']}{value}")
    return tuple(Listed(word, reason, tuple(ids)) for (word, reason), ids in groups.items())


def _listing(groups: Sequence[Listed]) -> list[str]:
    """Each claim with its reason where they are few; else by verdict alone, many of one as a number."""
    from reports.figures import base

    if sum(len(listed.ids) for listed in groups) <= MOST_LISTED:
        return [line for listed in groups for line in _lines(listed)]
    found: dict[str, list[str]] = {}
    for listed in groups:
        found.setdefault(listed.word, []).extend(name.partition(" ")[0] for name in listed.ids)
    texts = [
        f"{word}: {', '.join(ids) if len(ids) <= MOST_LISTED else f'{len(ids)} claims'}"
        for word, ids in found.items()
    ]
    texts += ["Each with its numbers and its reason: tables/claims.md"]
    return [line for text in texts for line in textwrap.wrap(text, base.CHARACTERS, break_on_hyphens=False)]


def _lines(listed: Listed) -> list[str]:
    """The verdict with its reason on one line, then the claims that share it."""
    from reports.figures import base

    if len(listed.ids) == 1:
        whole = f"{listed.word} · {listed.ids[0]}" + (f": {listed.reason}" if listed.reason else "")
        return [textwrap.shorten(whole, base.CHARACTERS, placeholder=" …")]
    head = f"{listed.word}, {len(listed.ids)} claims" + (f": {listed.reason}" if listed.reason else "")
    names = textwrap.wrap(", ".join(listed.ids), base.CHARACTERS - 6, break_on_hyphens=False)
    return [textwrap.shorten(head, base.CHARACTERS, placeholder=" …"), *(f"      {line}" for line in names)]


def _panel(axes: Axes, panel: Panel, rows: Sequence[Row]) -> None:
    from reports.figures import base

    low, high = _limits(panel, rows)
    if panel.is_log:
        axes.set_xscale("log")
    axes.set_xlim(low, high)
    for y, row in enumerate(rows):
        _claim(axes, y, row, (low, high))
    axes.axvline(1 if panel.is_log else 0, color=base.GREY, linewidth=0.9, zorder=1)
    base.labels(axes, [row.id for row in rows], width=30)
    axes.set_xlabel(panel.axis)
    if panel.is_log:
        _plain_ticks(axes, low, high)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [row.text for row in rows], fontsize=8, linespacing=1.25)
    right.tick_params(axis="y", length=0, pad=8)
    axes.tick_params(axis="y", pad=8)  # room for arrows at the edges
    right.spines["right"].set_visible(False)


def _claim(axes: Axes, y: int, row: Row, limits: tuple[float, float]) -> None:
    from reports.figures import base

    low, high = limits
    marker, colour = SHAPES.get(row.word, OTHER)
    if row.band is not None:
        axes.fill_betweenx([y - 0.34, y + 0.34], *row.band, color="#dddddd", linewidth=0, zorder=0)
    if len(row.published) == 2:
        axes.fill_betweenx([y - 0.28, y + 0.28], *row.published, color=base.INK, alpha=0.16, linewidth=0)
    for value in row.published:
        axes.plot([value, value], [y - 0.3, y + 0.3], color=base.INK, linewidth=2.2, solid_capstyle="butt")
    ends = (
        (row.low, row.high) if row.low is not None and row.high is not None else (row.estimate, row.estimate)
    )
    axes.plot(ends, [y, y], color=colour, linewidth=2.0, solid_capstyle="butt")
    if ends[0] < low:
        axes.plot([low], [y], marker="<", color=colour, markersize=7, clip_on=False)
    if ends[1] > high:
        axes.plot([high], [y], marker=">", color=colour, markersize=7, clip_on=False)
    if low <= row.estimate <= high:
        axes.plot([row.estimate], [y], marker=marker, color=colour, markersize=7, clip_on=False)


def _limits(panel: Panel, rows: Sequence[Row]) -> tuple[float, float]:
    """The axis from the numbers, no further than the panel's limits, a little room on both sides."""
    neutral = 1.0 if panel.is_log else 0.0
    values = [neutral]
    for row in rows:
        values += [
            row.estimate,
            *row.published,
            *(v for v in (row.low, row.high, *(row.band or ())) if v is not None),
        ]
    low, high = max(min(values), panel.limits[0]), min(max(values), panel.limits[1])
    if panel.is_log:
        room = max((high / low) ** 0.06, 1.05)
        return low / room, high * room
    room = max(0.05 * (high - low), 1.0)
    return low - room, high + room


def _plain_ticks(axes: Axes, low: float, high: float) -> None:
    """Ticks on a log axis at 1, 2 and 5 of each decade, as plain numbers; finer ones on a short axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    steps = (1.0, 2.0, 5.0) if high / low > 4 else (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 8.0, 9.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**d for d in decades for step in steps if low <= step * 10.0**d <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
