"""Claims of all kinds on one axis: how far a number lies beyond its claim's threshold.

    times    ratios, reductions and values: the number over the threshold, on a log axis; a reduction is read
             as the factor 1 / (1 - reduction), of which its interval was computed
    points   differences of shares: percentage points beyond the threshold, on a linear axis

Both are turned so that the right of the line is the claim's side, also where less is claimed. Trap: a
threshold of 0, and a difference in a unit of its own, have no such axis; their numbers stand in words alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from reports.claims import Claim
from reports.decisions.decision import region
from reports.tabular.cells import SHARES
from reports.tabular.verdict_cells import published_ends

__all__ = ["AXES", "Axis", "Spot", "claim_of", "spot_of"]

WIDTH = 300.0
"""Of the plot, in the units of its viewBox."""
ROOM = 9.0
"""At both ends, for arrows."""


class Axis(NamedTuple):
    """One of the two scales."""

    name: str
    reach: float
    """How far it shows to both sides; what lies beyond is an arrow."""
    ticks: tuple[tuple[float, str], ...]

    def x(self, at: float) -> float:
        """Where `at` lies, cut at the ends."""
        at = max(-self.reach, min(self.reach, at))
        return round(ROOM + (WIDTH - 2 * ROOM) * (at / self.reach + 1) / 2, 1)

    @property
    def marks(self) -> tuple[tuple[float, str], ...]:
        """Where the ticks lie, with their words."""
        return tuple((self.x(at), text) for at, text in self.ticks)


TIMES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
POINTS = ((-50, "−50"), (-25, "−25"), (0, "0"), (25, "+25"), (50, "+50"))
AXES = {
    "times": Axis("times", math.log(12), tuple((math.log(v), f"{v:g}×") for v in TIMES)),
    "points": Axis("points", 60.0, tuple((float(v), text) for v, text in POINTS)),
}


class Spot(NamedTuple):
    """A claim's number on its axis, as the drawing wants it."""

    axis: str
    at: float
    """Beyond the threshold: a logarithm, or points."""
    least: float
    most: float
    """Its interval, likewise."""
    x: float
    low: float
    high: float
    is_cut: tuple[bool, bool]
    """Whether the interval goes on beyond the left and the right end."""
    band: tuple[float, float]
    """The claim's side, as the drawing wants it."""
    words: str
    """The same for who cannot see it."""


def claim_of(verdict: Mapping[str, Any]) -> Claim:
    """The claim's row, as far as its verdict tells it."""
    names = {f.name for f in fields(Claim)} & verdict.keys() - {"settings", "physics"}
    values = {name: verdict[name] for name in names}
    if isinstance(values.get("published"), list):
        values["published"] = tuple(values["published"])
    return Claim(**{"id": "", "version": 1, "source": "", "says": "", "form": "at_least", "metric": "",
                    "treatment": "", "experiment": "", **values})  # fmt: skip


def spot_of(verdict: Mapping[str, Any], better: str) -> Spot | None:
    """Where the verdict's number lies; `None` where it has none, or no axis.

    `better` is the direction of its metric, "lower" or "higher".
    """
    claim, estimate = claim_of(verdict), verdict.get("estimate")
    if estimate is None or not published_ends(verdict) or claim.threshold is None:
        return None
    if claim.form in ("monotone", "order"):
        return None
    axis = AXES[_axis_name(verdict)]
    side = region(claim, better)
    sign = -1.0 if side[0] == -math.inf else 1.0
    zero = _place(claim.threshold, verdict)
    if zero is None or not math.isfinite(zero):
        return None

    def beyond(value: float) -> float | None:
        if not math.isfinite(value):
            return sign * value
        found = _place(value, verdict)
        return None if found is None else sign * (found - zero)

    at = beyond(estimate)
    if at is None or math.isnan(at):
        return None
    low, high = verdict.get("interval") or (estimate, estimate)
    ends = sorted(at if end is None else _or(beyond(end), sign * end) for end in (low, high))
    band = sorted(_or(beyond(end), sign * end) for end in side)
    return Spot(
        axis=axis.name,
        at=at,
        least=ends[0],
        most=ends[1],
        x=axis.x(at),
        low=axis.x(ends[0]),
        high=axis.x(ends[1]),
        is_cut=(ends[0] < -axis.reach, ends[1] > axis.reach),
        band=(axis.x(band[0]), axis.x(band[1])),
        words=_words(axis, sign, at, ends, is_factor=verdict.get("quantity") == "reduction"),
    )


def _axis_name(verdict: Mapping[str, Any]) -> str:
    quantity = verdict.get("quantity")
    of_gains = quantity == "reduction" and verdict.get("against")
    is_of_shares = quantity == "difference" and (verdict.get("unit") or "") in SHARES
    return "points" if of_gains or is_of_shares else "times"


def _place(value: float, verdict: Mapping[str, Any]) -> float | None:
    """A number on the claim's axis, before its threshold is subtracted; `None` where it has no place."""
    if _axis_name(verdict) == "points":
        return 100 * value
    if verdict.get("quantity") == "difference":
        return None
    if verdict.get("quantity") == "reduction":
        return -math.log(1 - value) if value < 1 else math.inf
    return math.log(value) if value > 0 else (-math.inf if value == 0 else None)


def _or(value: float | None, end: float) -> float:
    """An end without a place lies as far away as can be."""
    return value if value is not None else math.copysign(math.inf, end)


def _words(axis: Axis, sign: float, at: float, ends: list[float], *, is_factor: bool) -> str:
    """The number over its threshold, or less it, as it is: not turned to the claim's side."""
    low, high = sorted(sign * end for end in ends)
    text = _points if axis.name == "points" else _times
    what = "points from the threshold" if axis.name == "points" else "times the threshold"
    what += ", both as 1 ÷ (1 − reduction)" if is_factor and axis.name == "times" else ""
    return f"{text(sign * at)} {what}, interval {text(low)} to {text(high)}"


def _points(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _times(at: float) -> str:
    return f"{math.exp(at):.3g}" if at < 700 else "more than any number of"
