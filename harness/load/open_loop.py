"""An open loop: work arrives when it is due, whether or not earlier work is done.

Latency counts from the intended start (Tene, "How NOT to measure latency": no coordinated omission). How late
the loop itself was in dispatching is recorded beside it, since a slow client must not pass for a slow server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Offered", "offer"]

T = TypeVar("T")


class Offered(NamedTuple, Generic[T]):
    """What an open loop gave."""

    begin_s: float
    """When the first window began, on `perf_counter`'s clock."""
    results: list[T]
    """In order of arrival."""


async def offer(due_s: Sequence[float], work: Callable[[int, float], Awaitable[T]]) -> Offered[T]:
    """Start `work(i, intended_s)` at each due time and wait for all.

    Arguments: `due_s`, seconds from now; `work`, given the arrival's index and its intended start on
    `perf_counter`'s clock.
    """
    begin = perf_counter()
    running: list[asyncio.Future[T]] = []
    try:
        for index, due in enumerate(due_s):
            await asyncio.sleep(max(0.0, begin + due - perf_counter()))
            running.append(asyncio.ensure_future(work(index, begin + due)))
        return Offered(begin, list(await asyncio.gather(*running)))
    finally:
        for future in running:
            future.cancel()
