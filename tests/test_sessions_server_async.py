"""The client for asyncio: what the blocking client gets, for many sessions in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import BackendBroken, BackendRejected, BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.aclient import AsyncSessionClient
from harness.sessions.address import Address
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.server import SessionServer, serve_in_thread


class Unhurried(CountingEngine):
    def step(self) -> list:
        time.sleep(0.001)
        return super().step()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SessionServer]:
    budget = DeviceBudget.create(64 * 4000)
    with serve_in_thread(lambda: Unhurried(budget), Address.of_path(str(tmp_path / "s"))) as server:
        yield server
    assert budget.used_bytes == 0
    budget.remove()


def test_many_agents_share_a_connection(server: SessionServer) -> None:
    """Each reasons, waits and reflects; its tokens are those of its own history."""

    async def agent(client: AsyncSessionClient, seed: int) -> None:
        session = await client.open(100)
        reason = await session.turn([seed, 1, 2], max_new_tokens=10).whole()
        await asyncio.sleep(0.01)
        reflect = await session.turn([3], max_new_tokens=5).whole()
        assert reason.token_ids == continuation([seed, 1, 2], 10)
        assert reflect.token_ids == continuation([seed, 1, 2, *reason.token_ids, 3], 5)
        assert reflect.done.reused_tokens == 12
        await session.close()

    async def main() -> None:
        async with await AsyncSessionClient.connect(server.address, timeout_s=60) as client:
            await asyncio.gather(*(agent(client, seed) for seed in range(30)))
            assert (await client.stats())["server_sessions"] == 0

    asyncio.run(main())


def test_refusals_are_errors_and_the_connection_lives(server: SessionServer) -> None:
    """A full budget and a turn without sense."""

    async def main() -> None:
        async with await AsyncSessionClient.connect(server.address, timeout_s=60) as client:
            session = await client.open(4000)
            with pytest.raises(BudgetError):
                await client.open(1)
            with pytest.raises(BackendRejected, match="max_new_tokens 0"):
                await session.turn([1], max_new_tokens=0).whole()
            stream = session.turn([1], max_new_tokens=3000)
            await stream.next()
            stream.cancel()
            assert (await stream.whole()).done.reason == "cancelled"

    asyncio.run(main())


def test_a_session_is_resumed_with_the_rest_of_its_turn(server: SessionServer) -> None:
    """Whether the turn still runs or is over."""

    async def main(pause_s: float) -> None:
        async with await AsyncSessionClient.connect(server.address, timeout_s=60) as client:
            session = await client.open(200, linger_s=60)
            stream = session.turn([4], max_new_tokens=60)
            first = await stream.next()
            assert first is not None
        await asyncio.sleep(pause_s)
        async with await AsyncSessionClient.connect(server.address, timeout_s=60) as client:
            again = await client.resume(session.secret, turn=stream.number, received=1)
            rest = await again.rest_of_turn().whole()
            assert [first.token_id, *rest.token_ids] == continuation([4], 60)
            await again.close()

    asyncio.run(main(0))
    asyncio.run(main(0.3))


def test_a_server_that_stops_ends_what_waits(tmp_path: Path) -> None:
    """With its last words; so does every later request."""

    async def main() -> None:
        budget = DeviceBudget.create(64 * 4000)
        serving = serve_in_thread(
            lambda: Unhurried(budget), Address.of_path(str(tmp_path / "s")), grace_s=0.0
        )
        server = serving.__enter__()
        client = await AsyncSessionClient.connect(server.address, timeout_s=60)
        stream = (await client.open(4000)).turn([1], max_new_tokens=3900)
        await stream.next()
        stopping = asyncio.create_task(asyncio.to_thread(serving.__exit__, None, None, None))
        with pytest.raises(BackendBroken, match="stopping: the server stops"):
            await stream.whole()
        with pytest.raises(BackendBroken, match="stopping: the server stops"):
            await client.stats()
        client.close()
        await stopping
        budget.remove()

    asyncio.run(main())


def test_a_declared_link_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    """This client is not paced, and says so."""

    async def main() -> None:
        budget = DeviceBudget.create(1000)
        address = Address.of_path(str(tmp_path / "s"))
        with serve_in_thread(lambda: CountingEngine(budget), address, link_bps=1_000_000):
            with pytest.raises(UsageError, match="a link of 1000000 bps; use SessionClient"):
                await AsyncSessionClient.connect(address, timeout_s=60)
            async with await AsyncSessionClient.connect(address, timeout_s=60, ignore_link=True) as client:
                await client.stats()
        budget.remove()

    asyncio.run(main())


def test_a_session_whose_opening_is_cancelled_is_closed_when_it_comes(server: SessionServer) -> None:
    """Nobody else would ever close it."""

    async def main() -> None:
        async with await AsyncSessionClient.connect(server.address, timeout_s=60) as client:
            for _ in range(5):
                opening = asyncio.ensure_future(client.open(100))
                # It is asked for, and not answered yet.
                for _ in range(3):
                    await asyncio.sleep(0)
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
            for _ in range(1000):
                stats = await client.stats()
                if not stats["server_sessions"]:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError(stats)

    asyncio.run(main())
