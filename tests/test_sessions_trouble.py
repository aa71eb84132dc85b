"""Engines that break, and servers that are none: what a client sees of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import (
    BackendBroken,
    BackendRejected,
    BackendTimeout,
    UsageError,
)
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address, listen
from harness.sessions.client import SessionClient
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.messages import (
    VERSION,
    Welcome,
)
from harness.sessions.protocol import MAGIC, PREFIX
from harness.sessions.server import SessionServer, serve_in_thread
from tests.raw_sessions import PATIENT
from tests.session_servers import Unhurried, within


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(10**6)
    yield budget
    budget.remove()


@pytest.fixture
def server(budget: DeviceBudget, tmp_path: Path) -> Iterator[SessionServer]:
    address = Address.of_path(str(tmp_path / "s"))
    with serve_in_thread(lambda: Unhurried(budget), address, limits=PATIENT) as server:
        yield server


class TestBrokenEngine:
    def test_an_engine_that_breaks_in_a_step_ends_the_server_with_a_word(
        self, budget: DeviceBudget, tmp_path: Path
    ) -> None:
        """Nobody waits for tokens that never come, and memory returns."""

        class Breaking(Unhurried):
            def step(self) -> list:
                if self.stats()["tokens"] > 20:
                    raise RuntimeError("out of luck")
                return super().step()

        with serve_in_thread(lambda: Breaking(budget), Address.of_path(str(tmp_path / "s"))) as server:
            with SessionClient.connect(server.address, timeout_s=60) as client:
                stream = client.open(100).turn([1], max_new_tokens=50)
                with pytest.raises(
                    BackendBroken, match="stopping: the engine broke: RuntimeError: out of luck"
                ):
                    stream.whole()
            assert within(server.ended.is_set)
            assert within(lambda: budget.used_bytes == 0)

    def test_an_engine_that_fails_at_a_request_fails_that_request(
        self, budget: DeviceBudget, tmp_path: Path
    ) -> None:
        """Its bug is told, by name; the connection and the others live."""

        class Failing(Unhurried):
            def read_kv(self, session_id: str, start: int, most: int) -> None:  # type: ignore[override]
                raise ZeroDivisionError("by zero")

        address = Address.of_path(str(tmp_path / "s"))
        with (
            serve_in_thread(lambda: Failing(budget), address),
            SessionClient.connect(address, timeout_s=60) as client,
        ):
            session = client.open(100)
            with pytest.raises(BackendRejected, match="failed: the engine failed: ZeroDivisionError"):
                session.get_kv()
            assert session.generate([1], max_new_tokens=2).token_ids == continuation([1], 2)

    def test_an_engine_that_cannot_be_made_is_an_error_of_the_start(self, tmp_path: Path) -> None:
        """As it was raised; nothing listens."""

        def make() -> CountingEngine:
            raise UsageError("no such model")

        path = tmp_path / "s"
        with pytest.raises(UsageError, match="no such model"):
            serve_in_thread(make, Address.of_path(str(path))).__enter__()
        assert not path.exists()


class TestTroubleAtTheClient:
    """What a client sees of servers that are none, hang, or say no."""

    @contextlib.contextmanager
    def answering(self, path: Path, answer: bytes) -> Iterator[Address]:
        """Something that listens, says this, and then nothing."""
        address = Address.of_path(str(path))
        listener = listen(address)
        listener.sock.setblocking(True)
        taken: list[socket.socket] = []

        def accept() -> None:
            taken.append(listener.sock.accept()[0])
            taken[0].sendall(answer)

        thread = threading.Thread(target=accept)
        thread.start()
        yield address
        thread.join()
        taken[0].close()
        listener.close()

    def test_a_server_that_hangs_is_given_up(self, tmp_path: Path) -> None:
        """After the time that the caller gave."""
        with (
            self.answering(tmp_path / "s", b"") as address,
            pytest.raises(BackendTimeout, match=r"nothing within 0\.2 s"),
        ):
            SessionClient.connect(address, timeout_s=0.2)

    def test_a_server_of_something_else_is_told_apart(self, tmp_path: Path) -> None:
        """By the first bytes that it says."""
        with (
            self.answering(tmp_path / "s", b"220 mail ready\r\n") as address,
            pytest.raises(BackendBroken, match="begins with b'22'"),
        ):
            SessionClient.connect(address, timeout_s=60)

    def test_a_server_of_another_version_is_told_apart(self, tmp_path: Path) -> None:
        """Before anything of it is understood wrongly."""
        answer = PREFIX.pack(MAGIC, VERSION + 1, Welcome.kind, 0, 0)
        with (
            self.answering(tmp_path / "s", answer) as address,
            pytest.raises(BackendBroken, match=f"version {VERSION + 1}; spoken here is {VERSION}"),
        ):
            SessionClient.connect(address, timeout_s=60)

    @pytest.mark.parametrize("address", [Address(), None], ids=["tcp", "unix"])
    def test_who_sends_too_much_is_told_why_while_it_sends(
        self, budget: DeviceBudget, tmp_path: Path, address: Address | None
    ) -> None:
        """The refusal comes in the middle of the frame, and is read there."""
        address = address or Address.of_path(str(tmp_path / "s"))
        with (
            serve_in_thread(lambda: CountingEngine(budget), address, limits=PATIENT) as server,
            SessionClient.connect(server.address, timeout_s=60) as client,
        ):
            session = client.open(100)
            with pytest.raises(
                BackendBroken, match="too_large: PutKv: buffer of 33554432 bytes; the limit is"
            ):
                session.put_kv(0, [1], bytes(2**25))
