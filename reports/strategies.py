"""What became of each strategy on each model: shares, gains over one greedy answer, costs, and what to use.

Read of a record "MODEL-STRATEGY" whose control is "MODEL-single": its tasks and its rounds. A task's family
is its id up to the last dash. Gains and costs are paired, task by task or round by round, with the control
that was measured beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reports.records import Record, TaskPair
from reports.stats import (
    LEVEL,
    Interval,
    Unsupported,
    as_ratio,
    log_ratio,
    share,
    share_difference,
    total_log_ratio,
)

__all__ = ["SINGLE", "Advice", "Cell", "advise", "cells_of", "families_of"]

EXPERIMENT = "strategies"
SINGLE = "single"
ALL = "all"


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
    time_times: Interval | None
    """Seconds of a round ÷ the control's; of all families together only."""
    tokens_per_s: float | None
    cost_per_solved_usd: float | None
    failures: int

    @property
    def gap(self) -> float | None:
        """Right answers that were drawn and not chosen."""
        return None if self.oracle is None or self.solved is None else self.oracle - self.solved.estimate


class Advice(NamedTuple):
    """What to use on a model, and on what grounds."""

    model: str
    family: str
    strategy: str
    gain: Interval | None
    """Of the strategy, or None where it is `single`."""
    level: float
    """Of each interval, so that all of the model's together hold at 95 %."""
    why: str


def families_of(records: Iterable[Record]) -> tuple[str, ...]:
    """The families that were graded, in order, after "all"."""
    found = [_family(task) for r in records if r.experiment == EXPERIMENT for task in r.tasks]
    return (ALL, *dict.fromkeys(found))


def cells_of(records: Iterable[Record], family: str = ALL) -> list[Cell]:
    """A cell per graded record of the experiment, in order of the records."""
    return [_cell(r, family) for r in records if r.experiment == EXPERIMENT and _tasks(r, family)]


def advise(records: Sequence[Record], family: str = ALL) -> list[Advice]:
    """For each model the strategy with the largest gain, if that gain is one.

    A gain counts when its whole interval lies above 0, at a level that keeps all intervals of one model
    together at 95 % (Bonferroni). Of strategies that gain equally much the one with fewer tokens is taken.
    Where none counts, one greedy answer is what the data supports.
    """
    models: dict[str, list[Record]] = {}
    for record in records:
        if record.experiment == EXPERIMENT and record.control is not None and _tasks(record, family):
            models.setdefault(_split(record)[0], []).append(record)
    return [_advice(model, family, found) for model, found in models.items()]


def _advice(model: str, family: str, records: Sequence[Record]) -> Advice:
    level = 1 - (1 - LEVEL) / len(records)
    gains = [(r, gain) for r in records if (gain := _gain(r, family, level)) is not None]
    real = [(r, gain) for r, gain in gains if gain.low > 0]
    if not real:
        highest = max((gain.high for _, gain in gains), default=None)
        most = "" if highest is None else f"; none gains more than {100 * highest:.0f} points"
        return Advice(model, family, SINGLE, None, level, f"no gain is certain{most}")
    best, gain = min(
        real, key=lambda pair: (-pair[1].estimate, _mean(_tasks(pair[0], family), "tokens") or 0.0)
    )
    others = [_split(r)[1] for r, _ in real if r is not best]
    why = (
        f"the largest certain gain; also certain: {', '.join(others)}" if others else "the only certain gain"
    )
    return Advice(model, family, _split(best)[1], gain, level, why)


def _cell(record: Record, family: str) -> Cell:
    tasks = _tasks(record, family)
    model, strategy = _split(record)
    solved = _known(share([value for task in tasks if (value := task.treatment.get("solved")) is not None]))
    cost, right = _mean(tasks, "cost_usd"), None if solved is None else solved.estimate
    rounds = record.values("tokens_per_s")
    is_whole = family == ALL
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
        time_times=_time_times(record) if is_whole else None,
        tokens_per_s=sum(rounds) / len(rounds) if is_whole and rounds else None,
        cost_per_solved_usd=cost / right if cost is not None and right else None,
        failures=len(record.failures),
    )


def _split(record: Record) -> tuple[str, str]:
    model, _, strategy = record.variant.partition("-")
    return model, strategy


def _family(task: TaskPair) -> str:
    return task.id.rpartition("-")[0]


def _tasks(record: Record, family: str) -> list[TaskPair]:
    return [task for task in record.tasks if family in (ALL, _family(task))]


def _pairs(tasks: Sequence[TaskPair], metric: str) -> list[tuple[float, float]]:
    found = [(task.treatment.get(metric), (task.control or {}).get(metric)) for task in tasks]
    return [(t, c) for t, c in found if t is not None and c is not None]


def _gain(record: Record, family: str, level: float = LEVEL) -> Interval | None:
    if record.control is None:
        return None
    return _known(share_difference(_pairs(_tasks(record, family), "solved"), level))


def _times(pairs: Sequence[tuple[float, float]]) -> Interval | None:
    mean = total_log_ratio(pairs)
    return None if isinstance(mean, Unsupported) else as_ratio(mean)


def _time_times(record: Record) -> Interval | None:
    whole = [r for r in record.rounds if r.treatment is not None and r.control is not None]
    mean = log_ratio(record.pairs("total_s"), [r.order for r in whole])
    return None if isinstance(mean, Unsupported) else as_ratio(mean)


def _mean(tasks: Sequence[TaskPair], metric: str) -> float | None:
    """The mean over all tasks; None where one of them lacks the metric."""
    values = [value for task in tasks if (value := task.treatment.get(metric)) is not None]
    return sum(values) / len(values) if values and len(values) == len(tasks) else None


def _known(found: Interval | Unsupported) -> Interval | None:
    return None if isinstance(found, Unsupported) else found
