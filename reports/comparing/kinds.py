"""What kind of number a metric is, by its unit: what two runs may differ in without anything having changed.

time    seconds, rates and energy: a machine is never equally fast twice, so that a session has a drift
count   tokens, bytes, calls: the same again, or changed
share   a part of a whole: differences count in points
other   ratios, scores, utilities: relative, or as a difference where they can be 0
"""

from __future__ import annotations

from reports.records import Metric

__all__ = ["COUNT", "OTHER", "SHARE", "TIME", "kind_of", "kind_of_unit"]

TIME, COUNT, SHARE, OTHER = "time", "count", "share", "other"

TIME_UNITS = ("s", "ms", "us", "µs", "USD", "J", "W", "score/s")
SHARE_UNITS = ("share", "points", "%")
OTHER_UNITS = ("times", "×", "utility", "utility per task", "1/cost", "")


def kind_of(metric: Metric) -> str:
    """The kind of a metric: "time", "count", "share" or "other"."""
    return kind_of_unit(metric.unit)


def kind_of_unit(unit: str) -> str:
    """The kind of what has a unit; a unit that nobody listed counts things."""
    if unit in TIME_UNITS or unit.endswith("/s"):
        return TIME
    if unit in SHARE_UNITS:
        return SHARE
    return OTHER if unit in OTHER_UNITS else COUNT
