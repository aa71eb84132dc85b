"""Answers made later on purpose: the arm by which the suite proves that its own gate notices a regression."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from harness.backends.base import Completion

__all__ = ["slowed", "wait_until"]

_TIMER_GRAIN_S = 0.002
"""An event loop's timer may fire this much late; the last stretch of a wait is spent yielding instead."""


async def slowed(completion: Completion, share: float) -> Completion:
    """Keep the caller waiting this share of the answer's time longer, and say so in its `done_s`."""
    await wait_until(completion.done_s + share * completion.e2e_latency_s)
    return dataclasses.replace(completion, done_s=time.perf_counter())


async def wait_until(deadline_s: float) -> None:
    """Return at this time of `time.perf_counter`, and not a timer's grain later."""
    remaining_s = deadline_s - time.perf_counter()
    if remaining_s > _TIMER_GRAIN_S:
        await asyncio.sleep(remaining_s - _TIMER_GRAIN_S)
    while time.perf_counter() < deadline_s:
        await asyncio.sleep(0)
