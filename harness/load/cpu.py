"""How much of a core the client's event loop uses, over any part of a load.

Measured by the loop's own thread: an engine embedded in the same process does not count. Sampled while the
load runs, since the mean over a run that ends with a long drain hides a client that was busy before.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from time import thread_time
from types import TracebackType
from typing import NamedTuple, Self

from harness.clock import now_s

__all__ = ["CpuMeter", "Sample", "cpu_share"]

_EVERY_S = 0.25


class Sample(NamedTuple):
    """CPU seconds used by an instant, in seconds from the begin of the load."""

    at_s: float
    cpu_s: float


class CpuMeter:
    """Samples the running thread while its `async with` block lasts."""

    def __init__(self, begin_s: float) -> None:
        """Count from `begin_s` on `now_s`'s clock."""
        self.samples: list[Sample] = []
        self._begin_s = begin_s

    async def __aenter__(self) -> Self:
        self._take()
        self._task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._take()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self._take()

    def _take(self) -> None:
        self.samples.append(Sample(now_s() - self._begin_s, thread_time()))


def cpu_share(samples: Sequence[Sample], start_s: float, end_s: float) -> float:
    """CPU time ÷ wall time between two instants, straight lines between samples; 0 to 1 of one core."""
    first, last = samples[0].at_s, samples[-1].at_s
    start_s, end_s = min(max(start_s, first), last), min(max(end_s, first), last)
    if end_s <= start_s:
        start_s, end_s = first, last
    wall_s = max(end_s - start_s, 1e-9)
    return (_cpu_at(samples, end_s) - _cpu_at(samples, start_s)) / wall_s


def _cpu_at(samples: Sequence[Sample], at_s: float) -> float:
    index = min(max(bisect_right(samples, at_s, key=lambda sample: sample.at_s), 1), len(samples) - 1)
    before, after = samples[index - 1], samples[index]
    if after.at_s <= before.at_s:
        return after.cpu_s
    share = min(1.0, max(0.0, (at_s - before.at_s) / (after.at_s - before.at_s)))
    return before.cpu_s + share * (after.cpu_s - before.cpu_s)
