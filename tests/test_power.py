"""Plans keep what they promise: so many rounds decide as often as they say, and find what they say.

Chances are compared with draws; a plan for a regression is carried out on sessions that are drawn again from
the committed reference runs (`resampled_runs`), with the spread that the plan was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np
import pytest

from reports.compare import compare
from reports.intervals.shares import share, share_difference
from reports.plans.detecting import Detection, detect
from reports.plans.powers import MOST, Paired, Share, Spread, Timed, decides, least, welch_power
from reports.records import Record, Round
from reports.runs import Entry, Run
from reports.stats import Interval, Mean, add, as_difference, mean_of
from tests.resampled_runs import Noise, Sampler, recorded
from tests.synthetic_runs import record
from tests.test_gate_proof import orders, resampled
from tests.test_gate_proof import recorded as recorded_pairs

REPEATS, MUST = 20, 18
DRAWS = 2000

Generator = np.random.Generator


# chances


def times(rng: Generator, n: int) -> Interval:
    found = mean_of([float(v) for v in 1.0 + 0.3 * rng.standard_normal(n)])
    assert isinstance(found, Mean)
    return as_difference(found)


def tasks(rng: Generator, n: int) -> Interval:
    found = share([float(v) for v in rng.random(n) < 0.6])
    assert isinstance(found, Interval)
    return found


def paired_tasks(rng: Generator, n: int) -> Interval:
    kinds = rng.choice(3, size=n, p=[0.10, 0.03, 0.87])
    found = share_difference([((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))[k] for k in kinds])
    assert isinstance(found, Interval)
    return found


@pytest.mark.parametrize(
    ("spread", "region", "draw"),
    [
        (Timed(1.0, 0.3), (0.8, np.inf), times),
        (Timed(1.0, 0.3), (0.8, 1.25), times),
        (Timed(1.0, 0.3), (1.3, np.inf), times),
        (Share(0.6), (0.5, np.inf), tasks),
        (Share(0.6), (0.7, np.inf), tasks),
        (Paired(0.10, 0.03), (0.0, np.inf), paired_tasks),
        (Paired(0.10, 0.03), (-np.inf, 0.02), paired_tasks),
    ],
)
def test_the_least_number_decides_as_often_as_asked(
    spread: Spread, region: tuple[float, float], draw: Callable[[Generator, int], Interval]
) -> None:
    """Of 2,000 runs of that size, 90 % end with their interval wholly inside, or wholly outside."""
    n = least(0.9, lambda n: decides(spread, region, n))
    assert n is not None
    rng = np.random.default_rng(n)
    found = [draw(rng, n) for _ in range(DRAWS)]
    low, high = region
    done = [(low <= i.low and i.high <= high) or i.high < low or i.low > high for i in found]
    assert 0.87 <= sum(done) / DRAWS <= 0.95
    assert decides(spread, region, n - 1) < 0.9


def test_welch_finds_a_change_as_often_as_asked() -> None:
    n = least(0.9, lambda n: welch_power(0.1, 0.08, n, 0.001))
    assert n is not None
    rng, found = np.random.default_rng(1), 0
    for _ in range(DRAWS):
        first, second = (mean_of([float(v) for v in at + 0.08 * rng.standard_normal(n)]) for at in (0.0, 0.1))
        assert isinstance(first, Mean)
        assert isinstance(second, Mean)
        low, high = add(second, first).bounds(0.999)
        found += not low <= 0 <= high
    assert 0.88 <= found / DRAWS <= 0.95


def test_a_number_on_its_threshold_is_never_decided() -> None:
    """Not by ten thousand, and no number is made up."""
    for spread in (Timed(1.0, 0.3), Share(1.0 - 0.5), Paired(0.1, 0.1)):
        edge = spread.value
        assert least(0.9, lambda n, s=spread, e=edge: decides(s, (e, np.inf), n)) is None
    assert least(0.9, lambda n: decides(Timed(1.0, 0.3), (0.9999, np.inf), n)) is None


def test_a_number_without_spread_is_decided_by_two() -> None:
    assert least(0.9, lambda n: decides(Timed(1.0, 0.0), (0.5, np.inf), n)) == 2


@pytest.mark.parametrize("spread", [Timed(1.0, 0.3), Share(0.6), Paired(0.1, 0.03)])
def test_more_observations_decide_more_surely(spread: Spread) -> None:
    chances = [decides(spread, (spread.value - 0.05, np.inf), n) for n in (5, 20, 80, 320, MOST)]
    assert chances == sorted(chances)
    assert chances[-1] > 0.99


# regressions


@pytest.mark.parametrize(
    ("name", "experiment", "variant", "metric"),
    [
        ("pocket", "cascade", "hybrid", "total_s"),
        ("pocket", "cascade", "LLS", "summary_s"),
        ("pocket-switching", "switching", "serverless-warm", "total_mean_s"),
    ],
)
def test_a_regression_of_10_percent_is_found_in_18_of_20_with_the_planned_rounds(
    name: str, experiment: str, variant: str, metric: str
) -> None:
    """Both runs measure it so often; other tests are compared as well, at the family's level."""
    run = some(recorded(name, experiments=[experiment]), variant)
    (one,) = [d for d in detect(run, 0.1, 0.95, 0.05) if is_of(d, variant, metric)]
    assert one.needs is not None
    draw, rng = Sampler(run, Noise([recorded("pocket-switching")])), np.random.default_rng(one.needs)
    rounds, found = {variant: one.needs}, 0
    for _ in range(REPEATS):
        pair = draw(rng, rounds=rounds), draw(rng, rounds=rounds, slowed={variant: 0.1})
        rows = [r for r in compare(*pair).metrics if f"[{variant}]" in r.name and r.metric == metric]
        found += [r.word for r in rows] == ["regressed"]
    assert found >= MUST


