"""Quantiles come with an interval that holds what it promises, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.intervals.quantiles import needed_for, quantile_of
from reports.stats import Interval, Unsupported


@pytest.mark.parametrize(("share", "needed"), [(0.5, 6), (0.95, 72), (0.05, 72), (0.99, 368)])
def test_as_many_values_are_needed_as_bracket_the_quantile(share: float, needed: int) -> None:
    """For p99 the 368 that requests are held to."""
    assert needed_for(share) == needed
    short = quantile_of([1.0] * (needed - 1), share)
    assert isinstance(short, Unsupported)
    assert short.needed == needed
    assert isinstance(quantile_of([1.0] * needed, share), Interval)


@given(st.lists(st.floats(0, 1e6), min_size=72, max_size=300), st.floats(0.05, 0.95))
def test_the_interval_holds_the_estimate_and_both_are_values_that_were_seen(
    values: list[float], share: float
) -> None:
    """Nearest ranks: nothing between two values is made up."""
    found = quantile_of(values, share)
    assert isinstance(found, Interval)
    assert found.low <= found.estimate <= found.high
    assert {found.low, found.estimate, found.high} <= set(values)


@pytest.mark.parametrize(("share", "n"), [(0.5, 20), (0.95, 72), (0.95, 200)])
def test_it_covers_the_true_quantile_as_often_as_it_says(share: float, n: int) -> None:
    """Two-sided 95 %, and more where ranks are few; on skewed values."""
    rng = np.random.default_rng(5)
    true = float(np.exp(np.sqrt(2) * _erfinv(2 * share - 1)))
    inside = 0
    for _ in range(2000):
        found = quantile_of(rng.lognormal(size=n).tolist(), share)
        assert isinstance(found, Interval)
        inside += found.low <= true <= found.high
    assert inside / 2000 >= 0.94


def _erfinv(x: float) -> float:
    from scipy.special import erfinv

    return float(erfinv(x))
