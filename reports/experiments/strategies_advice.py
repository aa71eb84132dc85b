"""Which strategy the data supports for each model, and what larger models do with the same tokens.

The rule. Strategies are ordered by tokens. From the cheapest on, a step leads to the cheapest dearer one that
is certain to solve more, until none is: certain means that the whole interval of the paired difference lies
above 0, at a level at which all comparisons with one strategy hold together at 95 % (Bonferroni). A step is
taken only after the cheaper strategy was beaten, so that the risk of having gone too far stays 5 %.

A recommendation is decided where no dearer strategy can still gain `MARGIN` over it. Otherwise it is what
the data supports so far, and the number of tasks that would decide is an estimate from the interval's width.
A call that failed is a task that was not solved. A strategy that asks another model too is no strategy of
this one, and its tokens are not comparable: it stands in the tables and is not recommended. Nor is one whose
checks do not hold: it did not do what its name says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from reports.experiments.strategies import ALL, EXPERIMENT, SINGLE, split, tasks_of
from reports.intervals.shares import share_difference
from reports.records import Record, Values
from reports.stats import LEVEL, Interval, Unsupported

__all__ = ["MARGIN", "Advice", "Contest", "advise", "contests"]

MARGIN = 0.05
"""A gain worth knowing of, as a share of tasks: the five points that issue and claims ask of best-of-N."""
POOL, VOTE = "best-of-8", "majority-of-8"


class Advice(NamedTuple):
    """What to use on a model, and on what grounds."""

    model: str
    family: str
    strategy: str
    n: int
    """Tasks."""
    solved: float
    gain: Interval | None
    """Over `single`, at `level`; None for `single` itself, or where it was not graded."""
    tokens_times: float | None
    """Its tokens ÷ those of `single`."""
    level: float
    rival: str | None
    """The dearer strategy that may still be `MARGIN` better, the most promising one; None where none may."""
    rival_gain: Interval | None
    """Of the rival, over the recommended one."""
    tasks_needed: int | None
    """About how many tasks would tell."""


class Contest(NamedTuple):
    """A model's best of eight beside a better model: with as many tokens, and with one answer."""

    model: str
    larger: str
    """The model that solves more with one greedy answer."""
    family: str
    best: float
    tokens: float | None
    over_vote: Interval | None
    """Best of eight of the one less the majority of eight of the other, paired by task."""
    vote_tokens: float | None
    over_single: Interval | None
    """... less one greedy answer of the other."""
    single_tokens: float | None


class _Arm(NamedTuple):
    strategy: str
    tasks: Mapping[str, Values]

    @property
    def solved(self) -> dict[str, float]:
        return {task: found for task, v in self.tasks.items() if (found := v.get("solved")) is not None}

    @property
    def share(self) -> float:
        return sum(self.solved.values()) / len(self.solved)

    def mean(self, metric: str) -> float | None:
        """Over all tasks; None where one lacks it."""
        known = [v for one in self.tasks.values() if (v := one.get(metric)) is not None]
        return sum(known) / len(known) if known and len(known) == len(self.tasks) else None


def advise(records: Iterable[Record], family: str = ALL) -> list[Advice]:
    """The recommendation for each model; none for a model with one strategy alone."""
    found = _arms(records, family)
    return [_advice(model, family, arms) for model, arms in found.items() if len(arms) > 1]


def contests(records: Iterable[Record], family: str = ALL) -> list[Contest]:
    """Each model's best of eight against every model whose one answer is better, by the share it solves."""
    by_model = {m: {a.strategy: a for a in arms} for m, arms in _arms(records, family).items()}
    singles = {m: arms[SINGLE].share for m, arms in by_model.items() if SINGLE in arms}
    return [
        _contest(small, large, family, by_model[small], by_model[large])
        for small in singles
        for large in sorted(singles, key=lambda name: singles[name])
        if singles[large] > singles[small] and POOL in by_model[small]
    ]


