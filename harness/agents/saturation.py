"""How many agents per second an arm can finish, at most: what arrival rates are declared against.

A closed loop at full concurrency: as many users as agents are to be resident, each running one agent after
the other, without the sleep, so that the arm never waits for an agent. What it finishes per second then is
its capacity; arrivals above it queue without end.

Traps: the last agents of a run find the arm emptier, which lowers the rate; give at least two agents per user
where that matters. Batching makes the rate depend on the concurrency, so measure it at that of the load.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from harness.agents.base import Arm, Script
from harness.clock import now_s
from harness.errors import BackendTimeout, UsageError
from harness.load.closed_loop import hold

__all__ = ["Saturation", "measure_saturation"]


class Saturation(NamedTuple):
    """What an arm could do, and how it was asked."""

    agents_per_s: float
    num_agents: int
    concurrency: int
    seconds: float

    def rate(self, share: float) -> float:
        """Agents per second at a share of it.

        Raises
        ------
        UsageError: the share is not above 0, or not below 1: such arrivals queue without end.
        """
        if not 0 < share < 1:
            raise UsageError(f"{share:g} of saturation; give a share above 0 and below 1")
        return share * self.agents_per_s


async def measure_saturation(
    arm: Arm, scripts: Sequence[Script], *, concurrency: int, deadline_s: float
) -> Saturation:
    """Run an agent per script, `concurrency` of them at any time, none sleeping.

    Raises
    ------
    UsageError: fewer scripts than users, or no users.
    BudgetError: an agent was refused: measure at a concurrency that fits.
    BackendError: an agent failed, or they had not finished within `deadline_s`.
    """
    if not 1 <= concurrency <= len(scripts):
        raise UsageError(
            f"{concurrency} users and {len(scripts)} scripts; give at least one each, and as many"
        )
    awake = [dataclasses.replace(script, sleep_s=0.0) for script in scripts]

    async def live(index: int, intended_s: float) -> None:
        script = awake[index]
        agent = await arm.open(script.max_tokens)
        try:
            await agent.step(script.prompt_ids, script.new_tokens)
            await agent.step(script.observation_ids, script.new_tokens)
        finally:
            await agent.close()

    try:
        async with asyncio.timeout(deadline_s) as limit:
            found = await hold(concurrency, live, num_requests=len(awake))
    except TimeoutError as exc:
        if not limit.expired():
            raise
        what = f"{len(awake)} agents had not finished within {deadline_s:g} s"
        raise BackendTimeout(f"{arm.name}: {what}; allow more or give fewer") from exc
    seconds = now_s() - found.begin_s
    return Saturation(len(awake) / seconds, len(awake), concurrency, seconds)
