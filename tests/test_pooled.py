"""Quantiles of all requests, with an interval that knows that they came in rounds."""

from __future__ import annotations

import time
from math import exp, inf, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.claims import Claim
from reports.intervals import pooled
from reports.intervals.pooled import Arm, pooled_log_ratio, pooled_quantile, scaled
from reports.records import Check, Failure, Metric, Record, Round, Values
from reports.stats import Interval, Unsupported
from reports.verdicts import Stored, Verdict, judge

ROUNDS, PER_ROUND = 30, 30
Grid = np.ndarray[Any, np.dtype[np.float64]]


def arm(grid: Grid) -> Arm:
    """Rounds × requests as an arm."""
    places = np.repeat(np.arange(grid.shape[0]), grid.shape[1])
    return Arm(tuple(grid.ravel().tolist()), tuple(places.tolist()))


def of(found: Interval | Unsupported) -> Interval:
    assert isinstance(found, Interval), found
    return found


def drawn(rng: np.random.Generator, rounds: int, kind: str) -> tuple[Grid, Grid]:
    """(treatment, control) seconds; a round's requests share how slow the machine was."""
    shape = (rounds, PER_ROUND)
    slow = np.exp(rng.normal(0, 0.05, (rounds, 1)))
    sizes = rng.choice([0.025, 0.027, 0.0104], size=shape, p=[0.4, 0.4, 0.2])
    control = slow * (sizes * np.exp(rng.normal(0, 0.03, shape)) + 0.003)
    if kind == "heavy":
        return slow * 0.005 * np.exp(0.3 * rng.standard_t(3, shape)), control
    is_hit = rng.random(shape) < rng.beta(10, 9.6, (rounds, 1))
    missed = sizes * rng.uniform(0.05, 0.5, shape) + 0.003
    return slow * np.where(is_hit, 0.003, missed) * np.exp(rng.normal(0, 0.08, shape)), control


