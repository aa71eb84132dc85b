"""Plans keep what they promise: so many rounds decide as often as they say, and find what they say.

Chances are compared with draws; a plan for a regression is carried out on sessions that are drawn again from
the committed reference runs (`resampled_runs`), with the spread that the plan was made from.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.__main__ import main
from reports.compare import compare
from reports.planning import Planned, plan, total_of
from reports.plans.detecting import Detection, detect
from reports.plans.expenses import PRICES, expense_of
from reports.plans.powers import MOST, Paired, Share, Spread, Timed, decides, least, welch_power
from reports.records import Record, Round
from reports.runs import Entry, Run
from reports.stats import Interval, Mean, add, as_difference, mean_of, share, share_difference
from tests.resampled_runs import REFERENCE, Noise, Sampler, recorded
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


# claims


@pytest.fixture(scope="module")
def planned() -> dict[str, Planned]:
    """The plan from the committed run of four experiments."""
    return {one.claim: one for one in plan([Run.read(REFERENCE / "pocket")], 0.9)}


def test_every_claim_has_a_number_or_a_reason(planned: dict[str, Planned]) -> None:
    assert len(planned) > 300
    assert all((one.needs is not None) or one.why for one in planned.values())


def test_a_claim_that_was_decided_clearly_needs_no_more_than_it_had(planned: dict[str, Planned]) -> None:
    one = planned["pocket-batched-5x"]
    assert one.word == "confirmed"
    assert one.needs is not None
    assert one.has is not None
    assert one.needs <= one.has


def test_an_undecided_claim_needs_more_than_it_had(planned: dict[str, Planned]) -> None:
    """Those that rounds can decide at all."""
    open_ones = [one for one in planned.values() if one.word == "inconclusive" and one.needs]
    assert open_ones
    assert all(one.needs > (one.has or 0) for one in open_ones if one.needs and not one.why)


def test_equal_arms_that_claim_to_differ_are_never_decided(planned: dict[str, Planned]) -> None:
    """`pocket-same-is-same` says so of the baseline beside itself, on whose threshold it lies."""
    assert "never" in planned["pocket-same-is-same"].why


def test_what_no_measurement_decides_needs_none(planned: dict[str, Planned]) -> None:
    for one in planned.values():
        if one.word in ("impossible", "out of scope"):
            assert (one.needs, one.expense) == (None, None)


def test_the_total_counts_each_test_once(planned: dict[str, Planned]) -> None:
    some = [one for one in planned.values() if one.needs is not None]
    total = total_of(some)
    assert total.tests == len({one.test for one in some})
    assert total.seconds < sum(one.expense.seconds for one in some if one.expense)


# minutes and cost


def entry(made: Record, **changes: Any) -> Entry:
    return Entry(nodeid="t", outcome="passed", record=made, **{"data": (2.0,) * len(made.rounds), **changes})


def test_a_round_takes_both_arms() -> None:
    """The control's share follows by the clock that is most like the whole round's."""
    made = record("cascade", num_rounds=4, num_graded=0)
    cheap = replace(made, metrics={"total_s": made.metrics["total_s"]})
    ratio = sum(c / t for t, c in made.pairs("total_s")) / 4
    found = expense_of(entry(cheap), 10, "rounds")
    assert found is not None
    assert found.seconds == pytest.approx(11 * 2.0 * (1 + ratio), rel=0.01)
    assert found.usd == pytest.approx(found.seconds * 0.0425 / 3600, rel=1.0)


def test_what_is_left_of_a_test_is_counted_once() -> None:
    """Ten times the rounds are not ten times the grading."""
    made = replace(record("baseline", num_rounds=4, num_graded=0), settings={"warmup_rounds": 0})
    few, many = (expense_of(entry(made, duration_s=108.0), n, "rounds") for n in (4, 40))
    assert few is not None
    assert many is not None
    assert (few.seconds, many.seconds) == (108.0, 180.0)


def test_costs_are_the_recorded_ones() -> None:
    made = replace(record("baseline", num_rounds=4, num_graded=0), settings={"warmup_rounds": 0})
    found = expense_of(entry(made), 8, "rounds")
    assert found is not None
    assert found.usd == pytest.approx(2 * sum(made.values("cost_usd")), rel=1e-9)


def test_the_price_of_a_vcpu_is_that_of_the_registry() -> None:
    """Reports import nothing of the harness, so that the row stands twice."""
    registry = Path(__file__).resolve().parents[1] / "harness" / "models" / "registry.toml"
    (row,) = [p for p in tomllib.loads(registry.read_text())["compute_price"] if p["name"] == "vcpu"]
    ours = tomllib.loads(PRICES.read_text())["vcpu"]
    assert (ours["usd_per_hour"], ours["source"]) == (row["usd_per_hour"], row["source"])


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
    """Both runs measure it so often; every other metric is compared as well, at the family's level."""
    run = recorded(name, experiments=[experiment])
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


def session(logs: Sequence[float], order: Sequence[str] = ()) -> Record:
    """A record of pairs with these log ratios."""
    rounds = [
        Round(order=o, treatment={"total_s": exp(v)}, control={"total_s": 1.0})
        for o, v in zip(order or orders(len(logs)), logs, strict=True)
    ]
    made = record("same", num_graded=0, rounds=rounds)
    return replace(made, metrics={"total_s": made.metrics["total_s"]})


def run_of(made: Record) -> Run:
    return Run(path=Path("run"), entries=(entry(made),))


def is_of(one: Detection, variant: str, metric: str) -> bool:
    return f"[{variant}]" in one.test and one.metric == metric


def test_fewer_rounds_find_it_less_often() -> None:
    """The planned number is needed: half as many find it in fewer than 18 of 20."""
    run = recorded("pocket", experiments=["cascade"])
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


# the command line


def test_the_plan_of_one_experiment_is_printed_within_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-m", "cascade", "--power", "0.9"]) == 0
    out = capsys.readouterr().out
    assert "pocket-cascade-saves-time" in out
    assert "pocket-batched-5x" not in out
    assert max(map(len, out.splitlines())) <= 100
    assert "all that can be decided:" in out


def test_one_claim_is_planned_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    assert main(["plan", "--claim", "pocket-batched-5x", "--json", str(target)]) == 0
    (one,) = json.loads(target.read_text())["claims"]
    assert one["needs"] >= 2
    assert one["expense"]["seconds"] > 0
    assert "pocket-batched-5x" in capsys.readouterr().out


def test_detection_says_rounds_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-m", "cascade", "--detect", "10%"]) == 0
    out = capsys.readouterr().out
    assert "test_cascade[hybrid] total_s" in out
    assert "which Holm leaves" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m", "cascades"], "no experiment 'cascades' in these runs; there are: cascade"),
        (
            ["--claim", "pocket-batched-6x"],
            "no claim 'pocket-batched-6x' in these runs; there are: pocket-batched-5x",
        ),
        (["--detect", "10%", "-m", "cascades"], "no experiment 'cascades'"),
    ],
)
def test_what_is_not_there_is_named(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *args]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_run_that_cannot_be_read_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(REFERENCE / "pocket-strategies"), "nowhere"]) == 1
    assert main(["plan", "nowhere"]) == 2
    assert capsys.readouterr().err.count("error: nowhere") == 2


@pytest.mark.parametrize("text", ["2", "0", "x"])
def test_a_power_is_a_share(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--power", text])
    assert "write" in capsys.readouterr().err
