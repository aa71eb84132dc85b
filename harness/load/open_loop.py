"""An open loop: work arrives when it is due, whether or not earlier work is done.

Latency counts from the intended start (Tene, "How NOT to measure latency": no coordinated omission). How late
the loop itself was in dispatching is recorded beside it, since a slow client must not pass for a slow server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from harness.clock import now_s

__all__ = ["Offered", "offer"]

T = TypeVar("T")


class Offered(NamedTuple, Generic[T]):
    """What an open loop gave."""

    begin_s: float
    """When the first window began, on `now_s`'s clock."""
    results: list[T]
    """In order of arrival."""


async def offer(
    due_s: Sequence[float],
    work: Callable[[int, float], Awaitable[T]],
    *,
    begin_s: float | None = None,
    until: Callable[[float], Awaitable[None]] | None = None,
) -> Offered[T]:
    """Start `work(i, intended_s)` at each due time and wait for all.

    Arguments: `due_s`, seconds from `begin_s` (now, if not given); `work`, given the arrival's index and its
    intended start on `now_s`'s clock; `until`, what waits for an instant of that clock (`Alarm.until`
    is more exact than the event loop's own sleep).
    """
    begin = now_s() if begin_s is None else begin_s
    wait = until or _sleep_until
    running: list[asyncio.Future[T]] = []
    try:
        for index, due in enumerate(due_s):
            await wait(begin + due)
            running.append(asyncio.ensure_future(work(index, begin + due)))
        return Offered(begin, list(await asyncio.gather(*running)))
    finally:
        for future in running:
            future.cancel()


async def _sleep_until(due_s: float) -> None:
    await asyncio.sleep(max(0.0, due_s - now_s()))
