"""A client that asks for more than anyone can answer: the others have their turns in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address, dial
from harness.sessions.client import SessionClient
from harness.sessions.counting import CountingEngine
from harness.sessions.messages import Hello, Ok, Ping
from harness.sessions.protocol import encode
from harness.sessions.server import SessionServer, serve_in_thread

NUM_PINGS = 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SessionServer]:
    budget = DeviceBudget.create(10**6)
    with serve_in_thread(lambda: CountingEngine(budget), Address.of_path(str(tmp_path / "s"))) as server:
        yield server
    budget.remove()


def test_thousands_of_requests_at_once_hold_up_nobody_else(server: SessionServer) -> None:
    """What came later from another client is answered before they are; all of them are, in the end."""
    answers = NUM_PINGS * len(b"".join(encode(Ok(7))))
    with (
        dial(server.address, timeout_s=60) as sock,
        SessionClient.connect(server.address, timeout_s=60) as other,
    ):
        sock.sendall(b"".join(encode(Hello())))
        sock.recv(4096)
        before = server.stats()["server_bytes_sent"]
        flood = threading.Thread(target=sock.sendall, args=(b"".join(encode(Ping(7))) * NUM_PINGS,))
        # The loop waits for the lock until both are there.
        with server.lock:
            flood.start()
            flood.join(0.2)
            asking = threading.Thread(target=lambda: found.update(other.stats()))
            found: dict[str, object] = {}
            asking.start()
            asking.join(0.2)
        num_bytes = 0
        while num_bytes < answers:
            num_bytes += len(sock.recv(2**16))
        for thread in (flood, asking):
            thread.join()
    assert num_bytes == answers
    sent = found["server_bytes_sent"]
    assert isinstance(sent, int)
    assert isinstance(before, int)
    assert sent - before < answers
