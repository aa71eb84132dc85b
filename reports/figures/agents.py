"""What the agents' figures have in common: how an arm looks, axes of logarithms, and the line of scope.

An arm keeps its colour, mark and dashes from figure to figure. A cross is no arm's mark: it says that memory
was refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from reports.experiments.agents import ARMS
from reports.figures import base, curves
from reports.figures.curves import Look
from reports.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["ARM_LOOKS", "CROSS", "in_order", "key", "line", "log_axis", "mark", "scope"]

ARM_LOOKS = {
    "ray-keepalive": Look(base.PALETTE[1], "s", (0, (4, 1.5))),
    "ray-serverless": Look(base.PALETTE[4], "v", (0, (1, 1))),
    "shared-recompute": Look(base.PALETTE[6], "D", (0, (3, 1, 1, 1))),
    "shared": Look(base.PALETTE[0], "o", "solid"),
    "engine-prefix-cache": Look(base.PALETTE[2], "P", (0, (6, 1, 1, 1))),
}
CROSS = "X"
"""A mark of its own: memory was refused."""


def in_order(arms: Iterable[str]) -> tuple[str, ...]:
    """Arms in the order of the tables, each once."""
    names = set(arms)
    return tuple(arm for arm in ARMS if arm in names)


def key(
    axes: Axes, arms: Sequence[str], extra: Sequence[Any] = (), columns: int = 5, also: Sequence[Any] = ()
) -> None:
    """Name every arm beside its line and mark, `also` in their line, and beneath them `extra`."""
    handles = [*(line(ARM_LOOKS[arm], arm) for arm in arms), *also]
    # Columns are filled first: the arms stand in the upper line if the extras fill up the lower one.
    blanks = [mark("", "", "white") for _ in range(-len(handles) % columns)]
    rows = [*handles, *blanks, *extra, *(mark("", "", "white") for _ in range(-len(extra) % columns))]
    lines = len(rows) // columns
    by_column = [rows[row * columns + at] for at in range(columns) for row in range(lines)]
    curves.place_key(axes, by_column, columns, handlelength=3.2, columnspacing=1.6)


def line(look: Look, label: str) -> Line2D:
    """An entry of a key: a line with its mark."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=look.colour, marker=look.marker, linestyle=look.dashes, markersize=5.5, label=label
    )


def mark(marker: str, label: str, colour: str = base.INK, **look: Any) -> Line2D:
    """An entry of a key: a mark alone."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker=marker, color=colour, label=label, **look)


def log_axis(axis: Any, numbers: Sequence[float] | None = None) -> None:
    """Plain numbers on an axis of logarithms: those given, or 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(
        FixedLocator(numbers) if numbers else LogLocator(subs=(1.0, 2.0, 5.0), numticks=12)
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def scope(records: Sequence[Record], *, without: Sequence[str] = ()) -> str:
    """What a figure holds for: the model, what an agent does, the budget and how agents arrive.

    without: settings that are not the figure's, since it runs along them.
    """
    first = records[0]
    given = {name: value for name, value in first.settings.items() if name not in without}
    lengths = (("prompt", "prompt_tokens"), ("observation", "observation_tokens"), ("new", "new_tokens"))
    told = [f"{name} {given[k]}" for name, k in lengths if k in given]
    rate = given.get("arrival_rate_per_s")
    parts = [
        ", ".join(dict.fromkeys(label for r in records for label in r.models.values())),
        f"tokens: {', '.join(told)}" if told else "",
        f"budget {given['budget_bytes'] / 1e6:,.0f} MB" if given.get("budget_bytes") else "",
        f"{rate:g} arrivals/s" if rate else "",
        f"profile {first.profile}",
        " and ".join(dict.fromkeys(r.evidence for r in records)),
    ]
    return " · ".join(part for part in parts if part)
