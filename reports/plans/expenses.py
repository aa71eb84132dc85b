"""What rounds and tasks of a test take, from what its earlier ones took: wall-clock seconds and dollars.

A round is both arms. pytest-benchmark timed the variant's; the control's follows by the record's own clock.
What else a test took (starting engines, grading) is what is left of its duration, where that was noted.
Costs are the recorded ones, or seconds × the price of a vCPU hour where a record has none.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from math import ceil, inf, log
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from reports.records import Record
from reports.runs import Entry

__all__ = ["Expense", "expense_of", "usd_per_s"]

PRICES = Path(__file__).resolve().parents[1] / "prices.toml"
COST = "cost_usd"


class Expense(NamedTuple):
    """What a number of observations take."""

    seconds: float
    usd: float


@lru_cache(maxsize=1)
def usd_per_s() -> float:
    """The price of a second of one vCPU."""
    hour = tomllib.loads(PRICES.read_text(encoding="utf-8"))["vcpu"]["usd_per_hour"]
    return float(hour) / 3600


def expense_of(entry: Entry, n: int, over: str, has: int | None = None) -> Expense | None:
    """What n observations of a test take; `None` where nobody noted what its last ones took.

    Arguments: `over`, what an observation is ("rounds", "tasks", "jobs", "requests"); `has`, how many of them
    the test made, which tells how many come in a round, or of what its grading was.
    """
    record = entry.record
    if record is None:
        return None
    if over in ("tasks", "jobs"):
        return _of_grading(entry, record, n / (has or len(record.tasks) or 1))
    if over == "requests" and has:
        n = ceil(n * len(record.rounds) / has)
    each = _round_s(entry, record)
    if each is None or not record.rounds:
        return None
    warm = record.settings.get("warmup_rounds") or 0
    ran = len(record.rounds) + warm * record.sessions
    beside = max(0.0, (entry.duration_s or 0.0) - ran * each)
    seconds = beside + (n + warm) * each
    known = [usd for arm in ("treatment", "control") if (usd := _usd(record, arm)) is not None]
    return Expense(seconds, (n + warm) * sum(known) if known else seconds * usd_per_s())


def _of_grading(entry: Entry, record: Record, share: float) -> Expense | None:
    """Grading takes what is left of a test beside its rounds, or else the engine's seconds."""
    values = [arm.get(COST) for task in record.tasks for arm in (task.treatment, task.control or {})]
    usd = sum(v for v in values if v is not None)
    rounds = (_round_s(entry, record) or 0.0) * len(record.rounds)
    seconds = max(0.0, entry.duration_s - rounds) if entry.duration_s else usd / usd_per_s()
    return Expense(seconds * share, (usd or seconds * usd_per_s()) * share) if seconds else None


def _round_s(entry: Entry, record: Record) -> float | None:
    """Seconds of a whole round: the variant's as pytest-benchmark timed it, and the control's beside it."""
    if not entry.data:
        return None
    own = fmean(entry.data)
    if record.control is None:
        return own
    return own * (1 + _control_share(record, own))


def _control_share(record: Record, own: float) -> float:
    """How much longer the control takes, by the time that is most like the whole round's."""
    best, share = inf, 1.0
    for name, metric in record.metrics.items():
        pairs = record.pairs(name) if metric.unit == "s" else []
        treatment, control = (sum(p[i] for p in pairs) for i in (0, 1))
        if treatment > 0 and control > 0:
            unlike = abs(log(treatment / len(pairs) / own)) if own > 0 else inf
            if unlike < best:
                best, share = unlike, control / treatment
    return share


def _usd(record: Record, arm: str) -> float | None:
    values = record.values(COST, arm)
    return fmean(values) if values else None
