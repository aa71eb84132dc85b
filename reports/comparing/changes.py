"""How far a number moved from one run to the other, and how well that is known.

Paired rounds: the log ratio to the control that ran beside the variant. What drifts from session to session
drifts in both arms, and cancels; a change that both arms share cancels with it, and shows in the controls'
own numbers. Own numbers (of a variant without a control, and of the controls) carry the session's drift. One
session tells nothing of its own drift, so that it is declared (5 % sd of the log, by default) and enters the
variance of every own number; from three sessions of each run on it is measured, and the session is the unit.

Tasks are paired by their id. A count that repeats exactly in three rounds is compared exactly, and so is what
a simulator says.

Source: Welch, Biometrika 34 (1947) 28-35, for the difference of two means of unequal spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isclose, isfinite, log, sqrt
from statistics import fmean
from typing import NamedTuple

from reports.comparing.kinds import COUNT, SHARE, TIME
from reports.intervals.shares import share_difference
from reports.intervals.units import Graded, by_unit, totals, unit_of, units_of
from reports.records import Record, Round
from reports.stats import (
    Interval,
    Mean,
    Unsupported,
    add,
    log_ratio,
    mean_of,
    total_log_ratio,
)

__all__ = [
    "ABSOLUTE",
    "EXACT",
    "OWN",
    "RELATIVE",
    "REPEATS",
    "SESSIONS",
    "Moved",
    "moved_in_rounds",
    "moved_in_tasks",
    "of_interval",
    "shifted",
]

RELATIVE, ABSOLUTE, EXACT = "relative", "absolute", "exact"
SESSIONS = 3
"""Sessions of each run from which their spread is measured, and no longer declared."""
REPEATS = 3
"""Rounds after which a count that never changed counts as one that does not."""
ROUNDING = 1e-9
"""A relative difference that adding up floats leaves."""

OWN, PAIRED = "own values", "ratio to the control beside it"


class Moved(NamedTuple):
    """How a number of one run became that of the other."""

    before: float | None
    after: float | None
    """The treatment's own means; `None` where a run did not measure it."""
    change: Mean | Unsupported
    """after − before: of logs with scale "relative", of the numbers with "absolute"; `se` 0 is exact."""
    scale: str
    how: str
    n: int
    drift: float = 0.0
    """The standard error that was declared, beside that of `change` and on its scale."""


class Side(NamedTuple):
    """The rounds of one run that measured a metric."""

    record: Record
    metric: str
    rounds: list[Round]

    @property
    def own(self) -> list[float]:
        """The treatment's values."""
        return [_of(r, self.metric, "treatment") for r in self.rounds]

    @property
    def paired(self) -> list[tuple[float, float]]:
        """(treatment, control) of the rounds that have both."""
        return [(_of(r, self.metric, "treatment"), _of(r, self.metric, "control")) for r in self.with_both]

    @property
    def with_both(self) -> list[Round]:
        """The rounds whose control measured the metric, too."""
        return [r for r in self.rounds if _has(r, self.metric, "control")]


def moved_in_rounds(before: Record, after: Record, metric: str, kind: str, drift: float) -> Moved | None:
    """How a metric of the rounds moved; `None` where neither run measured it there.

    Arguments: `drift`, the declared sd of the log of a session's own level.
    """
    sides = (_side(before, metric), _side(after, metric))
    own = [side.own for side in sides]
    if not any(own):
        return None
    if not all(own):
        return _not_there(own, "rounds")
    means, n = (fmean(own[0]), fmean(own[1])), min(map(len, own))
    same = _same(own[0], own[1])
    if same or _repeats(own, kind) or before.evidence == after.evidence == "simulated":
        gap = 0.0 if same else means[1] - means[0]
        return Moved(*means, Mean(gap, 0.0, inf, n, EXACT), EXACT, EXACT, n)
    if kind == COUNT and n < REPEATS:
        few = Unsupported(f"differs, and {n} of {REPEATS} rounds say whether it repeats", REPEATS)
        return Moved(*means, few, ABSOLUTE, OWN, n)
    is_paired = kind != COUNT and all(side.with_both for side in sides)
    return _by_rounds(sides, means, is_paired=is_paired, is_share=kind == SHARE, drift=drift)


