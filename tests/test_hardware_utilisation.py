"""Means and energies over a stretch are those of the readings, whatever their spacing."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hardware.utilisation import LAG_S, MIN_SAMPLES, Sample, integral, usage

GAPS = st.lists(st.floats(0.01, 1.0), min_size=MIN_SAMPLES, max_size=30)
WATTS = st.floats(0.0, 1000.0)


def sample(
    at_s: float, share: float | None = 0.5, watts: float | None = 100.0, **more: float | int
) -> Sample:
    usual = Sample(at_s, share, share, watts, None, 10)
    return usual._replace(**more)


def points_of(gaps: list[float], values: list[float]) -> list[tuple[float, float]]:
    return list(zip(accumulate(gaps), values, strict=False))


@given(GAPS, WATTS)
def test_a_constant_power_is_power_times_time(gaps: list[float], watts: float) -> None:
    """However unevenly it was read."""
    points = points_of(gaps, [watts] * len(gaps))
    began_s, done_s = points[0][0], points[-1][0]
    assert integral(points, began_s, done_s) == pytest.approx(watts * (done_s - began_s), abs=1e-9)


@given(GAPS, st.data())
def test_a_stretch_cut_in_two_has_the_same_energy(gaps: list[float], data: st.DataObject) -> None:
    """Wherever it is cut, also between two readings."""
    points = points_of(gaps, data.draw(st.lists(WATTS, min_size=len(gaps), max_size=len(gaps))))
    began_s, done_s = points[0][0] - 0.5, points[-1][0] + 0.5
    cut_s = data.draw(st.floats(began_s, done_s))
    halves = integral(points, began_s, cut_s) + integral(points, cut_s, done_s)
    assert halves == pytest.approx(integral(points, began_s, done_s), rel=1e-6, abs=1e-6)


@given(GAPS, st.data())
def test_a_counter_of_energy_says_what_the_power_does(gaps: list[float], data: st.DataObject) -> None:
    """Its difference is the integral of the power that it counted."""
    points = points_of(gaps, data.draw(st.lists(WATTS, min_size=len(gaps), max_size=len(gaps))))
    steps = [(b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(points)]
    counter = list(accumulate(steps, initial=1e6))
    began_s, done_s = points[0][0], points[-1][0]
    by_power = usage([sample(at_s, watts=watts) for at_s, watts in points], began_s, done_s)
    both = [
        sample(at_s, watts=0.0, energy_j=joules) for (at_s, _), joules in zip(points, counter, strict=True)
    ]
    by_counter = usage(both, began_s, done_s)
    assert by_power.energy_j is not None
    assert by_counter.energy_j == pytest.approx(by_power.energy_j, rel=1e-6, abs=1e-4)


@given(GAPS, st.data())
def test_a_mean_share_lies_among_the_shares(gaps: list[float], data: st.DataObject) -> None:
    """And is weighed by time."""
    shares = data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(gaps), max_size=len(gaps)))
    samples = [sample(at_s, share) for at_s, share in points_of(gaps, shares)]
    found = usage(samples, 0.0, samples[-1].at_s, lag_s=0.0)
    assert found.gpu_share is not None
    assert min(shares) - 1e-9 <= found.gpu_share <= max(shares) + 1e-9


def test_shares_count_from_the_drivers_own_period_on() -> None:
    """What it said before was of the time before; energy and memory are of the whole stretch."""
    early = [sample(t / 10, 0.0, used_bytes=99) for t in range(10)]
    late = [sample(LAG_S + t / 10, 0.8) for t in range(11)]
    found = usage([*early, *late], 0.0, 2.0)
    assert (found.num_samples, found.gpu_share) == (11, pytest.approx(0.8))
    assert (found.energy_j, found.power_w) == (pytest.approx(200.0), pytest.approx(100.0))
    assert found.peak_bytes == 99


def test_too_few_readings_are_no_measurement() -> None:
    """Nor is a stretch shorter than the lag; what a device does not tell is absent, not 0."""
    few = usage([sample(1.5), sample(1.6)], 0.0, 2.0)
    assert (few.gpu_share, few.memory_share, few.energy_j, few.power_w) == (None, None, None, None)
    assert usage([sample(t / 100) for t in range(50)], 0.0, 0.5).gpu_share is None
    silent = usage([sample(1 + t / 10, None, None) for t in range(11)], 0.0, 2.0)
    assert (silent.gpu_share, silent.energy_j) == (None, None)
    assert usage([], 0.0, 1.0).peak_bytes is None
    with pytest.raises(ValueError, match="must end after it begins"):
        usage([], 1.0, 1.0)
