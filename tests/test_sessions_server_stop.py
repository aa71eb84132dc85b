"""A server that is told to stop: turns end first, everyone is told, and it ends whatever anyone does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import BackendBroken
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.contract import Turn
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.engine_thread import EngineThread
from harness.sessions.server import serve_in_thread
from tests.session_servers import serving

MAX_PINGS = 100_000
LOADING = """
import sys, time
from harness.sessions import __main__ as program
def load():
    print("loading", flush=True)
    time.sleep(600)
program._engine_maker = lambda options, budget: print(budget.path, flush=True) or load
sys.exit(program.main(["serve", "--model", "counting", "--port", "0"]))
"""


def ping_often(client: SessionClient) -> None:
    for _ in range(MAX_PINGS):
        client.ping()


def test_a_server_stops_when_it_is_told_to(tmp_path: Path) -> None:
    """A running turn ends first, its client is told, the socket is gone and the status is 0."""
    path = tmp_path / "s"
    with serving("--socket", str(path)) as (process, address):
        with SessionClient.connect(address, timeout_s=60) as client:
            stream = client.open(4000).turn([1], max_new_tokens=3000)
            first = stream.next()
            process.send_signal(signal.SIGTERM)
            assert first is not None
            rest = stream.whole()
            assert [first.token_id, *rest.token_ids] == continuation([1], 3000)
            with pytest.raises(BackendBroken, match=r"stopping: the server stops|the connection ended"):
                ping_often(client)
        assert process.wait(60) == 0
        assert not path.exists()


def test_a_signal_is_heard_however_much_the_engine_has_to_say() -> None:
    """A thousand steps whose tokens the loop has not taken yet leave room for it, and none is lost."""

    async def main() -> int:
        loop, lock, heard = asyncio.get_running_loop(), threading.RLock(), asyncio.Event()
        budget, num_events = DeviceBudget.create(10**6), [0]
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        made = threading.Event()

        class Busy(CountingEngine):
            def step(self) -> list:
                found = super().step()
                if found[0].finish_reason is not None:
                    made.set()
                return found

        def count(events: list) -> None:
            num_events[0] += len(events)

        engine = EngineThread(
            lambda: Busy(budget),
            lock=lock,
            on_events_here=count,
            on_events=count,
            on_broken=lambda error: None,
        )
        try:
            await engine.start()
            with lock:
                engine.call(lambda one: one.open("a", 2000), lambda *_: None)
                engine.call(lambda one: one.submit(Turn("a", [1], 1000)), lambda *_: None)
                assert made.wait(60)
                os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 10)
            while num_events[0] < 1000:
                await asyncio.sleep(0.01)
            assert await engine.stop(timeout_s=60)
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
            budget.remove()
        return num_events[0]

    assert asyncio.run(asyncio.wait_for(main(), 120)) == 1000


def test_a_client_that_reads_nothing_does_not_hold_a_server_that_stops(tmp_path: Path) -> None:
    """What it does not take is thrown away, and the memory of its session is free."""
    budget, address = DeviceBudget.create(10**6), Address.of_path(str(tmp_path / "s"))
    with (
        SessionClientThatStays() as stays,
        serve_in_thread(lambda: CountingEngine(budget), address, grace_s=0.2) as server,
    ):
        client = stays.client = SessionClient.connect(address, timeout_s=60)
        client.open(4000).turn([1], max_new_tokens=2000, want_logits=True)
        while server.stats()["server_unsent_bytes"] == 0:
            time.sleep(0.01)
    assert budget.used_bytes == 0
    budget.remove()


class SessionClientThatStays:
    """Closed only after the server has ended."""

    client: SessionClient | None = None

    def __enter__(self) -> SessionClientThatStays:
        return self

    def __exit__(self, *_: object) -> None:
        if self.client is not None:
            self.client.close()


def test_an_engine_that_hangs_does_not_hold_a_server_that_stops(tmp_path: Path) -> None:
    """A step that does not end is left behind after the grace; what was asked for behind it is not done."""
    budget, address = DeviceBudget.create(10**6), Address.of_path(str(tmp_path / "s"))
    release, is_in_step, lines = threading.Event(), threading.Event(), []

    class Hanging(CountingEngine):
        def step(self) -> list:
            is_in_step.set()
            release.wait()
            return super().step()

    limit = threading.Timer(60, release.set)
    limit.start()
    with (
        serve_in_thread(lambda: Hanging(budget), address, grace_s=0.1, log=lines.append) as server,
        SessionClient.connect(address, timeout_s=60) as client,
    ):
        client.open(100).turn([1], max_new_tokens=5)
        assert is_in_step.wait(60)
    assert not release.is_set()
    assert not server.engine.has_ended
    assert lines[-1] == "the engine did not come to an end in 0.1 s; it is left behind"
    release.set()
    limit.cancel()
    server.engine._thread.join(60)
    assert budget.used_bytes == 0
    budget.remove()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_still_loading_stops_at_once(number: signal.Signals) -> None:
    """It does not load to the end first, and its own budget is gone."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOADING], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    ledger, said = Path(process.stdout.readline().strip()), process.stdout.readline()
    assert said == "loading\n"
    assert ledger.exists()
    process.send_signal(number)
    assert process.wait(60) == 0
    process.stdout.close()
    assert not list(ledger.parent.glob(f"{ledger.name}*"))
