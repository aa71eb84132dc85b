"""Turns that the engine refuses late: whoever waits for one by then is told, and nobody is told twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import BackendRejected
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.client import ClientSession, SessionClient
from harness.sessions.contract import Turn
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.server import SessionServer, serve_in_thread

TOO_MANY = 100


class Gated(CountingEngine):
    """Looks at turns once it is let."""

    gate: threading.Event

    def submit(self, turn: Turn) -> int:
        assert self.gate.wait(60)
        return super().submit(turn)


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def server(gate: threading.Event, tmp_path: Path) -> Iterator[SessionServer]:
    budget = DeviceBudget.create(10**6)

    def make() -> CountingEngine:
        engine = Gated(budget)
        engine.gate = gate
        return engine

    try:
        with serve_in_thread(make, Address.of_path(str(tmp_path / "s"))) as server:
            yield server
    finally:
        gate.set()
        budget.remove()


@pytest.fixture
def client(server: SessionServer) -> Iterator[SessionClient]:
    with SessionClient.connect(server.address, timeout_s=60) as client:
        yield client


def ask_too_much(client: SessionClient) -> ClientSession:
    """A session whose turn is at the server, which does not know yet that it cannot be."""
    session = client.open(10, linger_s=60)
    session.turn([1], max_new_tokens=TOO_MANY)
    client.ping()
    return session


@pytest.mark.parametrize("leaves", [True, False])
def test_who_resumed_the_session_meanwhile_hears_the_refusal(
    server: SessionServer, client: SessionClient, gate: threading.Event, leaves: bool
) -> None:
    """It was told that the turn runs: without a word it would wait for tokens that never come."""
    session = ask_too_much(client)
    if leaves:
        client.close()
    with SessionClient.connect(server.address, timeout_s=60) as other:
        resumed = other.resume(session.secret)
        assert resumed.last_turn == session.last_turn
        gate.set()
        with pytest.raises(BackendRejected, match="exceed"):
            resumed.rest_of_turn().whole()
        assert resumed.generate([1], max_new_tokens=3).token_ids == continuation([1], 3)


def test_a_refused_turn_is_not_cancelled_as_well(client: SessionClient, gate: threading.Event) -> None:
    """A cancel that comes before the refusal finds nothing to end."""
    session = client.open(10)
    stream = session.turn([1], max_new_tokens=TOO_MANY)
    stream.cancel()
    client.ping()
    gate.set()
    with pytest.raises(BackendRejected, match="exceed"):
        stream.whole()
    assert "server_turns_cancelled" not in client.stats()
    assert session.generate([1], max_new_tokens=3).token_ids == continuation([1], 3)
