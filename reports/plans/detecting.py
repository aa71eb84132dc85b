"""How often two runs must measure a variant for `python -m reports compare` to find that it became slower.

The level is the one that Holm's correction leaves to the smallest p value of a whole comparison: half of 5 %,
divided by how many noisy numbers the run holds. What has a control beside it is found by more rounds. What
has none, or is of a server that stays up, carries the drift of a session in every round alike: no number of
rounds helps, and sessions are what is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import hypot, log, log1p, sqrt
from statistics import stdev
from typing import Any

from reports.compare import FAMILIES, LEVEL
from reports.comparing.changes import SESSIONS
from reports.comparing.kinds import COUNT, TIME, kind_of
from reports.plans.expenses import Expense, expense_of
from reports.plans.powers import MOST, least, welch_power
from reports.records import Record
from reports.runs import Entry, Run
from reports.stats import Mean, log_ratio

__all__ = ["Detection", "detect", "level_of", "spread_of"]

ORDERED = 4
"""Rounds from which the order is a covariate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A metric of a test and how often both runs must measure it."""

    test: str
    experiment: str
    metric: str
    sd: float
    """Of the log of one round: of the ratio to the control, or of the variant's own number."""
    unit: str
    """What is counted: "rounds", or "sessions" of as many rounds as the run had."""
    has: int
    needs: int | None
    """Of each run; `None` beyond what anybody would measure."""
    expense: Expense | None = None
    """What `needs` takes, for one of the two runs."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        expense = self.expense._asdict() if self.expense else None
        names = ("test", "experiment", "metric", "sd", "unit", "has", "needs")
        return {name: getattr(self, name) for name in names} | {"expense": expense}


def detect(
    run: Run, change: float, power: float, drift: float, experiments: Sequence[str] = ()
) -> list[Detection]:
    """What finds a change by `change` of each time and rate that a claim of the run is about.

    Without verdicts: of every time and rate.
    """
    named = {(v.get("experiment"), v.get("treatment"), m)
             for v in run.verdicts for m in str(v.get("metric")).split("+")}  # fmt: skip
    level = level_of(run)
    out = []
    for entry in run.entries:
        record = entry.record
        if record is None or (experiments and record.experiment not in experiments):
            continue
        for metric, about in record.metrics.items():
            is_asked = not named or (record.experiment, record.variant, metric) in named
            if is_asked and kind_of(about) == TIME and record.evidence == "measured":
                out += list(_detection(entry, record, metric, change, power, drift, level))
    return out


def level_of(run: Run) -> float:
    """The level that a comparison with another run of these tests leaves to its smallest p value."""
    noisy = sum(_num_noisy(record) for record in run.records)
    controls = {
        (r.experiment, r.control, m)
        for r in run.records
        for m, about in r.metrics.items()
        if r.control is not None and kind_of(about) == TIME and r.values(m, "control")
    }
    return LEVEL / FAMILIES / max(1, noisy + len(controls))


def spread_of(record: Record, metric: str) -> tuple[float, int] | None:
    """(sd of one round's log, degrees of freedom that the mean takes) of the ratio, or of own numbers."""
    pairs = [pair for pair in record.pairs(metric) if min(pair) > 0]
    if len(pairs) >= 2:
        orders = [r.order for r in record.rounds if r.treatment and r.control]
        found = log_ratio(pairs, orders if len(orders) == len(pairs) else None)
        if isinstance(found, Mean):
            return found.se * sqrt(found.n), 2 if "AB BA" in found.method else 1
    own = [v for v in record.values(metric) if v > 0]
    return (stdev(log(v) for v in own), 1) if len(own) >= 2 and not pairs else None


def _detection(
    entry: Entry, record: Record, metric: str, change: float, power: float, drift: float, level: float
) -> Iterator[Detection]:
    found, has = spread_of(record, metric), len(record.rounds)
    if found is None:
        return
    (sd, lost), moved = found, log1p(change)
    if record.pairs(metric) and record.launch != "session":
        needs = least(power, lambda n: welch_power(moved, sd, n, level, lost), ORDERED)
        expense = expense_of(entry, needs, "rounds") if needs else None
        unit = "rounds"
    else:
        between = hypot(drift, sd / sqrt(has))
        needs = least(power, lambda k: welch_power(moved, between, k, level), SESSIONS)
        each = expense_of(entry, has, "rounds")
        expense = Expense(needs * each.seconds, needs * each.usd) if needs and each else None
        unit, has = "sessions", record.sessions
    yield Detection(
        test=entry.nodeid,
        experiment=record.experiment,
        metric=metric,
        sd=sd,
        unit=unit,
        has=has,
        needs=None if needs is None or needs >= MOST else needs,
        expense=expense,
    )


def _num_noisy(record: Record) -> int:
    """Metrics of a record that another run will not repeat exactly."""
    rounds = [
        m
        for m, about in record.metrics.items()
        if kind_of(about) != COUNT or len(record.rounds) > 1
        if len(set(record.values(m))) > 1
    ]
    timed = [m for m, about in record.metrics.items() if kind_of(about) == TIME]
    return len(rounds) + sum(any(task.treatment.get(m) for task in record.tasks) for m in timed)
