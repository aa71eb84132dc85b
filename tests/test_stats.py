"""Intervals hold what they promise: coverage, known values, symmetry, and no NaN."""

from __future__ import annotations

from math import exp, inf, isfinite, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from reports.intervals.shares import share, share_difference
from reports.stats import (
    Interval,
    Mean,
    Unsupported,
    add,
    as_difference,
    as_ratio,
    as_reduction,
    holm,
    log_ratio,
    log_share_ratio,
    mean_of,
    total_log_ratio,
    total_per_log_ratio,
)

TIMES = st.floats(1e-3, 1e3)
PAIRS = st.lists(st.tuples(TIMES, TIMES), min_size=2, max_size=30)
SCORES = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=80
)


def mean(found: Mean | Unsupported) -> Mean:
    assert isinstance(found, Mean), found
    return found


def interval(found: Interval | Unsupported) -> Interval:
    assert isinstance(found, Interval), found
    return found


def orders(n: int) -> list[str]:
    return ["CT" if i % 2 == 0 else "TC" for i in range(n)]


def scored(both: int, gained: int, lost: int, neither: int) -> list[tuple[float, float]]:
    return [(1.0, 1.0)] * both + [(1.0, 0.0)] * gained + [(0.0, 1.0)] * lost + [(0.0, 0.0)] * neither


# times


@given(PAIRS, st.booleans())
def test_an_interval_of_times_holds_its_estimate_and_is_finite(
    pairs: list[tuple[float, float]], paired: bool
) -> None:
    found = as_ratio(mean(log_ratio(pairs, orders(len(pairs)) if paired else None)))
    assert 0 <= found.low <= found.estimate * (1 + 1e-9)
    assert found.estimate <= found.high * (1 + 1e-9)
    assert all(isfinite(v) for v in (found.estimate, found.low, found.high))


@given(PAIRS, TIMES)
def test_the_unit_of_time_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    scaled = [(t * unit, c * unit) for t, c in pairs]
    one, other = (mean(log_ratio(p, orders(len(p)))) for p in (pairs, scaled))
    assert one.value == pytest.approx(other.value, abs=1e-9)
    assert one.se == pytest.approx(other.se, abs=1e-6)


@given(PAIRS)
def test_swapping_the_arms_turns_the_ratio_over(pairs: list[tuple[float, float]]) -> None:
    forth = as_ratio(mean(log_ratio(pairs, orders(len(pairs)))))
    back = as_ratio(mean(log_ratio([(c, t) for t, c in pairs], orders(len(pairs)))), inverse=True)
    assert forth[:3] == pytest.approx(back[:3], rel=1e-6)


def test_without_orders_it_is_the_plain_t_interval() -> None:
    pairs = [(2.0, 1.0), (2.2, 1.0), (1.9, 1.0)]
    logs = [log(t) for t, _ in pairs]
    half = student.ppf(0.975, 2) * np.std(logs, ddof=1) / sqrt(3)
    found = as_ratio(mean(log_ratio(pairs)))
    assert found.low == pytest.approx(exp(np.mean(logs) - half))
    assert found.high == pytest.approx(exp(np.mean(logs) + half))


