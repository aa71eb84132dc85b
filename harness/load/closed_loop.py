"""A closed loop: so many users, each of whom asks again when answered, after a pause.

The load follows the server: one that stalls is asked less, so the latencies of a closed loop say how fast it
can serve, not how long callers wait who come when they please. For those, use the open loop.

The first request of each user is due at the begin, and each later one when the answer before it was there and
the pause was over. That instant is the request's intended start.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from harness.clock import now_s
from harness.errors import UsageError
from harness.load.open_loop import Offered

__all__ = ["hold"]

T = TypeVar("T")


async def hold(
    concurrency: int,
    work: Callable[[int, float], Awaitable[T]],
    *,
    num_requests: int | None = None,
    duration_s: float | None = None,
    think_s: float = 0.0,
    begin_s: float | None = None,
    until: Callable[[float], Awaitable[None]] | None = None,
) -> Offered[T]:
    """Keep `concurrency` pieces of work going until there were `num_requests`, or none may begin any more.

    Arguments: `work`, given an index, counted in the order of beginning, and its intended start on
    `now_s`'s clock; `duration_s`, after which no piece begins; `think_s`, the pause of a user between
    an answer and the next request; `begin_s` and `until` as for `offer`. Give one of `num_requests` and
    `duration_s`, or both: what comes first ends the loop. Every piece that began is waited for.

    Raises
    ------
    UsageError: no users, nothing that ends the loop, or a negative pause.
    """
    if concurrency < 1 or think_s < 0 or (num_requests is None and duration_s is None):
        raise UsageError(
            f"{concurrency} users, think_s {think_s:g}, {num_requests} requests, {duration_s} s; "
            "give at least one user, a pause of 0 or more, and a number of requests or a duration"
        )
    begin = now_s() if begin_s is None else begin_s
    last_s = math.inf if duration_s is None else begin + duration_s
    most = math.inf if num_requests is None else num_requests
    results: dict[int, T] = {}
    indices = count()

    async def user() -> None:
        intended_s = begin
        while intended_s < last_s:
            if intended_s > now_s():
                await (until(intended_s) if until else asyncio.sleep(intended_s - now_s()))
            index = next(indices)
            if index >= most:
                return
            results[index] = await work(index, intended_s)
            intended_s = now_s() + think_s

    running = [asyncio.ensure_future(user()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*running)
    finally:
        for future in running:
            future.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return Offered(begin, [results[index] for index in sorted(results)])
