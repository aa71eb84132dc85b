"""Arrivals come when they are due, and latency counts from then."""

from __future__ import annotations

import asyncio
import itertools
from math import exp
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.load import offer, poisson, summarize
from harness.load.goodput import Served


@given(st.floats(0.01, 1e3), st.integers(1, 200), st.integers(0, 1000))
def test_arrivals_rise_and_repeat_for_a_seed(rate: float, number: int, seed: int) -> None:
    """The same seed gives the same rising times."""
    due = poisson(rate, number, seed=seed)
    assert len(due) == number
    assert list(due) == sorted(due)
    assert due == poisson(rate, number, seed=seed)


@given(st.floats(0.1, 100), st.integers(0, 100))
def test_two_rates_offer_the_same_pattern(factor: float, seed: int) -> None:
    """The rate scales the times and leaves their shape."""
    slow, fast = poisson(1.0, 20, seed=seed), poisson(factor, 20, seed=seed)
    assert fast == pytest.approx([t / factor for t in slow])


@given(st.floats(0.01, 1e3), st.integers(1, 200), st.integers(0, 1000))
def test_all_arrivals_fall_into_their_window(rate: float, number: int, seed: int) -> None:
    """The rate offered is the rate asked for, however few arrive."""
    due = poisson(rate, number, seed=seed)
    assert 0 <= due[0] <= due[-1] <= number / rate


def test_gaps_are_exponential() -> None:
    """Of 5,000 gaps at 4 per second a share of 1/e is longer than the mean, as in a Poisson process."""
    due = poisson(4.0, 5000, seed=1)
    gaps = [b - a for a, b in itertools.pairwise(due)]
    assert fmean(gaps) == pytest.approx(0.25, rel=0.01)
    assert fmean(gap > 0.25 for gap in gaps) == pytest.approx(exp(-1), abs=0.02)


@pytest.mark.parametrize(("rate", "number"), [(0.0, 5), (-1.0, 5), (1.0, 0)])
def test_a_rate_that_makes_no_sense_is_refused(rate: float, number: int) -> None:
    """The message names both values."""
    with pytest.raises(UsageError, match=f"rate {rate}"):
        poisson(rate, number, seed=0)


def test_an_open_loop_does_not_wait_for_earlier_work() -> None:
    """Three slow pieces are in flight together: a closed loop would have one at a time."""
    running = peak = 0

    async def work(index: int, intended_s: float) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.1)
        running -= 1
        return index

    assert asyncio.run(offer((0.0, 0.0, 0.01), work)).results == [0, 1, 2]
    assert peak == 3


def test_a_failing_piece_stops_the_loop_and_cancels_the_rest() -> None:
    """Nothing is left running when the loop ends by an error."""
    cancelled = []

    async def work(index: int, intended_s: float) -> None:
        if index == 0:
            raise ValueError("broken")
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(index)
            raise

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(offer((0.001, 0.0), work))
    assert cancelled == [1]


def test_goodput_counts_only_what_met_the_slo() -> None:
    """Of four pieces in two seconds two are in time, one is late, one failed."""
    served = [
        Served(0.0, 0.0, 0.5, failed=False),
        Served(0.5, 0.5, 1.0, failed=False),
        Served(0.5, 0.6, 2.0, failed=False),
        Served(1.0, 1.0, 1.1, failed=True),
    ]
    point = summarize(served, begin_s=0.0, offered_per_s=2.0, slo_s=1.0)
    assert point.goodput_per_s == pytest.approx(1.0)
    assert point.throughput_per_s == pytest.approx(1.5)
    assert (point.num, point.num_failed) == (4, 1)


def test_a_percentile_that_falls_on_a_failure_is_absent() -> None:
    """A failed piece is infinitely late; its latency is no number."""
    served = [Served(0.0, 0.0, 1.0, failed=False), Served(0.0, 0.0, 1.0, failed=True)]
    point = summarize(served, begin_s=0.0, offered_per_s=1.0, slo_s=2.0)
    assert point.p50_s == 1.0
    assert point.p95_s is None


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=20), st.floats(0.1, 50))
def test_goodput_never_exceeds_what_was_offered(latencies: list[float], rate: float) -> None:
    """However fast the system, it cannot finish more than arrived."""
    due = poisson(rate, len(latencies), seed=3)
    served = [Served(d, d, d + x, failed=False) for d, x in zip(due, latencies, strict=True)]
    point = summarize(served, begin_s=0.0, offered_per_s=rate, slo_s=5.0)
    assert point.goodput_per_s <= point.throughput_per_s <= rate * (1 + 1e-9)