def test_a_regression_is_found_on_pairs_as_they_were_recorded() -> None:
    """No model of the noise: both runs draw from 60 recorded pairs of the baseline beside itself."""
    for series in recorded_pairs():
        whole = session(series.logs, [order for order, _, _ in series.rounds])
        (one,) = detect(run_of(whole), 0.1, 0.95, 0.05)
        assert one.needs is not None
        rng, draw = np.random.default_rng(5), resampled(series)
        found = 0
        for _ in range(REPEATS):
            before, after = (draw(rng, one.needs) for _ in range(2))
            pair = session(before), session([v + log(1.1) for v in after])
            rows = [
                r
                for r in compare(*map(run_of, pair)).metrics
                if r.metric == "total_s" and r.family == "metrics"
            ]
            found += [r.word for r in rows] == ["regressed"]
        assert found >= MUST, series.metric


def some(run: Run, variant: str) -> Run:
    """One variant's test and four others."""
    (of,) = [e for e in run.entries if e.record and e.record.variant == variant]
    return replace(run, entries=(of, *[e for e in run.entries if e is not of][:4]))


def session(logs: Sequence[float], order: Sequence[str] = ()) -> Record:
    """A record of pairs with these log ratios."""
    rounds = [
        Round(order=o, treatment={"total_s": exp(v)}, control={"total_s": 1.0})
        for o, v in zip(order or orders(len(logs)), logs, strict=True)
    ]
    made = record("same", num_graded=0, rounds=rounds)
    return replace(made, metrics={"total_s": made.metrics["total_s"]})


def run_of(made: Record) -> Run:
    return Run(path=Path("run"), entries=(Entry(nodeid="t", outcome="passed", record=made),))


def is_of(one: Detection, variant: str, metric: str) -> bool:
    return f"[{variant}]" in one.test and one.metric == metric


def test_fewer_rounds_find_it_less_often() -> None:
    """The planned number is needed: half as many find it in fewer than 18 of 20."""
    run = some(recorded("pocket", experiments=["cascade"]), "hybrid")
    (one,) = [d for d in detect(run, 0.1, 0.95, 0.05) if is_of(d, "hybrid", "total_s")]
    assert one.needs is not None
    draw, rng = Sampler(run, Noise([recorded("pocket-switching")])), np.random.default_rng(1)
    rounds, found = {"hybrid": one.needs // 2}, 0
    for _ in range(REPEATS):
        pair = draw(rng, rounds=rounds), draw(rng, rounds=rounds, slowed={"hybrid": 0.1})
        rows = [r for r in compare(*pair).metrics if "[hybrid]" in r.name and r.metric == "total_s"]
        found += [r.word for r in rows] == ["regressed"]
    assert found < MUST


def test_own_numbers_need_sessions_and_not_rounds() -> None:
    """A variant without a control is not found by more rounds of one session."""
    run = recorded("pocket", experiments=["cascade"])
    (one,) = [d for d in detect(run, 0.1, 0.9, 0.05) if is_of(d, "baseline", "total_s")]
    assert one.unit == "sessions"
    assert one.needs is not None
    assert one.needs >= 3
    assert log(1.1) / (0.05 * (2 / one.needs) ** 0.5) > 4
