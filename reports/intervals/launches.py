"""What stays up for a session is observed once per session, however many rounds it served.

Two launches of one server differ by more than its rounds do among themselves: memory lies elsewhere, a clock
settles elsewhere. Rounds of one launch share that, so that an interval over all rounds of three launches with
effects of 5 % covers 88, 69 and 47 % at 6, 20 and 50 rounds of each, where it says 95 % (simulated with the
noise of recorded rounds, as in `tests/test_launches.py`). Here every session gives one number, the mean of
its rounds, and Student's t runs over sessions; it covers 95 % from three on. Where the records do not say how
often they launched (schema 1), sessions are taken as the launches.

A number that is the same in every round of every session (a count, a share of bytes) has no launch effect.

Source: Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013: repetitions count at the
highest level at which results vary.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from statistics import fmean
from typing import TypeVar

from reports.intervals.quantiles import needed_for
from reports.records import Record
from reports.stats import Mean, Unsupported, log_ratio, mean_of

__all__ = [
    "LEAST",
    "few",
    "is_by_launch",
    "launch_of",
    "launches_of",
    "log_ratio_of_sessions",
    "mean_of_sessions",
    "means_of_sessions",
    "quantile_of_sessions",
    "quantiles",
]

LEAST = 3
"""Launches below which their spread is not known well enough."""

Pair = tuple[float, float]
T = TypeVar("T")


def is_by_launch(record: Record) -> bool:
    """Whether a session of the record is one observation: it was merged, and what it measured stayed up."""
    return record.sessions > 1 and record.launch != "round"


def launch_of(records: Sequence[Record]) -> str | None:
    """How often what several records measured together was launched: the rarest of them."""
    told = {record.launch for record in records}
    return "session" if "session" in told else None if None in told else "round"


def launches_of(over: str, records: Sequence[Record]) -> int | None:
    """Independent launches behind a claim over rounds or requests; `None` elsewhere, or where nobody said."""
    launch = launch_of(records)
    if over not in ("rounds", "requests") or launch is None:
        return None
    return min(len(r.rounds) if launch == "round" else r.sessions for r in records if r.launch == launch)


def few(num: int) -> Unsupported | None:
    """Why so few launches give no interval."""
    return None if num >= LEAST else Unsupported(f"{num} of at least {LEAST} launches", LEAST)


def log_ratio_of_sessions(
    pairs: Sequence[Pair], orders: Sequence[str], sessions: Sequence[int]
) -> Mean | Unsupported:
    """The mean over sessions of each one's mean log(treatment / control).

    Arguments
    ---------
    pairs: (treatment, control) per round, both positive.
    orders: "CT" or "TC" per round; a session's mean is that of its two order means.
    sessions: the session that each round is of.
    """
    whole = log_ratio(pairs)
    if isinstance(whole, Unsupported) or not whole.se:
        return whole
    logs = [(order, log(pair[0] / pair[1])) for pair, order in zip(pairs, orders, strict=True)]
    found = [_balanced(group) for group in _groups(logs, sessions)]
    return few(len(found)) or mean_of(found, "t on sessions' mean log ratios")


def mean_of_sessions(values: Sequence[float], sessions: Sequence[int], what: str) -> Mean | Unsupported:
    """The mean over sessions of each one's mean; `what` is averaged, such as "differences of pairs"."""
    whole = mean_of(values, f"t on {what}")
    if isinstance(whole, Mean) and not whole.se:
        return whole
    found = means_of_sessions(values, sessions)
    return few(len(found)) or mean_of(found, f"t on sessions' mean {what}")


def means_of_sessions(values: Sequence[float], sessions: Sequence[int]) -> list[float]:
    """Each session's mean, in the order in which sessions come first."""
    return [fmean(group) for group in _groups(values, sessions)]


def quantile_of_sessions(
    values: Sequence[float], sessions: Sequence[int], share: float
) -> Mean | Unsupported:
    """The mean over sessions of each one's quantile."""
    found = quantiles(values, sessions, share)
    if isinstance(found, Unsupported):
        return found
    return few(len(found)) or mean_of(list(found.values()), f"t on sessions' p{100 * share:g}")


def quantiles(
    values: Sequence[float], sessions: Sequence[int], share: float
) -> dict[int, float] | Unsupported:
    """Each session's quantile, by nearest rank; each must hold enough values for one below its largest."""
    groups: dict[int, list[float]] = {}
    for value, session in zip(values, sessions, strict=True):
        groups.setdefault(session, []).append(value)
    least, needed = ceil(1 / min(share, 1 - share)), needed_for(share)
    if len(values) < needed:
        return Unsupported(f"{len(values)} of at least {needed} values for p{100 * share:g}")
    if (size := min(map(len, groups.values()))) < least:
        return Unsupported(f"a session has {size} of at least {least} values for p{100 * share:g}")
    return {at: sorted(g)[max(1, ceil(share * len(g) - 1e-9)) - 1] for at, g in groups.items()}


def _balanced(logs: Sequence[tuple[str, float]]) -> float:
    """The mean of the means of each order, so that neither order counts more than the other."""
    orders = sorted({order for order, _ in logs})
    return fmean(fmean(v for order, v in logs if order == one) for one in orders)


def _groups(values: Sequence[T], sessions: Sequence[int]) -> list[list[T]]:
    found: dict[int, list[T]] = {}
    for value, session in zip(values, sessions, strict=True):
        found.setdefault(session, []).append(value)
    return list(found.values())
