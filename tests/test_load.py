"""Arrivals come when they are due, and latency counts from then."""

from __future__ import annotations

import asyncio
from statistics import fmean
from time import perf_counter

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


def test_arrivals_keep_the_rate_on_average() -> None:
    """Over 5,000 arrivals at 4 per second the mean gap is a quarter of a second."""
    due = poisson(4.0, 5000, seed=1)
    assert fmean(b - a for a, b in zip((0.0, *due), due, strict=False)) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(("rate", "number"), [(0.0, 5), (-1.0, 5), (1.0, 0)])
def test_a_rate_that_makes_no_sense_is_refused(rate: float, number: int) -> None:
    """The message names both values."""
    with pytest.raises(UsageError, match=f"rate {rate}"):
        poisson(rate, number, seed=0)


def test_an_open_loop_does_not_wait_for_earlier_work() -> None:
    """Three slow pieces due at once run together: a closed loop would take three times as long."""
    begin = perf_counter()

    async def work(index: int, intended_s: float) -> int:
        await asyncio.sleep(0.05)
        return index

    assert asyncio.run(offer((0.0, 0.0, 0.01), work)) == [0, 1, 2]
    assert perf_counter() - begin < 0.14


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
    point = summarize(served, offered_per_s=2.0, slo_s=1.0)
    assert point.goodput_per_s == pytest.approx(1.0)
    assert point.throughput_per_s == pytest.approx(1.5)
    assert point.dispatch_delay_max_s == pytest.approx(0.1)
    assert (point.num, point.num_failed) == (4, 1)


def test_a_percentile_that_falls_on_a_failure_is_absent() -> None:
    """A failed piece is infinitely late; its latency is no number."""
    served = [Served(0.0, 0.0, 1.0, failed=False), Served(0.0, 0.0, 1.0, failed=True)]
    point = summarize(served, offered_per_s=1.0, slo_s=2.0)
    assert point.p50_s == 1.0
    assert point.p95_s is None
