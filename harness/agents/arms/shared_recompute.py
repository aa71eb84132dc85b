"""The same server without memory: each step opens a session, sends the whole history, and closes it.

What it isolates: everything is as in `shared` (weights held once, batching, the wire) but for the keys and
values kept between steps. So the difference between the two is reuse, and nothing else.

An agent that acts holds nothing here. One that steps holds a session for its history so far; when the budget
has no room for it while other steps run, it waits for one of them to end: a queue, and part of the step. It
is refused only where it alone would not fit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from harness.agents.arms.shared import Shared, step_of
from harness.agents.base import Agent, Step
from harness.errors import BackendBroken, BackendError, BudgetError
from harness.sessions.aclient import AsyncClientSession

__all__ = ["RecomputingAgent", "SharedRecompute"]


class SharedRecompute(Shared):
    """The arm; `start` as `Shared.start`."""

    name = "shared-recompute"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._num_held = 0
        self._freed = asyncio.Condition()

    async def open(self, max_tokens: int) -> Agent:
        """Make an agent; nothing is drawn before it steps."""
        return RecomputingAgent(self)

    async def hold(self, max_tokens: int) -> AsyncClientSession:
        """A session, when there is room. Raises BudgetError where waiting for others would not help."""
        async with self._freed:
            while True:
                try:
                    session = await self.session(max_tokens)
                except BudgetError:
                    if not self._num_held:
                        raise
                    await self._freed.wait()
                else:
                    self._num_held += 1
                    return session

    async def free(self, session: AsyncClientSession) -> None:
        """Close a session that was held."""
        with contextlib.suppress(BackendError):
            await session.close()
        async with self._freed:
            self._num_held -= 1
            self._freed.notify_all()


class RecomputingAgent:
    """One agent, whose history is here."""

    def __init__(self, arm: SharedRecompute) -> None:
        self._arm = arm
        self._history: list[int] | None = []

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        """Send the whole history; see `Agent.step`."""
        if self._history is None:
            raise BackendBroken("this agent is closed; open another")
        text = [*self._history, *new_ids]
        asked_s = perf_counter()
        session = await self._arm.hold(len(text) + max_new_tokens)
        try:
            sent_s = perf_counter()
            async with self._arm.with_cause():
                found = await session.turn(text, max_new_tokens=max_new_tokens).whole()
        finally:
            await asyncio.shield(self._arm.free(session))
        self._history = [*text, *found.token_ids]
        return step_of(found, asked_s=asked_s, pid=self._arm.server.pid, waited_s=sent_s - asked_s)

    async def close(self) -> None:
        """Forget the history."""
        self._history = None
