"""What became of each strategy on each model: shares, gains over one greedy answer, and costs.

Read of a record "MODEL-STRATEGY" whose control is "MODEL-single": its tasks and its rounds. A task's family
is its id up to the last dash. Gains and costs are paired, task by task or round by round, with the control
that was measured beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reports.intervals.estimates import rounds_log_ratio
from reports.intervals.shares import share, share_difference
from reports.records import Record, TaskPair
from reports.stats import (
    LEVEL,
    Interval,
    Unsupported,
    as_ratio,
    total_log_ratio,
)

__all__ = ["ALL", "EXPERIMENT", "SINGLE", "Cell", "cells_of", "families_of", "split", "tasks_of", "troubles"]

EXPERIMENT = "strategies"
SINGLE = "single"
ALL = "all"
MORE = "-more"
"""How the family of tasks ends that decide claims of some variants, and that the others lack."""


class Cell(NamedTuple):
    """A strategy on a model, over the tasks of one family or of all."""

    model: str
    strategy: str
    family: str
    n: int
    solved: Interval | None
    gain: Interval | None
    """Solved less the control's, paired by task; None for the control itself."""
    oracle: float | None
    """Share of tasks of which some answer drawn was right."""
    tokens: float | None
    """Mean per task, read and written."""
    tokens_times: Interval | None
    """Tokens ÷ the control's."""
    cost_times: Interval | None
    """Cost of all tasks ÷ the control's."""
    time_times: Interval | None
    """Seconds of a round ÷ the control's; of all families together only."""
    latency_s: float | None
    """Mean of a timed task."""
    tokens_per_s: float | None
    success: float | None
    """Share of tasks without a failed call, whatever was answered."""
    cost_per_solved_usd: float | None
    failures: int
    asks_others: bool
    """Whether it asks another model too: then its tokens are not this model's alone."""

    @property
    def gap(self) -> float | None:
        """Right answers that were drawn and not chosen."""
        return None if self.oracle is None or self.solved is None else self.oracle - self.solved.estimate


def families_of(records: Iterable[Record]) -> tuple[str, ...]:
    """The families that were graded, in order, after "all"."""
    found = [_family(task) for r in records if r.experiment == EXPERIMENT for task in tasks_of(r)]
    return (ALL, *dict.fromkeys(found))


def cells_of(records: Iterable[Record], family: str = ALL) -> list[Cell]:
    """A cell per graded record of the experiment, in order of the records."""
    return [_cell(r, family) for r in records if r.experiment == EXPERIMENT and tasks_of(r, family)]


def split(record: Record) -> tuple[str, str]:
    """Model and strategy of a variant."""
    model, _, strategy = record.variant.partition("-")
    return model, strategy


def troubles(record: Record) -> list[str]:
    """Why a record's numbers are not what its name says, or not all of them."""
    broken = [f"{c.name} does not hold: {c.observed}" for c in record.checks if not c.ok]
    return broken if record.complete else [*broken, "not every planned round was run"]


def tasks_of(record: Record, family: str = ALL) -> list[TaskPair]:
    """The graded tasks of one family, or of all, but for those that only some variants were graded on."""
    shared = [task for task in record.tasks if not _family(task).endswith(MORE)]
    return [task for task in shared if family in (ALL, _family(task))]


def _cell(record: Record, family: str) -> Cell:
    tasks = tasks_of(record, family)
    model, strategy = split(record)
    solved = _known(share([value for task in tasks if (value := task.treatment.get("solved")) is not None]))
    cost, right = _mean(tasks, "cost_usd"), None if solved is None else solved.estimate
    is_whole = family == ALL
    failed = _mean(tasks, "failed")
    return Cell(
        model=model,
        strategy=strategy,
        family=family,
        n=len(tasks),
        solved=solved,
        gain=_gain(record, family),
        oracle=_mean(tasks, "oracle"),
        tokens=_mean(tasks, "tokens"),
        tokens_times=_times(_pairs(tasks, "tokens")),
        cost_times=_times(_pairs(tasks, "cost_usd")),
        time_times=_time_times(record) if is_whole else None,
        latency_s=_timed(record, "task_s") if is_whole else None,
        tokens_per_s=_timed(record, "tokens_per_s") if is_whole else None,
        success=None if failed is None else 1 - failed,
        cost_per_solved_usd=cost / right if cost is not None and right else None,
        failures=len(record.failures),
        asks_others=len(record.models) > 1,
    )


def _family(task: TaskPair) -> str:
    return task.id.rpartition("-")[0]


def _pairs(tasks: Sequence[TaskPair], metric: str) -> list[tuple[float, float]]:
    found = [(task.treatment.get(metric), (task.control or {}).get(metric)) for task in tasks]
    return [(t, c) for t, c in found if t is not None and c is not None]


def _gain(record: Record, family: str, level: float = LEVEL) -> Interval | None:
    if record.control is None:
        return None
    return _known(share_difference(_pairs(tasks_of(record, family), "solved"), level))


def _times(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    mean = total_log_ratio(pairs)
    return None if isinstance(mean, Unsupported) else as_ratio(mean)


def _time_times(record: Record) -> Interval | None:
    mean = rounds_log_ratio(("total_s",), record)
    return None if isinstance(mean, Unsupported) else as_ratio(mean)


def _mean(tasks: Sequence[TaskPair], metric: str) -> float | None:
    """The mean over all tasks; None where one of them lacks the metric."""
    values = [value for task in tasks if (value := task.treatment.get(metric)) is not None]
    return sum(values) / len(values) if values and len(values) == len(tasks) else None


def _timed(record: Record, metric: str) -> float | None:
    values = record.values(metric)
    return sum(values) / len(values) if values else None


def _known(found: Interval | Unsupported) -> Interval | None:
    return None if isinstance(found, Unsupported) else found