def moved_in_tasks(before: Record, after: Record, metric: str, kind: str, drift: float) -> Moved | None:
    """How a metric of the graded tasks moved, paired by the ids that both runs graded."""
    graded = _graded(before, after, metric)
    if not graded.pairs:
        own = [[v for t in r.tasks if (v := t.treatment.get(metric)) is not None] for r in (before, after)]
        return _not_there(own, "tasks") if any(own) else None
    new, old = [pair[0] for pair in graded.pairs], [pair[1] for pair in graded.pairs]
    means, n = (fmean(old), fmean(new)), len(new)
    same = _same(old, new)
    if same or before.evidence == after.evidence == "simulated":
        gap = 0.0 if same else means[1] - means[0]
        return Moved(*means, Mean(gap, 0.0, inf, n, EXACT), EXACT, EXACT, n)
    if kind != SHARE and min(*old, *new) >= 0 and min(means) > 0:
        change = total_log_ratio(totals(graded))
        se = _declared(before, after, drift) if kind == TIME else 0.0
        return Moved(*means, change, RELATIVE, "paired by task", n, se)
    return Moved(*means, _difference_of(graded), ABSOLUTE, "paired by task", n)


def of_interval(interval: Interval, transform: Callable[[float], float] = float) -> Mean | Unsupported:
    """The mean and standard error behind a 95 % interval of t, or about so behind another one.

    Arguments: `transform`, to the scale on which the interval was made: `log` for ratios.
    """
    from scipy.stats import t as student

    value, low, high = (transform(end) for end in interval[:3])
    if not (isfinite(low) and isfinite(high)):
        return Unsupported("an interval with an open end is not compared")
    df = _df(interval)
    half = abs(high - low) / 2
    return Mean(value, half / float(student.ppf(0.975, df)) if half else 0.0, df, interval.n, interval.method)


def shifted(before: Mean, after: Mean) -> Mean:
    """after − before, with no more degrees of freedom than two runs of the shorter one's length would have.

    Welch's freedom is estimated. Where three rounds happen to agree, it is that of the longer run; far out in
    the tails, where Holm's correction looks, 3 rounds beside 12 gave 20 times the alarms. Runs of equal
    length keep Welch's own.
    """
    if not before.se and not after.se:
        return Mean(after.value - before.value, 0.0, inf, min(before.n, after.n), EXACT)
    found = add(after, before)
    return found._replace(df=min(found.df, 2 * min(before.df, after.df)))


def _by_rounds(
    sides: tuple[Side, Side], means: tuple[float, float], *, is_paired: bool, is_share: bool, drift: float
) -> Moved:
    """The difference of two sessions', or of two sets of sessions', means."""
    before, after = sides
    values = [v for side in sides for v in ([x for p in side.paired for x in p] if is_paired else side.own)]
    is_log = not is_share and all(v > 0 and isfinite(v) for v in values)
    stays_up = any(side.record.launch == "session" for side in sides)
    by_session = (stays_up or not is_paired) and all(s.record.sessions >= SESSIONS for s in sides)
    found = [_level(side, is_paired=is_paired, is_log=is_log, by_session=by_session) for side in sides]
    n = min(len(side.with_both if is_paired else side.rounds) for side in sides)
    scale, how = (RELATIVE if is_log else ABSOLUTE), (PAIRED if is_paired else OWN)
    first, second = found
    if isinstance(first, Unsupported) or isinstance(second, Unsupported):
        gap = first if isinstance(first, Unsupported) else second
        return Moved(*means, gap, scale, how, n)
    declared = 0.0
    if not by_session and (stays_up or not is_paired):
        declared = _declared(before.record, after.record, drift) * (1.0 if is_log else abs(fmean(means)))
    return Moved(*means, shifted(first, second), scale, how, n, declared)


