"""One session server for all agents: the weights once, a session of keys and values per agent.

An agent sends what is new and nothing else; what was there already stays on the server while it acts. Its
counts are the server's own: `reused_tokens` of a step is what the session's slab held when the step began.

Physics: an agent's session takes max_tokens × the bytes of a token's keys and values, from opening to
closing. With the policy `keep` one that finds no room is refused; with the others those that wait make room.

Traps: the server's times stand on its own clock as durations, and `compute_s` is that of whole batched steps,
counted in full for each agent in them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import Self

from harness.agents.base import Agent, Step
from harness.errors import BackendBroken, BackendError, BackendUnreachable, BudgetError
from harness.hardware.budget import DeviceBudget
from harness.sessions.aclient import AsyncClientSession, AsyncSessionClient
from harness.sessions.launch import ServerProcess
from harness.sessions.replies import Generated

__all__ = ["Shared", "SharedAgent", "step_of"]

_SESSIONS_PER_CONNECTION = 200
"""Below what a server grants by default."""
_LAST_WORDS_S = 1.0
"""That a server's end may be seen later than the end of its connections."""


class Shared:
    """The arm, over a server in a process of its own that draws on the budget."""

    name = "shared"

    def __init__(self, server: ServerProcess, *, timeout_s: float = 300.0) -> None:
        """Serve by a server that is ready; `start` makes one. `timeout_s`, that any one token may take."""
        self.server = server
        self._timeout_s = timeout_s
        self._clients: list[tuple[AsyncSessionClient, int]] = []
        self._connecting = asyncio.Lock()

    @classmethod
    async def start(
        cls,
        budget: DeviceBudget,
        *,
        model: str = "llama-34m",
        device: str = "cpu",
        dtype: str = "float32",
        threads: int = 1,
        policy: str = "keep",
        max_session_tokens: int = 4096,
        prefill_chunk: int = 128,
        options: Sequence[str] = (),
        timeout_s: float = 300.0,
        deadline_s: float = 600.0,
    ) -> Self:
        """Start a server and wait until it is ready.

        Arguments: `policy`, who makes room when the budget is short; `prefill_chunk`, prompt tokens of a
        step, for which an agent that reflects waits at most where others reason; `options`, further ones of
        `python -m harness.sessions serve`; `deadline_s`, until it is ready.

        Raises
        ------
        LaunchError: it is not; when the weights find no room, that is in the message.
        """
        arguments = [
            *("--model", model, "--device", device, "--dtype", dtype, "--threads", str(threads)),
            *("--budget", str(budget.path), "--policy", policy, "--verbose"),
            *("--max-session-tokens", str(max_session_tokens), "--prefill-chunk", str(prefill_chunk)),
            *options,
        ]
        env = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1"}
        server = ServerProcess(arguments, env=env, deadline_s=deadline_s)
        try:
            await asyncio.to_thread(lambda: server.address)
        except BaseException:
            await asyncio.to_thread(server.stop)
            raise
        return cls(server, timeout_s=timeout_s)

    async def open(self, max_tokens: int) -> Agent:
        """Open a session; see `Arm.open`."""
        return SharedAgent(self, await self.session(max_tokens))

    async def session(self, max_tokens: int) -> AsyncClientSession:
        """A session of the server's.

        Raises
        ------
        BudgetError: its slab was refused.
        BackendError: the server is gone, and how it ended.
        """
        async with self.with_cause():
            client = await self._client(num_sessions=1)
            opening = asyncio.ensure_future(client.open(max_tokens))
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                # The server opens it all the same, and nobody would know it by its number.
                with contextlib.suppress(BackendError, BudgetError):
                    await (await opening).close()
                raise

    async def stats(self) -> dict[str, int | float | str | None]:
        """The server's counters. Raises BackendError when it is gone."""
        async with self.with_cause():
            client = await self._client(num_sessions=0)
            return await client.stats()

    @contextlib.asynccontextmanager
    async def with_cause(self) -> AsyncIterator[None]:
        """Add to the error of a connection that broke how the server ended."""
        try:
            yield
        except (BackendBroken, BackendUnreachable) as exc:
            ends_s = perf_counter() + _LAST_WORDS_S
            while (status := self.server.exit_status) is None and perf_counter() < ends_s:
                await asyncio.sleep(0.02)
            if status is None:
                raise
            how = f"signal {-status}" if status < 0 else f"status {status}"
            raise BackendBroken(f"{exc}; the server (pid {self.server.pid}) ended with {how}") from exc

    async def close(self) -> None:
        """Leave the server and end it; a second call does nothing."""
        clients, self._clients = self._clients, []
        for client, _ in clients:
            client.close()
        await asyncio.to_thread(self.server.stop)

    async def _client(self, *, num_sessions: int) -> AsyncSessionClient:
        """A connection that has room for so many more."""
        async with self._connecting:
            if not self._clients or self._clients[-1][1] + num_sessions > _SESSIONS_PER_CONNECTION:
                client = await AsyncSessionClient.connect(self.server.address, timeout_s=self._timeout_s)
                self._clients.append((client, 0))
            client, num = self._clients[-1]
            self._clients[-1] = client, num + num_sessions
            return client


class SharedAgent:
    """One agent, whose history is a session."""

    def __init__(self, arm: Shared, session: AsyncClientSession) -> None:
        self._arm = arm
        self._session: AsyncClientSession | None = session

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        """Send the new ids; see `Agent.step`."""
        if self._session is None:
            raise BackendBroken("this agent is closed; open another")
        asked_s = perf_counter()
        async with self._arm.with_cause():
            found = await self._session.turn(new_ids, max_new_tokens=max_new_tokens).whole()
        return step_of(found, asked_s=asked_s, pid=self._arm.server.pid)

    async def close(self) -> None:
        """End the session; of a server that is gone nothing is held."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(BackendError):
                await session.close()


def step_of(found: Generated, *, asked_s: float, pid: int | None, waited_s: float = 0.0) -> Step:
    """A turn as a step. `waited_s`, from asking to sending, on top of what the server knows."""
    done = found.done
    times_s = tuple(token.came_s for token in found.tokens)
    return Step(
        token_ids=tuple(found.token_ids),
        asked_s=asked_s,
        first_token_s=times_s[0],
        done_s=times_s[-1],
        token_s=times_s,
        queue_s=waited_s + done.first_queue_s,
        prefill_s=done.first_compute_s,
        compute_s=done.compute_s,
        transfer_s=done.transfer_s,
        reused_tokens=done.reused_tokens,
        prefilled_tokens=done.prefilled_tokens,
        pid=pid,
    )