def _arms(records: Iterable[Record], family: str) -> dict[str, list[_Arm]]:
    """Model → its graded strategies, each once; a control counts where it has no record of its own."""
    own: dict[tuple[str, str], _Arm] = {}
    beside: dict[tuple[str, str], _Arm] = {}
    for record in records:
        if record.experiment != EXPERIMENT or len(record.models) > 1:
            continue
        if not all(check.ok for check in record.checks):
            continue
        (model, strategy), tasks = split(record), tasks_of(record, family)
        own.setdefault((model, strategy), _Arm(strategy, {t.id: t.treatment for t in tasks}))
        control = {t.id: t.control for t in tasks if t.control is not None}
        if record.control == f"{model}-{SINGLE}":
            beside.setdefault((model, SINGLE), _Arm(SINGLE, control))
    out: dict[str, list[_Arm]] = {}
    for (model, _), arm in (beside | own).items():
        if arm.solved:
            out.setdefault(model, []).append(arm)
    return out


def _advice(model: str, family: str, arms: Sequence[_Arm]) -> Advice:
    level = 1 - (1 - LEVEL) / (len(arms) - 1)
    ordered = _by_price(arms)
    chosen, over = ordered[0], _over(ordered, ordered[0], level)
    while certain := [arm for arm, gain in over if gain.low > 0]:
        chosen = certain[0]
        over = _over(ordered, chosen, level)
    single = next((arm for arm in ordered if arm.strategy == SINGLE), None)
    rivals = [(arm, gain) for arm, gain in over if gain.high >= MARGIN]
    rival, gain = max(rivals, key=lambda pair: pair[1].estimate, default=(None, None))
    return Advice(
        model=model,
        family=family,
        strategy=chosen.strategy,
        n=len(chosen.solved),
        solved=chosen.share,
        gain=None if single in (None, chosen) else _difference(chosen, single, level),
        tokens_times=None if single is None else _times(chosen.mean("tokens"), single.mean("tokens")),
        level=level,
        rival=None if rival is None else rival.strategy,
        rival_gain=gain,
        tasks_needed=None if gain is None else _needed(gain),
    )


def _by_price(arms: Sequence[_Arm]) -> list[_Arm]:
    """From the cheapest: by tokens, or by answers where a server did not count tokens for one of them."""
    metric = "tokens" if all(arm.mean("tokens") is not None for arm in arms) else "answers"
    return sorted(arms, key=lambda arm: (arm.mean(metric) or 0.0, arm.strategy != SINGLE))


def _over(ordered: Sequence[_Arm], arm: _Arm, level: float) -> list[tuple[_Arm, Interval]]:
    """Every dearer strategy with its gain over this one, the cheapest first."""
    dearer = ordered[ordered.index(arm) + 1 :]
    found = ((one, _difference(one, arm, level)) for one in dearer)
    return [(one, gain) for one, gain in found if gain is not None]


def _difference(arm: _Arm, other: _Arm | None, level: float = LEVEL) -> Interval | None:
    """Solved by the one less solved by the other, over the tasks that both were graded on."""
    if other is None:
        return None
    mine, theirs = arm.solved, other.solved
    found = share_difference([(mine[task], theirs[task]) for task in mine if task in theirs], level)
    return None if isinstance(found, Unsupported) else found


def _needed(gain: Interval) -> int:
    """About how many tasks would show that a gain is one, or that it is below the margin, to two digits."""
    half, distance = (gain.high - gain.low) / 2, max(gain.estimate, MARGIN - gain.estimate)
    number = max(gain.n * (half / distance) ** 2, gain.n + 1)
    step = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return int(math.ceil(number / step) * step)


def _times(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or not theirs else mine / theirs


def _contest(
    small: str, large: str, family: str, mine: Mapping[str, _Arm], theirs: Mapping[str, _Arm]
) -> Contest:
    best, vote, single = mine[POOL], theirs.get(VOTE), theirs[SINGLE]
    return Contest(
        model=small,
        larger=large,
        family=family,
        best=best.share,
        tokens=best.mean("tokens"),
        over_vote=_difference(best, vote),
        vote_tokens=None if vote is None else vote.mean("tokens"),
        over_single=_difference(best, single),
        single_tokens=single.mean("tokens"),
    )
