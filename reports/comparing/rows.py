"""One number of two runs and what its change is called.

    equal         the same, count for count
    equivalent    the whole 95 % interval lies within the margin: whatever changed is too small to matter
    improved      better, at the family's level by Holm; a count that repeats needs no level
    regressed     worse, likewise
    changed       a number without a good side changed
    inconclusive  none of these: more rounds or sessions would settle it
    not compared  of different things, or measured on different machines

The first that applies ends it. The interval is that of the number alone; only the words "improved" and
"regressed" are corrected for how many numbers were compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, isfinite, log1p
from typing import Any

from reports.comparing import spreads
from reports.comparing.changes import EXACT, RELATIVE, Moved
from reports.stats import LEVEL, Mean, Unsupported, holm

__all__ = ["WORDS", "Row", "called", "row_of"]

WORDS = ("regressed", "improved", "changed", "inconclusive", "equivalent", "equal", "not compared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric of a test, or a claim's number, before and after."""

    family: str
    """"claims", "metrics" or "controls": Holm's correction runs over claims, and over the rest together."""
    experiment: str
    name: str
    """The test, or the claim."""
    metric: str
    over: str
    unit: str
    better: str | None
    """"lower" or "higher"; `None` for a number without a good side."""
    before: float | None
    after: float | None
    scale: str
    """"relative": `change` is a share of what was; "absolute": in its unit; "exact": it has no noise."""
    change: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int = 0
    how: str = ""
    drift: float = 0.0
    """The part of the standard error that was declared."""
    words: tuple[str, str] | None = None
    """A claim's verdicts, before and after."""
    margin: float = 0.0
    """What counts as equivalent, on the scale of `change`."""
    word: str = "inconclusive"
    why: str = ""
    mean: Mean | None = None
    """The change with its standard error; of logs where `scale` is "relative"."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the inner mean."""
        out = asdict(self)
        del out["mean"]
        return out


def row_of(moved: Moved, margin: float, **about: Any) -> Row:
    """A row whose interval and word are still to be made."""
    gap = moved.change if isinstance(moved.change, Unsupported) else None
    is_share = moved.scale != RELATIVE and about["unit"] in ("share", "points", "%")
    at = margin if moved.scale == RELATIVE or is_share else margin * abs(moved.before or 0.0)
    return Row(
        **about,
        before=moved.before,
        after=moved.after,
        scale=moved.scale,
        n=moved.n,
        how=moved.how,
        drift=moved.drift,
        margin=at,
        mean=None if gap else moved.change,  # type: ignore[arg-type]
        why=gap.reason if gap else "",
    )


def called(rows: Sequence[Row], level: float) -> list[Row]:
    """The rows of one family with their intervals, p values and words.

    Arguments: `level`, the chance of any false "improved" or "regressed" in the family.
    """
    rows = [_finite(row) for row in rows]
    known = [
        (i, row.mean, row.drift) for i, row in enumerate(rows) if row.mean is not None and _is_noisy(row)
    ]
    means, drifts = [mean for _, mean, _ in known], [drift for _, _, drift in known]
    halves, tails = spreads.halves(means, drifts, LEVEL), spreads.p_values(means, drifts)
    adjusted = holm(tails)
    out = list(rows)
    for (i, mean, _), half, p, p_holm in zip(known, halves, tails, adjusted, strict=True):
        row = replace(rows[i], p=p, p_holm=p_holm)
        out[i] = _noisy(row, mean.value, mean.value - half, mean.value + half, level, len(known))
    return [row if row.mean is None or _is_noisy(row) else _exact(row) for row in out]


def _finite(row: Row) -> Row:
    """The row; without its mean where that is no number, which would leave the family without an order."""
    if row.mean is None or (isfinite(row.mean.value) and isfinite(row.mean.se)):
        return row
    return replace(row, mean=None, drift=0.0, why="a value is no finite number")


def _is_noisy(row: Row) -> bool:
    return row.mean is not None and bool(row.mean.se or row.drift)


def _noisy(row: Row, value: float, low: float, high: float, level: float, chances: int) -> Row:
    is_log = row.scale == RELATIVE
    edge = log1p(row.margin) if is_log else row.margin
    shown = [exp(min(v, 700.0)) - 1 if is_log else v for v in (value, low, high)]
    row = replace(row, change=shown[0], interval=(shown[1], shown[2]))
    if -edge <= low and high <= edge:
        return replace(row, word="equivalent")
    if row.p_holm is not None and row.p_holm <= level:
        return replace(row, word=_way(row, value))
    if row.p is not None and row.p <= 1 - LEVEL and not row.why:
        return replace(row, why=f"p = {row.p:.2g} alone, {row.p_holm:.2g} by Holm over {chances}")
    return row


def _exact(row: Row) -> Row:
    """A number without noise; zero spread of noisy rounds counts as none, too."""
    value = row.mean.value if row.mean else 0.0
    change = exp(min(value, 700.0)) - 1 if row.scale == RELATIVE else value
    how = row.how if row.scale == EXACT else f"{row.how}, no spread"
    word = _way(row, value) if value else "equal"
    return replace(row, change=change, interval=(change, change), word=word, how=how)


def _way(row: Row, value: float) -> str:
    if row.better is None:
        return "changed"
    return "improved" if (value > 0) == (row.better == "higher") else "regressed"
