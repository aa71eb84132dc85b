"""Numbers as cells: as many digits as the interval supports, with their unit, and "–" for what is absent.

An absent number is never shown as 0, and a number never carries digits that its interval does not support:
two significant digits of the interval's half-width decide, or three of the number where it has no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = [
    "ABSENT",
    "SHARES",
    "Scale",
    "about",
    "duration",
    "estimate",
    "interval_text",
    "number",
    "plus_minus",
    "scale_of",
    "with_unit",
]

ABSENT = "–"
SHARES = ("", "share")
"""Units of a claim about shares of tasks, whose differences are points: 15 % more would be a ratio."""
DIGITS = 3
MAX_DECIMALS = 12
ROUNDING = 1e-9
"""An interval no wider than this share of its value is rounding, not spread."""
FLOAT_NOISE = 1e-11
"""What adding up floats may leave in a number, as a share of it."""

Interval = Sequence[float | None] | None


class Scale:
    """A unit to print in, and the factor that leads to it."""

    __slots__ = ("factor", "unit")

    def __init__(self, factor: float, unit: str) -> None:
        self.factor = factor
        self.unit = unit

    def __call__(self, value: float | None) -> float | None:
        """`value` in this scale; `None` stays `None`."""
        return None if value is None else value * self.factor

    def interval(self, interval: Interval) -> list[float] | None:
        """Both ends in this scale, an open one as infinity."""
        if interval is None:
            return None
        open_ends = (-math.inf, math.inf)
        return [
            edge if end is None else end * self.factor for end, edge in zip(interval, open_ends, strict=True)
        ]


FIXED = {
    "ratio": Scale(1, "×"),
    "x": Scale(1, "×"),
    "×": Scale(1, "×"),
    "share": Scale(100, "%"),
    "fraction": Scale(100, "%"),
    "reduction": Scale(100, "%"),
    "percent": Scale(1, "%"),
    "%": Scale(1, "%"),
    "points": Scale(1, "points"),
    "difference": Scale(100, "points"),
}
STEPS = {
    "s": ((1, "s"), (1e3, "ms"), (1e6, "µs")),
    "USD": ((1, "$"), (1e3, "m$"), (1e6, "µ$"), (1e9, "n$")),
}
ALIASES = {"$": "USD", "usd": "USD", "seconds": "s"}


def scale_of(unit: str, values: Iterable[float | None]) -> Scale:
    """The scale in which the largest of `values` reads as a number of at least 1, as far as `unit` has steps.

    Seconds become ms or µs, dollars m$, µ$ or n$; shares and reductions become per cent; other units stay.
    """
    unit = ALIASES.get(unit, unit)
    if unit in FIXED:
        return FIXED[unit]
    if unit not in STEPS:
        return Scale(1, unit)
    top = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    for factor, name in STEPS[unit]:
        if top * factor >= 1:
            return Scale(factor, name)
    factor, name = STEPS[unit][0 if top == 0 else -1]
    return Scale(factor, name)


def number(value: float | None, interval: Interval = None, digits: int = 2) -> str:
    """`value` without its unit, "–" when absent or not finite.

    Rounded to `digits` significant digits of the half-width of `interval`: 2 beside the interval, 1 where
    the interval is not shown and only the last digit may be in doubt.
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    return _fixed(value, _decimals(value, interval, digits))


def plus_minus(value: float | None, interval: Interval) -> str:
    """`value ±half-width` for an interval that is symmetric about its value, or was until it was cut at 0."""
    if value is None or interval is None or not math.isfinite(value):
        return number(value)
    half = (interval[1] or 0.0) - value
    decimals = _decimals(value, (value - half, value + half))
    return f"{_fixed(value, decimals)} ±{_fixed(half, decimals)}"


def interval_text(value: float | None, interval: Interval, digits: int = 2) -> str:
    """`[low, high]`, rounded like `value`; empty when there is no interval. An open end is "…"."""
    if value is None or not math.isfinite(value) or interval is None:
        return ""
    decimals = _decimals(value, interval, digits)
    ends = [_fixed(end, decimals) if end is not None and math.isfinite(end) else "…" for end in interval]
    return f"[{ends[0]}, {ends[1]}]"


def with_unit(text: str, unit: str) -> str:
    """`text` and its unit; × stands close, other units apart, and "–" has none."""
    if text == ABSENT or not unit:
        return text
    return f"{text}{unit}" if unit == "×" else f"{text} {unit}"


def estimate(value: float | None, interval: Interval = None, unit: str = "") -> str:
    """`value unit [low, high]` in the scale that suits it."""
    scale = scale_of(unit, [value])
    scaled, ends = scale(value), scale.interval(interval)
    text = with_unit(number(scaled, ends), scale.unit)
    return f"{text} {interval_text(scaled, ends)}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def about(seconds: float) -> str:
    """The same within a sentence: "about 12 min", "less than 1 s"."""
    return f"about {duration(seconds)}" if seconds >= 1 else "less than 1 s"


def _decimals(value: float, interval: Interval, digits: int = 2) -> int:
    width = _half_width(interval)
    if width is not None and width <= ROUNDING * abs(value):
        return _exact_decimals(value, width)
    return _places(value, DIGITS) if width is None else _places(width, digits)


def _exact_decimals(value: float, width: float) -> int:
    """The fewest decimals that show `value`, but for what adding up floats leaves; of a third few do."""
    slack = max(0.1 * width, FLOAT_NOISE * abs(value))
    fits = (places for places in range(MAX_DECIMALS) if abs(round(value, places) - value) <= slack)
    found = next(fits, MAX_DECIMALS)
    is_endless = width <= FLOAT_NOISE * abs(value) and found > MAX_DECIMALS // 2
    return _places(value, DIGITS) if is_endless else found


def _half_width(interval: Interval) -> float | None:
    if interval is None:
        return None
    ends = [end for end in interval if end is not None and math.isfinite(end)]
    return (max(ends) - min(ends)) / 2 if len(ends) == 2 else None


def _places(value: float, digits: int) -> int:
    """Decimals that show `digits` significant digits of `value`, none beyond the decimal point's left."""
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), MAX_DECIMALS)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
        if value != 0:  # a measured value is never shown as 0
            text = f"{abs(value):.{DIGITS - 1}g}"
            return f"−{text}" if value < 0 else text
    return text.replace("-", "−")