def test_an_effect_of_the_order_neither_biases_nor_widens() -> None:
    """Five pairs, three of them CT; the second arm of each pair is always 10 % slower."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.01, 5)
    clean = [(2 * exp(e), 1.0) for e in noise]
    late = [(t * 1.1, c) if o == "CT" else (t, c * 1.1) for (t, c), o in zip(clean, orders(5), strict=True)]
    without, effect = (as_ratio(mean(log_ratio(p, orders(5)))) for p in (clean, late))
    assert effect[:3] == pytest.approx(without[:3])
    assert as_ratio(mean(log_ratio(late))).high / effect.high > 1.05


def test_too_few_pairs_of_one_order_leave_it_out() -> None:
    pairs = [(2.0, 1.0), (2.1, 1.0), (1.9, 1.0)]
    assert mean(log_ratio(pairs, orders(3))) == mean(log_ratio(pairs))


def test_pairs_without_spread_give_an_exact_value() -> None:
    found = as_reduction(mean(log_ratio([(0.5, 1.0)] * 6, orders(6))))
    assert found == Interval(0.5, 0.5, 0.5, 6, "exact, no spread")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), inf])
def test_what_has_no_logarithm_is_unsupported_and_not_nan(bad: float) -> None:
    assert isinstance(log_ratio([(1.0, 1.0), (bad, 1.0), (1.0, 1.0)]), Unsupported)
    assert isinstance(log_ratio([(1.0, 1.0), (1.0, bad)]), Unsupported)


@pytest.mark.parametrize("n", [0, 1])
def test_below_two_observations_there_is_no_interval_but_a_need(n: int) -> None:
    for found in (log_ratio([(1.0, 2.0)] * n), mean_of([1.0] * n), total_log_ratio([(1.0, 2.0)] * n)):
        assert isinstance(found, Unsupported)
        assert found.needed == 2


def test_a_difference_of_means_is_welchs_test() -> None:
    from scipy.stats import ttest_ind

    a, b = [1.0, 2.0, 4.0, 3.0], [2.0, 2.1, 2.2, 1.9, 2.0, 2.3]
    found = as_difference(add(mean(mean_of(a)), mean(mean_of(b))))
    expected = ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_exact_means_stay_exact_in_a_difference() -> None:
    one = Mean(1.0, 0.0, 3, 4, "exact")
    assert as_difference(add(one, one)).low == 0.0


@given(PAIRS)
def test_a_total_of_equal_arms_has_ratio_one(pairs: list[tuple[float, float]]) -> None:
    found = mean(total_log_ratio([(t, t) for t, _ in pairs]))
    assert (found.value, found.se) == (0.0, 0.0)


# shares


@given(SCORES)
def test_a_paired_interval_of_shares_is_in_range_and_turns_over_with_the_arms(
    pairs: list[tuple[float, float]],
) -> None:
    found = interval(share_difference(pairs))
    turned = interval(share_difference([(c, t) for t, c in pairs]))
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((43, 0, 1, 0), -0.1181, 0.0594),  # Tango 1998, the lens data of its table
        ((0, 5, 0, 0), 0.1310, 1.0),  # all discordant: Wilson's interval of 5 of 5, doubled less 1
        ((0, 0, 0, 15), -0.2039, 0.2039),
    ],
)
def test_tangos_interval_has_known_values(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    found = interval(share_difference(scored(*counts)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_tangos_interval_covers() -> None:
    rng = np.random.default_rng(2)
    for n, chances in (
        (20, (0.4, 0.1, 0.2, 0.3)),
        (250, (0.5, 0.05, 0.05, 0.4)),
        (250, (0.9, 0.02, 0.0, 0.08)),
    ):
        true = chances[1] - chances[2]
        draws = [rng.multinomial(n, chances) for _ in range(400)]
        found = [interval(share_difference(scored(*(int(k) for k in d)))) for d in draws]
        assert np.mean([i.low <= true <= i.high for i in found]) > 0.92


def test_five_points_need_about_250_tasks_at_a_tenth_discordant() -> None:
    def low(n: int) -> float:
        return interval(share_difference(scored(n // 2, n // 20, n // 20, n - n // 2 - 2 * (n // 20)))).low

    assert low(120) < -0.05 < low(300)


def test_shares_of_scores_between_0_and_1_are_unsupported() -> None:
    assert isinstance(share_difference([(0.5, 1.0)]), Unsupported)
    assert isinstance(share_difference([]), Unsupported)
    assert isinstance(share([0.5]), Unsupported)
    assert isinstance(share([]), Unsupported)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_wilsons_interval_is_in_range_and_never_empty(values: list[float]) -> None:
    found = interval(share(values))
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high


def test_a_share_ratio_is_unsupported_while_an_arm_solves_nothing() -> None:
    assert isinstance(log_share_ratio(scored(0, 3, 0, 3)), Unsupported)
    assert mean(log_share_ratio(scored(4, 4, 0, 0))).value == pytest.approx(log(2))


def test_a_cost_per_solved_task_covers() -> None:
    """Cost ratio 0.7 in six rounds, solved shares 0.5 and 0.6 over 200 tasks: 0.84 per solved task."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        rounds = [(0.7 * exp(rng.normal(0, 0.03)), exp(rng.normal(0, 0.03))) for _ in range(6)]
        drawn = [int(k) for k in rng.multinomial(200, (0.4, 0.1, 0.2, 0.3))]
        cost, solved = mean(log_ratio(rounds, orders(6))), mean(log_share_ratio(scored(*drawn)))
        found = as_ratio(add(cost, solved))
        hits += found.low <= 0.7 / (0.5 / 0.6) <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_cost_per_solved_task_over_the_same_tasks_covers() -> None:
    """Hard tasks cost more and fail more often in both arms: still 95 % at 300 tasks."""
    rng = np.random.default_rng(6)

    def drawn(tasks: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        hard = rng.random(tasks)
        cost = np.exp(hard + rng.normal(0, 0.2, tasks)), np.exp(hard + rng.normal(0, 0.2, tasks))
        luck = rng.random(tasks)
        solved = luck < 0.8 - 0.5 * hard, luck < 0.9 - 0.5 * hard
        pairs = [(0.6 * float(t), float(c)) for t, c in zip(*cost, strict=True)]
        return pairs, [(float(t), float(c)) for t, c in zip(*solved, strict=True)]

    truth = 0.6 / (0.55 / 0.65)
    found = [as_ratio(mean(total_per_log_ratio(*drawn(300)))) for _ in range(1000)]
    assert 0.93 <= np.mean([i.low <= truth <= i.high for i in found]) <= 0.97


def test_a_cost_that_follows_success_task_by_task_has_no_spread() -> None:
    """Where a task costs what it solves in each arm, the cost per solved task is the same for any tasks."""
    solved = scored(5, 3, 2, 4)
    found = mean(total_per_log_ratio([(0.5 * t, c) for t, c in solved], solved))
    assert found.value == pytest.approx(log(0.5))
    assert found.se == 0.0


def test_a_cost_per_solved_task_is_unsupported_while_an_arm_solves_nothing() -> None:
    solved = scored(0, 3, 0, 3)
    assert isinstance(total_per_log_ratio([(1.0, 1.0)] * len(solved), solved), Unsupported)


# families


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holms_values_never_fall_below_the_given_and_keep_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert all(a <= 1 for a in adjusted)
    ranked = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in ranked] == sorted(adjusted)


def test_holm_multiplies_by_the_hypotheses_left() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
