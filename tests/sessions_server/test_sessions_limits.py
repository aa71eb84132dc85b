"""Clients that ask for too much: they are refused, and what they declared is not kept."""

from __future__ import annotations

import pytest

from harness.errors import (
    UsageError,
)
from harness.sessions.codes import Code
from harness.sessions.limits import Limits
from harness.sessions.messages import (
    Failed,
    Ok,
    Open,
    Ping,
    PutKv,
)
from harness.sessions.protocol import encode
from harness.sessions.server import SessionServer
from tests.raw_sessions import PATIENT, Raw
from tests.session_servers import within


@pytest.fixture
def limits() -> Limits:
    return PATIENT


class TestTooMuch:
    def test_one_connection_too_many_is_told_so(self, server: SessionServer) -> None:
        """The others go on; when one leaves, there is room."""
        raws = [Raw(server) for _ in range(PATIENT.max_connections)]
        words = Raw(server, greets=False).last_words()
        assert (words.code, "8 connections are open" in words.message) == (Code.OVERLOADED, True)
        raws[0].send(Ping(1))
        assert raws[0].receive() == Ok(1)
        for raw in raws:
            raw.sock.close()
        assert within(lambda: server.stats()["server_connections"] == 0)
        Raw(server).sock.close()

    def test_one_session_too_many_is_refused(self, server: SessionServer) -> None:
        """Also when they are asked for at once."""
        raw = Raw(server)
        raw.sock.sendall(b"".join(part for at in range(1, 6) for part in encode(Open(at, 10))))
        answers = [raw.receive() for _ in range(5)]
        refused = [one.code for one in answers if isinstance(one, Failed)]
        assert refused == [Code.TOO_MANY] * 2
        raw.sock.close()

    def test_all_connections_together_may_send_only_so_much(self, server: SessionServer) -> None:
        """Two frames of which one would fit: the second is refused when its length is declared."""
        one, two = Raw(server), Raw(server)
        head = b"".join(encode(PutKv(1, 1, 0, [1]), [bytes(600_000)]))[:-600_000]
        one.sock.sendall(head)
        assert within(lambda: server.stats()["server_receiving_bytes"] == 600_000)
        two.sock.sendall(head)
        assert two.last_words().code == Code.OVERLOADED
        one.sock.close()
        assert within(lambda: server.stats()["server_receiving_bytes"] == 0)

    def test_refused_keys_and_values_are_not_kept(self, server: SessionServer) -> None:
        """For a session that is not there, again and again."""
        raw = Raw(server)
        for at in range(1, 6):
            raw.send(PutKv(at, 1, 0, [1]), bytes(600_000))
            answer = raw.receive()
            assert isinstance(answer, Failed)
            assert answer.code == Code.NO_SESSION
        assert within(lambda: server.stats()["server_receiving_bytes"] == 0)
        raw.sock.close()


class TestLimits:
    @pytest.mark.parametrize("value", [-1, float("nan")])
    def test_a_limit_below_nothing_is_refused(self, value: float) -> None:
        """With its name."""
        with pytest.raises(UsageError, match="limit idle_timeout_s = "):
            Limits(idle_timeout_s=value)
