"""What n samples say about k: counted, and the same as every way to take k of them, one by one."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import comb
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.strategies.estimators import Sample, best_at_k, gap_at_k, majority_at_k, pass_at_k

samples = st.lists(
    st.builds(
        Sample,
        is_right=st.booleans(),
        score=st.sampled_from([None, 0.0, 0.5, 1.0]),
        answer=st.sampled_from([None, "a", "b", "c"]),
    ),
    min_size=1,
    max_size=6,
)


def orders(found: list[Sample], k: int) -> list[tuple[Sample, ...]]:
    """Every way to draw k of the samples, in every order."""
    return list(permutations(found, k))


def chosen_by_score(drawn: tuple[Sample, ...]) -> bool:
    """Whether the rule, played through, chooses a right one."""
    scored = [sample for sample in drawn if sample.score is not None]
    return bool(scored) and max(scored, key=lambda sample: sample.score or 0.0).is_right


def chosen_by_vote(drawn: tuple[Sample, ...]) -> bool:
    """Whether the vote, counted, goes to a right one."""
    votes = Counter(sample.answer for sample in drawn if sample.answer is not None)
    if not votes:
        return drawn[0].is_right
    most = max(votes.values())
    return next(s for s in drawn if s.answer is not None and votes[s.answer] == most).is_right


@given(samples, st.data())
@settings(deadline=None, max_examples=60)
def test_each_estimate_equals_the_mean_over_every_order(found: list[Sample], data: st.DataObject) -> None:
    """Counting gives what enumeration gives, ties and unread answers included."""
    k = data.draw(st.integers(1, len(found)))
    ways = orders(found, k)
    num_right = sum(sample.is_right for sample in found)
    assert pass_at_k(len(found), num_right, k) == pytest.approx(
        fmean(any(sample.is_right for sample in way) for way in ways)
    )
    assert best_at_k(found, k) == pytest.approx(fmean(map(chosen_by_score, ways)))
    assert majority_at_k(found, k) == pytest.approx(fmean(map(chosen_by_vote, ways)))


@given(samples, st.data())
@settings(deadline=None)
def test_no_rule_passes_the_oracle(found: list[Sample], data: st.DataObject) -> None:
    """All lie between 0 and pass@k, and the gap is what is left."""
    k = data.draw(st.integers(1, len(found)))
    ceiling = pass_at_k(len(found), sum(sample.is_right for sample in found), k)
    best, vote = best_at_k(found, k), majority_at_k(found, k)
    assert 0 <= best <= ceiling + 1e-12
    assert 0 <= vote <= ceiling + 1e-12
    assert ceiling <= 1
    assert gap_at_k(found, k) == pytest.approx(ceiling - best)


@given(st.integers(1, 60), st.data())
def test_more_samples_never_pass_less(num: int, data: st.DataObject) -> None:
    """pass@k rises with k and with the number of right samples."""
    right = data.draw(st.integers(0, num))
    curve = [pass_at_k(num, right, k) for k in range(1, num + 1)]
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(right / num)
    assert curve[-1] == float(right > 0)
    if right:
        assert all(pass_at_k(num, right - 1, k) <= pass_at_k(num, right, k) for k in range(1, num + 1))


@given(samples)
def test_one_sample_is_no_choice(found: list[Sample]) -> None:
    """At k = 1 every rule takes what there is; an answer without a score cannot be chosen by score."""
    share = fmean(sample.is_right for sample in found)
    assert majority_at_k(found, 1) == pytest.approx(share)
    scored = [sample.is_right and sample.score is not None for sample in found]
    assert best_at_k(found, 1) == pytest.approx(fmean(scored))


def test_the_published_formula() -> None:
    """1 - C(n - c, k) / C(n, k), and not 1 - (1 - c/n)^k, which is biased."""
    assert pass_at_k(10, 3, 5) == pytest.approx(1 - comb(7, 5) / comb(10, 5))
    assert pass_at_k(10, 3, 5) > 1 - (1 - 0.3) ** 5


def test_a_perfect_score_closes_the_gap_and_a_reversed_one_opens_it() -> None:
    """The gap is 0 when the score is right, and all of the ceiling when it prefers wrong answers."""
    right = [Sample(True, 1.0)] * 2 + [Sample(False, 0.0)] * 4
    assert gap_at_k(right, 3) == pytest.approx(0.0)
    reversed_ = [Sample(True, 0.0)] * 2 + [Sample(False, 1.0)] * 4
    assert gap_at_k(reversed_, 3) == pytest.approx(pass_at_k(6, 2, 3))


def test_a_large_pool_is_counted_at_once() -> None:
    """64 samples of ten answers: a formula, and no enumeration."""
    pool = [Sample(i % 10 == 0, float(i % 7), i % 10) for i in range(64)]
    assert 0 < majority_at_k(pool, 32) < 1
    assert 0 < best_at_k(pool, 32) < 1


@pytest.mark.parametrize(("num", "right", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1)])
def test_counts_that_make_no_sense_are_refused(num: int, right: int, k: int) -> None:
    """More right than there are, or more taken."""
    with pytest.raises(UsageError, match="give"):
        pass_at_k(num, right, k)
