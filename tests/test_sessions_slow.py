"""Clients that are slow: each loses its connection after its time, and nobody else waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.codes import Code
from harness.sessions.counting import CountingEngine
from harness.sessions.limits import MIB
from harness.sessions.messages import (
    Ok,
    Open,
    Opened,
    Ping,
    Turn,
)
from harness.sessions.protocol import encode
from harness.sessions.server import SessionServer, serve_in_thread
from tests.raw_sessions import PATIENT, Raw, bystander, prefix
from tests.session_servers import Unhurried, within


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(10**6)
    yield budget
    budget.remove()


@pytest.fixture
def serve(budget: DeviceBudget, tmp_path: Path) -> Callable[..., AbstractContextManager[SessionServer]]:
    """A server with some of its times short: all others are there only so that nothing hangs."""

    def with_times(
        *, engine: type[CountingEngine] = Unhurried, **times_s: float
    ) -> AbstractContextManager[SessionServer]:
        address, limits = Address.of_path(str(tmp_path / "s")), replace(PATIENT, **times_s)
        return serve_in_thread(lambda: engine(budget), address, limits=limits)

    return with_times


Serve = Callable[..., AbstractContextManager[SessionServer]]


def test_who_says_nothing_is_let_go(serve: Serve) -> None:
    """No hello within the time."""
    with serve(hello_timeout_s=0.2) as server:
        words = Raw(server, greets=False).last_words()
    assert (words.code, "no hello" in words.message) == (Code.TIMEOUT, True)


def test_who_sends_half_a_frame_is_let_go(serve: Serve) -> None:
    """Whether it stops or sends a byte now and then."""
    with serve(frame_timeout_s=0.3) as server, bystander(server):
        still, trickling = Raw(server), Raw(server)
        still.sock.sendall(prefix(Turn.kind, 0, 1000))
        trickling.sock.sendall(prefix(Turn.kind, 0, 1000))
        with contextlib.suppress(OSError):
            # Fewer bytes than the header was to have.
            for _ in range(900):
                trickling.sock.sendall(b"\x90")
                if trickling.has_news(0.01):
                    break
        for raw in (still, trickling):
            words = raw.last_words()
            assert (words.code, "half a frame" in words.message) == (Code.TIMEOUT, True)


def test_who_is_idle_is_let_go_and_who_pings_is_not(serve: Serve) -> None:
    """A running turn counts as company."""
    with serve(idle_timeout_s=1.0) as server:
        busy = Raw(server)
        busy.send(Open(1, 4000))
        assert isinstance(busy.receive(), Opened)
        busy.send(Turn(2, 1, [1], 3900))
        idle, lively = Raw(server), Raw(server)
        while not idle.has_news(0.05):
            lively.send(Ping(1))
            assert lively.receive() == Ok(1)
        assert idle.last_words().code == Code.TIMEOUT
        assert busy.receive() is not None
        assert server.stats()["server_ended_timeout"] == 1
        for raw in (lively, busy):
            raw.sock.close()


def test_who_does_not_read_is_let_go(serve: Serve, budget: DeviceBudget) -> None:
    """Logits of a turn pile up to the limit, then the connection ends and its session with it."""
    with serve(engine=CountingEngine, write_timeout_s=0.3) as server:
        with bystander(server):
            raw = Raw(server)
            raw.send(Open(1, 4000))
            assert isinstance(raw.receive(), Opened)
            raw.send(Turn(2, 1, [1], 3900, True))
            assert within(lambda: server.stats().get("server_ended_timeout", 0) == 1)
            raw.sock.close()
        assert within(lambda: budget.used_bytes == 0)


def test_who_asks_without_reading_is_read_no_more(serve: Serve) -> None:
    """Answers fill the kernel's buffers and a little of ours; then the client has to wait, then to go."""
    with serve(write_timeout_s=0.3) as server:
        raw = Raw(server)
        raw.sock.settimeout(0.2)
        flood = b"".join(encode(Ping(1))) * 2000
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 50 * MIB:
                sent += raw.sock.send(flood)
        assert sent < 50 * MIB
        unsent = server.stats()["server_unsent_bytes"]
        assert isinstance(unsent, int)
        assert unsent < MIB
        assert within(lambda: server.stats()["server_connections"] == 0)
        raw.sock.close()