@pytest.mark.parametrize(("kind", "share"), [("bimodal", 0.5), ("bimodal", 0.99), ("heavy", 0.99)])
def test_the_interval_covers_the_truth_as_often_as_it_says(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of 30 rounds each, with shared slowness in them: 95 %, within what 40 runs can tell."""
    monkeypatch.setattr(pooled, "DRAWS", 1000)
    rng = np.random.default_rng(7)
    many = drawn(rng, 20_000, kind)
    truth = log(np.quantile(many[1], share) / np.quantile(many[0], share))
    found = []
    for _ in range(40):
        arms = [arm(grid) for grid in drawn(rng, ROUNDS, kind)]
        found.append(of(pooled_log_ratio(arms, [-1, 1], share)))
    assert sum(one.low <= truth <= one.high for one in found) >= 34


def test_rounds_that_share_their_luck_tell_less_than_their_requests() -> None:
    """Slow rounds are slow as a whole: the interval is much wider than that of as many single requests."""
    rng = np.random.default_rng(3)
    slow = np.exp(rng.normal(0, 0.3, (ROUNDS, 1)))
    grid = slow * np.exp(rng.normal(0, 0.05, (ROUNDS, PER_ROUND)))
    together = of(pooled_quantile(arm(grid), 0.5))
    apart = of(pooled_quantile(arm(grid.reshape(-1, 1)), 0.5))
    assert together.estimate == apart.estimate
    assert together.high - together.low > 3 * (apart.high - apart.low)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.9]), st.floats(0.1, 10))
def test_the_estimate_is_the_nearest_rank_and_scales(seed: int, share: float, factor: float) -> None:
    """Of all requests, whichever their round; the interval holds it, and scaling an arm scales the ratio."""
    grid = np.random.default_rng(seed).lognormal(size=(12, 20))
    found = of(pooled_quantile(arm(grid), share))
    assert found.estimate == np.sort(grid.ravel())[int(np.ceil(share * grid.size - 1e-9)) - 1]
    assert found.low <= found.estimate <= found.high
    ratio = of(scaled(pooled_log_ratio([arm(grid * factor), arm(grid)], [1, -1], share)))
    assert ratio[:3] == pytest.approx((factor, factor, factor))


def test_a_level_that_the_draws_do_not_resolve_has_no_end() -> None:
    """So no p value is smaller than the bootstrap can tell."""
    arms = [arm(grid) for grid in drawn(np.random.default_rng(1), ROUNDS, "bimodal")]
    assert of(pooled_log_ratio(arms, [-1, 1], 0.5, 1 - 1e-6))[1:3] == (-inf, inf)
    assert of(scaled(pooled_log_ratio(arms, [-1, 1], 0.5, 1 - 1e-6))).low == 0.0


@pytest.mark.parametrize(
    ("rounds", "requests", "share", "reason"),
    [(9, 60, 0.5, "9 of at least 10 rounds"), (12, 30, 0.99, "360 of at least 368 requests for p99")],
)
def test_too_little_is_unsupported_and_says_how_many_rounds_would_do(
    rounds: int, requests: int, share: float, reason: str
) -> None:
    """P99 of 30 requests is their maximum: 368 are needed, 13 rounds of 30."""
    found = pooled_quantile(arm(np.ones((rounds, requests))), share)
    assert isinstance(found, Unsupported)
    assert reason in found.reason
    assert found.needed == (10 if rounds == 9 else 13)


def test_no_ratio_of_nothing() -> None:
    """A simulated hit blocks for 0 s, of which there is no log."""
    arms = [arm(np.zeros((12, 4))), arm(np.ones((12, 4)))]
    assert isinstance(pooled_log_ratio(arms, [1, -1], 0.5), Unsupported)


def test_it_takes_no_time() -> None:
    """A verdict asks for twenty levels: 100 rounds of 30 requests, both arms, in well below a second."""
    arms = [arm(grid) for grid in drawn(np.random.default_rng(1), 100, "bimodal")]
    began_s = time.perf_counter()
    for level in np.linspace(0.5, 0.99, 21):
        of(pooled_log_ratio(arms, [-1, 1], 0.99, float(level)))
    assert time.perf_counter() - began_s < 5


def claim(**changes: Any) -> Claim:
    row: dict[str, Any] = {
        "id": "tail", "version": 1, "source": "s", "says": "s", "form": "at_least", "metric": "ttft_s",
        "over": "requests", "quantile": 0.99, "treatment": "home-slot", "control": "reload-every",
        "experiment": "switching", "published": 1.0, "provenance": ("equal_tokens",),
    }  # fmt: skip
    return Claim(**{**row, **changes})


def stored(
    treatment: Grid, control: Grid | None, *, variant: str = "home-slot", has_seeds: bool = True,
    failures: int = 0,
) -> Stored:  # fmt: skip
    """A record with a point per request, as bench/test_switching.py leaves them."""
    arms = {"treatment": treatment} | ({} if control is None else {"control": control})
    points = [
        {"name": "request", "arm": side, "round": at, "seed": 100 + at if has_seeds else None,
         "phase": "request", "agent": i, "index": i, "ttft_s": float(value), "is_hit": False}
        for side, grid in arms.items() for at, row in enumerate(grid) for i, value in enumerate(row)
    ]  # fmt: skip
    blank: Values = {"ttft_p50_s": 1.0}
    record = Record(
        experiment="switching", variant=variant, control="reload-every", backend="arena", profile="pocket",
        metrics={"ttft_s": Metric(unit="s", better="lower", what="to the first token")},
        rounds=[Round(order="CT", treatment=blank, control=blank) for _ in treatment], sweep=points,
        checks=[Check(name="equal_tokens", ok=True, observed="")], complete=True,
        failures=[Failure(arm="treatment", round=0, where="request", error="broke")] * failures,
    )  # fmt: skip
    return Stored(variant, "passed", "", {"variant": variant}, record)


def verdict(claim: Claim, *runs: Stored) -> Verdict:
    return judge(claim, runs, ["profile:pocket"])


@pytest.fixture(scope="module")
def pair() -> tuple[Grid, Grid]:
    return drawn(np.random.default_rng(11), ROUNDS, "bimodal")


def test_a_tail_is_confirmed_refuted_or_left_open(pair: tuple[Grid, Grid]) -> None:
    """P99 is about twice as good here: 1 holds, 5 does not, and what was measured is not settled."""
    held = verdict(claim(), stored(*pair))
    assert (held.verdict, held.n) == ("confirmed", 30)
    assert held.method == "p99 of all requests, bootstrap over rounds"
    assert held.p is not None
    assert 1e-4 < held.p < 1e-2
    lost = verdict(claim(published=5.0), stored(*pair))
    assert (lost.verdict, lost.reason) == ("refuted", f"right direction, {held.estimate:.3g}× of 5×")
    still = verdict(claim(published=held.estimate), stored(*pair))
    assert still.verdict == "inconclusive"
    assert "more rounds" in still.reason


def test_the_published_tail_refutes_that_it_is_no_worse() -> None:
    """An arm that copies out before it copies in is 2.8 times as slow at its worst."""
    fast, slow = drawn(np.random.default_rng(5), ROUNDS, "bimodal")
    fast[:, 0] = 2.8 * slow.max()
    found = verdict(claim(published=1 / 1.05), stored(fast, slow))
    assert found.verdict == "refuted"
    assert found.estimate == pytest.approx(1 / 2.8, rel=0.15)


def test_thirteen_rounds_are_the_fewest_for_a_p99_and_ten_for_a_median(pair: tuple[Grid, Grid]) -> None:
    """Below, the claim is left open and says how many are missing."""
    few = verdict(claim(), stored(pair[0][:12], pair[1][:12]))
    assert (few.verdict, few.more) == ("inconclusive", 1)
    assert "360 of at least 368 requests for p99" in few.reason
    fewer = verdict(claim(quantile=0.5), stored(pair[0][:9], pair[1][:9]))
    assert (fewer.verdict, fewer.more) == ("inconclusive", 1)
    assert "9 of at least 10 rounds" in fewer.reason


def test_the_value_of_a_quantile_is_its_own(pair: tuple[Grid, Grid]) -> None:
    """Without a control to compare with."""
    row = claim(quantity="value", form="at_most", published=0.03, unit="s", control=None)
    found = verdict(row, stored(pair[0], None))
    assert found.verdict == "confirmed"
    assert found.estimate == np.sort(pair[0].ravel())[890]


def test_a_trivial_alternative_is_beaten_at_the_same_quantile(pair: tuple[Grid, Grid]) -> None:
    """Beside the same control: an arm that never copies less has no better tail, however often it hits."""
    last = np.where(np.arange(PER_ROUND) % 5 < 2, 0.003, pair[1])
    row = claim(also_beats=("keep-last",))
    found = verdict(row, stored(*pair), stored(last, pair[1], variant="keep-last"))
    assert found.sentence == "confirmed"
    (control,) = found.controls
    assert control["advantage"] == pytest.approx(log(found.estimate or 0), abs=0.02)
    same = verdict(row, stored(*pair), stored(*pair, variant="keep-last"))
    assert same.sentence == "confirmed, but not against keep-last"


def test_two_gains_over_one_control_are_compared(pair: tuple[Grid, Grid]) -> None:
    """What copying out costs the tail: the same ring with it and without, each beside reload-every."""
    row = claim(treatment="fifo-ring", against="fifo-ring-copy-out", published=1.5)
    ring = stored(pair[1], pair[1], variant="fifo-ring")
    out = stored(2 * pair[1], pair[1], variant="fifo-ring-copy-out")
    found = verdict(row, ring, out)
    assert found.verdict == "confirmed"
    assert found.estimate == pytest.approx(2.0)


def test_a_mean_over_requests_counts_rounds_where_each_is_a_trace(pair: tuple[Grid, Grid]) -> None:
    """The ratio of the two means, with the spread from round to round; without seeds as ever, by request."""
    row = claim(quantile=None, published=1.5)
    rounds = verdict(row, stored(*pair))
    assert (rounds.verdict, rounds.n) == ("confirmed", ROUNDS)
    assert rounds.estimate == pytest.approx(pair[1].mean() / pair[0].mean())
    assert verdict(row, stored(*pair, has_seeds=False)).n == ROUNDS * PER_ROUND


def test_a_failed_request_confirms_no_tail(pair: tuple[Grid, Grid]) -> None:
    """What survives a failure is a selection."""
    assert verdict(claim(), stored(*pair, failures=1)).verdict == "error"


def test_a_round_without_one_arms_requests_is_no_pair(pair: tuple[Grid, Grid]) -> None:
    """It says so, and confirms nothing."""
    found = verdict(claim(), stored(pair[0], pair[1][:20]))
    assert (found.verdict, found.reason) == ("inconclusive", "a round has requests in one arm only")


def test_without_any_gain_the_ratio_is_one() -> None:
    """An arm against itself: between exp(−0) and exp(0)."""
    grid = drawn(np.random.default_rng(2), ROUNDS, "bimodal")[1]
    found = verdict(claim(form="equivalent", margin=0.05), stored(grid, grid))
    assert (found.verdict, found.estimate) == ("confirmed", exp(0))
