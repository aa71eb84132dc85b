"""What samples of a GPU say of a stretch of time: shares, power, energy, memory.

A sample is a reading at a moment. Between two samples a value runs in a straight line, before the first and
after the last it stays, so that a mean over a stretch weighs uneven samples by the time they stand for.

Traps: NVML's shares are themselves means over the driver's last period, 1/6 s to 1 s by product, so a
stretch counts from `LAG_S` after its beginning on: what came earlier tells of the time before. Energy is the
difference of a counter where the driver has one, else the integral of the power, over the whole stretch.
All of it is the device's: whatever else ran there is in it. Clocks and what holds them back are readings of a
moment: they count from the stretch's beginning, and what came and went between two readings is not seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from harness.hardware.throttling import held_back

__all__ = ["LAG_S", "MIN_SAMPLES", "Sample", "Usage", "integral", "usage"]

LAG_S = 1.0
"""The longest period over which a driver takes its means (NVML API reference, `nvmlUtilization_t`)."""
MIN_SAMPLES = 5
"""Fewer of them within a stretch are no measurement."""

Point = tuple[float, float]


class Sample(NamedTuple):
    """One reading; what the device does not tell is None."""

    at_s: float
    """On `perf_counter`'s clock."""
    gpu_share: float | None
    """Of the driver's last period, the share in which some kernel ran."""
    memory_share: float | None
    """Of the same, the share in which the device's memory was read or written."""
    power_w: float | None
    energy_j: float | None
    """A counter since the driver was loaded."""
    used_bytes: int | None
    """Of the device's memory, by all processes."""
    sm_hz: float | None = None
    """Clock of the multiprocessors."""
    memory_hz: float | None = None
    """Clock of the device's memory."""
    throttle: int | None = None
    """NVML's mask of what holds the clocks back (`harness.hardware.throttling`)."""


class Usage(NamedTuple):
    """A stretch of time on a device; what was not measured is None."""

    num_samples: int
    """After the lag: those behind the shares."""
    gpu_share: float | None
    memory_share: float | None
    power_w: float | None
    """The mean: energy ÷ seconds."""
    energy_j: float | None
    peak_bytes: int | None
    sm_hz: float | None = None
    """The mean clock of the multiprocessors."""
    memory_hz: float | None = None
    throttled_share: float | None = None
    """Of the readings, the share at which something held the clocks back."""
    throttled_by: tuple[str, ...] = ()
    """What did, the most frequent first."""


def usage(samples: Sequence[Sample], began_s: float, done_s: float, *, lag_s: float = LAG_S) -> Usage:
    """What samples in the order of time say of the stretch from `began_s` to `done_s`.

    Raises
    ------
    ValueError: the stretch has no length.
    """
    if not done_s > began_s:
        raise ValueError(f"a stretch from {began_s} s to {done_s} s; it must end after it begins")
    from_s = began_s + lag_s
    settled = [one for one in samples if from_s <= one.at_s <= done_s]
    within = [one for one in samples if began_s <= one.at_s <= done_s]
    is_told = len(settled) >= MIN_SAMPLES
    energy_j = _energy_j(samples, began_s, done_s) if len(within) >= MIN_SAMPLES else None
    return Usage(
        num_samples=len(settled),
        gpu_share=_mean((one.at_s, one.gpu_share) for one in settled) if is_told else None,
        memory_share=_mean((one.at_s, one.memory_share) for one in settled) if is_told else None,
        power_w=None if energy_j is None else energy_j / (done_s - began_s),
        energy_j=energy_j,
        peak_bytes=max((one.used_bytes for one in within if one.used_bytes is not None), default=None),
        sm_hz=_plain_mean(one.sm_hz for one in within),
        memory_hz=_plain_mean(one.memory_hz for one in within),
        **_throttled(within),
    )


def integral(points: Sequence[Point], began_s: float, done_s: float) -> float:
    """The area under (s, value) points, in the order of time and at least one, between two moments."""
    inner = [point for point in points if began_s < point[0] < done_s]
    ends = ((began_s, _at(points, began_s)), (done_s, _at(points, done_s)))
    return sum(
        (later_s - at_s) * (value + other) / 2
        for (at_s, value), (later_s, other) in pairwise([ends[0], *inner, ends[1]])
    )


def _throttled(within: Sequence[Sample]) -> dict[str, Any]:
    masks = [one.throttle for one in within if one.throttle is not None]
    if not masks:
        return {}
    reasons = [held_back(mask) for mask in masks]
    seen = Counter(word for words in reasons for word in words)
    return {
        "throttled_share": sum(map(bool, reasons)) / len(masks),
        "throttled_by": tuple(word for word, _ in seen.most_common()),
    }


def _plain_mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _energy_j(samples: Sequence[Sample], began_s: float, done_s: float) -> float | None:
    counter = _known((one.at_s, one.energy_j) for one in samples)
    if counter:
        return _at(counter, done_s) - _at(counter, began_s)
    power = _known((one.at_s, one.power_w) for one in samples)
    return integral(power, began_s, done_s) if power else None


def _mean(points: Iterable[tuple[float, float | None]]) -> float | None:
    found = _known(points)
    if len(found) < MIN_SAMPLES:
        return None
    (first_s, _), (last_s, _) = found[0], found[-1]
    return integral(found, first_s, last_s) / (last_s - first_s) if last_s > first_s else found[0][1]


def _known(points: Iterable[tuple[float, float | None]]) -> list[Point]:
    return [(at_s, value) for at_s, value in points if value is not None]


def _at(points: Sequence[Point], moment_s: float) -> float:
    index = bisect_left(points, moment_s, key=lambda point: point[0])
    if index == len(points):
        return points[-1][1]
    later_s, other = points[index]
    if index == 0 or later_s == moment_s:
        return other
    at_s, value = points[index - 1]
    return value + (other - value) * (moment_s - at_s) / (later_s - at_s)
