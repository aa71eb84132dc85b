"""Tasks that are no observations of their own: where one job's tasks hang together, the job is the unit.

One plan chooses who answers all tasks of a job, and the answer of one stands in the prompt of the next; so
they fail together, and an interval that counts them singly is too narrow. A record whose settings say
`unit = "job"` has tasks called "JOB.TASK". Its shares and differences stay those over its tasks; their spread
is that from job to job, by Student t on jobs. A task without a job in its name is a unit by itself. So it is
with requests that came in rounds (`unit = "round"`, ids "PHASE-AGENT-ROUND"): the round is observed once. Of
what stays up for a session it is the session (`unit = "session"`), and from the second on ids end with
"@SESSION".

Source: Cochran, Sampling Techniques (1977), ch. 9A: clusters of unequal sizes, the ratio-to-size estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import norm

from reports.intervals.launches import few
from reports.records import Record
from reports.stats import LEVEL, Interval, Unsupported, as_difference, mean_of

__all__ = [
    "JOB",
    "ROUND",
    "SESSION",
    "Graded",
    "by_unit",
    "few_units",
    "job_of",
    "totals",
    "unit_of",
    "units_of",
]

JOB = "job"
ROUND = "round"
SESSION = "session"

Pair = tuple[float, float]


class Graded(NamedTuple):
    """(treatment, control) of each task that was graded on both sides, and the unit that each belongs to."""

    pairs: list[Pair]
    units: list[str]
    unit: str = JOB
    """What a unit is called."""

    @property
    def is_clustered(self) -> bool:
        """Whether some unit holds several tasks."""
        return len(set(self.units)) < len(self.units)


def unit_of(record: Record) -> str:
    """What is observed once, in words: "job", "round", "session" or "task"."""
    unit = record.settings.get("unit")
    return unit if unit in (JOB, ROUND, SESSION) else "task"


def units_of(record: Record, ids: Sequence[str]) -> list[str]:
    """The unit that each task belongs to: its job, its round, its session, or itself."""
    if unit_of(record) == SESSION:
        return [name.partition("@")[2] or "0" for name in ids]
    if unit_of(record) == ROUND:
        return [name.rpartition("-")[2].partition("@")[0] for name in ids]
    return [job_of(name) for name in ids] if unit_of(record) == JOB else list(ids)


def few_units(record: Record) -> Unsupported | None:
    """Why a record whose unit is the session has too few of them to know their spread."""
    is_told = unit_of(record) == SESSION
    return few(len(set(units_of(record, [task.id for task in record.tasks])))) if is_told else None


def job_of(task: str) -> str:
    """What stands before the last dot of a task's id: "wb1-000" of "wb1-000.s0"."""
    return task.rpartition(".")[0] or task


def totals(graded: Graded) -> list[Pair]:
    """The sums of each unit, which keep every ratio of totals and give it the spread between units."""
    sums: dict[str, Pair] = {}
    for unit, (treatment, control) in zip(graded.units, graded.pairs, strict=True):
        before = sums.get(unit, (0.0, 0.0))
        sums[unit] = before[0] + treatment, before[1] + control
    return list(sums.values())


def by_unit(
    values: Sequence[float],
    units: Sequence[str],
    *,
    span: Pair | None = None,
    level: float = LEVEL,
    unit: str = JOB,
) -> Interval | Unsupported:
    """The mean over all values, by Student t on the units' linearised means; n counts units.

    Where all units hold equally many values, that is t on the means of the units.

    Arguments
    ---------
    span: the least and the largest that a value can be, where that is known. Units that are all alike then
        still leave room for another kind, by the share that Wilson's interval gives one that was never seen.
    unit: what a unit is called.
    """
    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for name, value in zip(units, values, strict=True):
        sums[name], sizes[name] = sums.get(name, 0.0) + value, sizes.get(name, 0) + 1
    if not sums:
        return Unsupported("no task was graded", 2)
    if unit == SESSION and (too_few := few(len(sums))):
        return too_few
    share, weight = sum(values) / len(values), len(sums) / len(values)
    mean = mean_of([share + weight * (sums[u] - share * sizes[u]) for u in sums], f"t on {unit}s")
    if isinstance(mean, Unsupported):
        return mean
    found = as_difference(mean, level=level)
    if span is None:
        return found
    low, high = span
    if mean.se:
        return found._replace(low=max(low, found.low), high=min(high, found.high))
    unseen = float(norm.ppf((1 + level) / 2)) ** 2
    unseen /= len(sums) + unseen
    return Interval(
        mean.value,
        mean.value - unseen * (mean.value - low),
        mean.value + unseen * (high - mean.value),
        len(sums),
        f"Wilson score interval, {unit}s all alike",
    )
