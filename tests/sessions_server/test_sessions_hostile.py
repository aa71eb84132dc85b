"""Clients that break the rules: each loses its connection, with the reason, and that is all."""

from __future__ import annotations

import struct

import pytest

from harness.hardware.budget import DeviceBudget
from harness.sessions.codes import Code
from harness.sessions.limits import Limits
from harness.sessions.messages import (
    VERSION,
    Failed,
    Hello,
    Ok,
    Open,
    Opened,
    Ping,
    PutKv,
    Turn,
)
from harness.sessions.protocol import MAGIC, PREFIX, encode
from harness.sessions.server import SessionServer
from tests.raw_sessions import PATIENT, Raw, bystander, prefix
from tests.session_servers import within


@pytest.fixture
def limits() -> Limits:
    return PATIENT


class TestHostileFrames:
    @pytest.mark.parametrize(
        ("stream", "code"),
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Code.MALFORMED),
            (bytes(100), Code.MALFORMED),
            (PREFIX.pack(MAGIC, 77, 4, 0, 1), Code.VERSION),
            (prefix(250), Code.MALFORMED),
            (prefix(67), Code.MALFORMED),
            (prefix(Turn.kind, header_len=2**32 - 1), Code.TOO_LARGE),
            (prefix(PutKv.kind, 2**16 - 1), Code.TOO_LARGE),
            (prefix(PutKv.kind, 1) + struct.pack("<Q", 2**63), Code.TOO_LARGE),
            (prefix(Turn.kind, 0, 9) + b"\x94\x01\x01\xdd\xff\xff\xff\xff\x01", Code.MALFORMED),
            (prefix(Turn.kind, 0, 4000) + b"\x91" * 4000, Code.MALFORMED),
            (b"".join(encode(Hello())), Code.UNEXPECTED),
        ],
        ids=[
            "http", "zeros", "version", "kind", "server-kind", "header", "buffers", "buffer", "list",
            "nested", "second-hello",
        ],
    )  # fmt: skip
    def test_a_frame_that_is_none_ends_its_connection_with_the_reason(
        self, server: SessionServer, stream: bytes, code: Code
    ) -> None:
        """And leaves a turn of somebody else alone."""
        with bystander(server):
            raw = Raw(server)
            raw.sock.sendall(stream)
            assert raw.last_words().code == code

    def test_a_client_that_goes_on_sending_still_gets_the_reason(self, server: SessionServer) -> None:
        """The server takes in some of what follows before it closes: a reset would destroy its words."""
        raw = Raw(server)
        raw.sock.sendall(bytes(100_000))
        assert raw.last_words().code == Code.MALFORMED

    def test_what_was_asked_before_the_malformed_frame_is_answered(self, server: SessionServer) -> None:
        """In order, even in one packet."""
        raw = Raw(server)
        raw.sock.sendall(b"".join([*encode(Ping(5)), *encode(Ping(6))]) + bytes(50))
        assert [raw.receive(), raw.receive()] == [Ok(5), Ok(6)]
        assert raw.last_words().code == Code.MALFORMED

    def test_nothing_is_done_for_who_has_not_said_hello(self, server: SessionServer) -> None:
        """Not even a ping, and buffers are not received."""
        raw = Raw(server, greets=False)
        raw.send(Ping(1))
        assert raw.last_words().code == Code.UNEXPECTED
        raw = Raw(server, greets=False)
        raw.sock.sendall(prefix(PutKv.kind, 1))
        assert raw.last_words().code == Code.TOO_LARGE

    def test_a_client_of_another_version_is_told_which_is_spoken(self, server: SessionServer) -> None:
        """In the error's message."""
        raw = Raw(server, greets=False)
        raw.send(Hello(VERSION + 1, VERSION + 5))
        words = raw.last_words()
        assert (words.code, f"{VERSION} here" in words.message) == (Code.VERSION, True)

    def test_a_truncated_frame_leaves_nothing(self, server: SessionServer, budget: DeviceBudget) -> None:
        """A client that dies in the middle of a buffer: what was reserved for it is free again."""
        raw = Raw(server)
        raw.send(Open(1, 100))
        opened = raw.receive()
        assert isinstance(opened, Opened)
        frame = b"".join(encode(PutKv(2, opened.session, 0, [1] * 100), [bytes(6400)]))
        raw.sock.sendall(frame[:-10])
        assert within(lambda: server.stats()["server_receiving_bytes"] == 6400)
        raw.sock.close()
        assert within(lambda: server.stats()["server_receiving_bytes"] == 0)
        assert within(lambda: budget.used_bytes == 0)

    def test_numbers_of_nothing_are_refused_one_by_one(self, server: SessionServer) -> None:
        """Well-formed frames about sessions that are not there: the connection lives."""
        raw = Raw(server)
        for message in (Turn(1, 99, [1], 1), Turn(2, 2**32 - 1, [1], 1)):
            raw.send(message)
            answer = raw.receive()
            assert isinstance(answer, Failed)
            assert (answer.request, answer.code) == (message.request, Code.NO_SESSION)
        raw.send(Ping(3))
        assert raw.receive() == Ok(3)
        raw.sock.close()