def _level(side: Side, *, is_paired: bool, is_log: bool, by_session: bool) -> Mean | Unsupported:
    """One run's number: the mean over its rounds, or over the means of its sessions."""
    rounds = side.with_both if is_paired else side.rounds
    pairs = side.paired
    if is_log:
        values = [log(t / c) for t, c in pairs] if is_paired else [log(v) for v in side.own]
    else:
        values = [t - c for t, c in pairs] if is_paired else side.own
    if by_session:
        groups: dict[int, list[float]] = {}
        for one, value in zip(rounds, values, strict=True):
            groups.setdefault(one.session or 0, []).append(value)
        return mean_of([fmean(group) for group in groups.values()], "t on sessions")
    if is_paired and is_log:
        return log_ratio(pairs, [r.order for r in rounds])
    return mean_of(values, "t on rounds")


def _declared(before: Record, after: Record, drift: float) -> float:
    """The standard error that two runs' own levels have for want of further sessions."""
    if "measured" not in (before.evidence, after.evidence):
        return 0.0
    return drift * sqrt(1 / before.sessions + 1 / after.sessions)


def _difference_of(graded: Graded) -> Mean | Unsupported:
    """Shares by a score interval, scores by t, and both by t on jobs where those count."""
    gaps = [t - c for t, c in graded.pairs]
    is_share = all(v in (0, 1) for pair in graded.pairs for v in pair)
    if not graded.is_clustered and not is_share:
        return mean_of(gaps, "t on differences of tasks")
    if graded.is_clustered:
        span = (-1.0, 1.0) if is_share else None
        found = by_unit(gaps, graded.units, span=span, unit=graded.unit)
    else:
        found = share_difference(graded.pairs)
    return found if isinstance(found, Unsupported) else of_interval(found)


def _graded(before: Record, after: Record, metric: str) -> Graded:
    """(after, before) of each task that both runs graded, both as treatments."""
    old = {task.id: value for task in before.tasks if (value := task.treatment.get(metric)) is not None}
    found = [
        (task.id, (value, old[task.id]))
        for task in (after.tasks if old else ())
        if task.id in old and (value := task.treatment.get(metric)) is not None
    ]
    units = units_of(after, [name for name, _ in found])
    return Graded([pair for _, pair in found], units, unit_of(after))


def _df(interval: Interval) -> float:
    """Degrees of freedom of what made an interval; infinite for score intervals and sums over shares."""
    if "AB BA" in interval.method:
        return max(1, interval.n - 2)
    if "score" in interval.method or "shares" in interval.method:
        return inf
    return max(1, interval.n - 1)


def _repeats(own: Sequence[Sequence[float]], kind: str) -> bool:
    """Whether a count was the same in each round of either run."""
    return kind == COUNT and all(len(set(v)) == 1 and len(v) >= REPEATS for v in own)


def _same(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two runs gave the same round by round, or one value that never changes.

    Of unequal lengths, rounds that differ from each other show that the same comes back round by round.
    Rounds of one value do not: the longer run's last ones may have begun to differ.
    """
    alike = all(isclose(a, b, rel_tol=ROUNDING) for a, b in zip(first, second, strict=False))
    shorter = min(first, second, key=len)
    returns = len(shorter) >= REPEATS and len({*shorter}) > 1
    return alike and (len(first) == len(second) or returns or len({*first, *second}) == 1)


def _not_there(own: Sequence[Sequence[float]], over: str) -> Moved:
    means = [fmean(values) if values else None for values in own]
    where = "the first" if own[0] else "the second"
    return Moved(means[0], means[1], Unsupported(f"only {where} measured it"), ABSOLUTE, over, 0)


def _side(record: Record, metric: str) -> Side:
    return Side(record, metric, [r for r in record.rounds if _has(r, metric, "treatment")])


def _has(one: Round, metric: str, arm: str) -> bool:
    values = getattr(one, arm)
    return values is not None and values.get(metric) is not None


def _of(one: Round, metric: str, arm: str) -> float:
    return float(getattr(one, arm)[metric])
