"""What a server keeps: keys and values that cross, sessions that wait for their client, and memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.errors import BackendBroken, BackendRejected, BudgetError
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.counting import CountingEngine, continuation
from harness.sessions.server import SessionServer, serve_in_thread
from tests.session_servers import TOKEN_BYTES, Unhurried, connect, within


class TestCrossing:
    def test_keys_and_values_go_out_and_back_and_the_tokens_stay_the_same(
        self, client: SessionClient
    ) -> None:
        """A new session that is given them goes on as the old one would have."""
        old = client.open(100)
        first = old.generate([1, 2, 3], max_new_tokens=4).token_ids
        kv = old.get_kv()
        assert list(kv.token_ids) == [1, 2, 3, *first[:-1]]
        assert len(kv.rows) == len(kv.token_ids) * client.welcome.kv_token_bytes
        new = client.open(100)
        new.put_kv(0, kv.token_ids, kv.rows)
        assert new.generate(first[-1:], max_new_tokens=5).token_ids == continuation([1, 2, 3, *first], 5)

    def test_a_delta_is_what_is_behind_a_position(self, client: SessionClient) -> None:
        """Appended to what was there, it is the whole."""
        session = client.open(100)
        session.generate([1, 2, 3], max_new_tokens=4)
        whole, delta = session.get_kv(), session.get_kv(4)
        assert (delta.start, delta.token_ids) == (4, whole.token_ids[4:])
        assert bytes(delta.rows) == bytes(whole.rows[4 * TOKEN_BYTES :])
        assert session.get_kv(6).token_ids == ()

    def test_what_stood_behind_the_new_rows_is_forgotten(self, client: SessionClient) -> None:
        """A session that is put back three tokens goes on from there."""
        session = client.open(100)
        session.generate([1, 2, 3], max_new_tokens=4)
        kv = session.get_kv()
        session.put_kv(2, kv.token_ids[2:3], kv.rows[2 * TOKEN_BYTES : 3 * TOKEN_BYTES])
        assert session.generate([9], max_new_tokens=5).token_ids == continuation([1, 2, 3, 9], 5)

    def test_rows_of_the_wrong_size_are_refused(self, client: SessionClient) -> None:
        """The message has what is there and what is needed; the session lives."""
        session = client.open(100)
        with pytest.raises(BackendRejected, match=r"2 tokens with buffers of \[64\] bytes; send one buffer"):
            session.put_kv(0, [1, 2], bytes(TOKEN_BYTES))
        with pytest.raises(BackendRejected, match="leave a gap"):
            session.put_kv(5, [1], bytes(TOKEN_BYTES))
        assert session.generate([1], max_new_tokens=2).token_ids == continuation([1], 2)

    def test_weights_that_cross_are_those_that_compute(self, client: SessionClient) -> None:
        """Other weights, other tokens."""
        multiplier = 3935559000370003845
        client.put_weights({"multiplier": multiplier.to_bytes(8, "little")})
        expected = continuation([1], 5, multiplier=multiplier)
        assert expected != continuation([1], 5)
        assert client.open(100).generate([1], max_new_tokens=5).token_ids == expected

    def test_weights_that_the_model_lacks_are_refused(self, client: SessionClient) -> None:
        """By name and by size; the old ones stay."""
        with pytest.raises(BackendRejected, match="weights"):
            client.put_weights({"other": bytes(8)})
        with pytest.raises(BackendRejected, match="weights"):
            client.put_weights({"multiplier": bytes(9)})
        assert client.open(100).generate([1], max_new_tokens=5).token_ids == continuation([1], 5)

    def test_what_is_too_large_for_a_frame_crosses_in_pieces(
        self, client: SessionClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two and a half tokens to a frame; the rows are the same, whether or not the last piece is full."""
        session, other = client.open(100), client.open(100)
        first = session.generate(range(8), max_new_tokens=1).token_ids
        kv = session.get_kv()
        monkeypatch.setattr("harness.sessions.client_session.PIECE_BYTES", TOKEN_BYTES * 5 // 2)
        assert [bytes(session.get_kv(at).rows) for at in (0, 1, 8)] == [
            bytes(kv.rows),
            bytes(kv.rows[TOKEN_BYTES:]),
            b"",
        ]
        other.put_kv(0, kv.token_ids[:7], kv.rows[: 7 * TOKEN_BYTES])
        other.put_kv(7, kv.token_ids[7:], kv.rows[7 * TOKEN_BYTES :])
        assert other.generate(first, max_new_tokens=3).token_ids == continuation([*range(8), *first], 3)
        client.put_weights({"multiplier": (5).to_bytes(8, "little")})
        assert other.get_kv().token_ids[:8] == tuple(range(8))

    def test_large_rows_cross_whole(self, budget: DeviceBudget, tmp_path: Path) -> None:
        """Eight megabytes each way, in pieces as the kernel likes them; the server is not left with any."""
        path = Address.of_path(str(tmp_path / "s"))
        big = DeviceBudget.create(2**25)
        with (
            serve_in_thread(lambda: CountingEngine(big, kv_token_bytes=2**16), path) as server,
            connect(server) as client,
        ):
            session = client.open(200)
            first = session.generate(range(128), max_new_tokens=1).token_ids
            kv = session.get_kv()
            assert len(kv.rows) == 2**23
            new = client.open(200)
            new.put_kv(0, kv.token_ids, kv.rows)
            assert new.generate(first, max_new_tokens=3).token_ids == continuation([*range(128), *first], 3)
            assert client.stats()["server_receiving_bytes"] == 0
        big.remove()


class TestBelonging:
    def test_a_client_that_comes_back_finds_its_session(self, server: SessionServer) -> None:
        """By its secret, on another connection."""
        with connect(server) as client:
            session = client.open(100, linger_s=60)
            first = session.generate([1, 2], max_new_tokens=5).token_ids
        with connect(server) as client:
            again = client.resume(session.secret)
            assert again.num_tokens_at_start == 7
            assert again.generate([3], max_new_tokens=5).token_ids == continuation([1, 2, *first, 3], 5)

    def test_no_token_is_lost_when_a_connection_ends_during_a_turn(self, server: SessionServer) -> None:
        """The turn goes on; what was not received is sent again, and then what is new."""
        with connect(server) as client:
            session = client.open(1000, linger_s=60)
            stream = session.turn([1, 2], max_new_tokens=300)
            got = [token.token_id for token in (stream.next() for _ in range(5)) if token is not None]
        with connect(server) as client:
            again = client.resume(session.secret, turn=stream.number, received=len(got))
            rest = again.rest_of_turn().whole()
        assert got + rest.token_ids == continuation([1, 2], 300)
        assert (rest.done.num_tokens, rest.done.reason) == (300, "length")

    def test_a_session_without_linger_ends_with_its_connection(
        self, server: SessionServer, budget: DeviceBudget
    ) -> None:
        """Even during a turn; its bytes return."""
        with connect(server) as client:
            session = client.open(4000)
            session.turn([1], max_new_tokens=3000).next()
            assert budget.used_bytes == 4000 * TOKEN_BYTES
        assert within(lambda: budget.used_bytes == 0)
        with connect(server) as client, pytest.raises(BackendRejected, match="no session has that secret"):
            client.resume(session.secret)

    def test_a_session_that_nobody_comes_back_for_ends(
        self, server: SessionServer, budget: DeviceBudget
    ) -> None:
        """After as many seconds as it was opened for."""
        with connect(server) as client:
            client.open(100, linger_s=1)
            client.open(70, linger_s=600)
            left_s = time.monotonic()
        assert within(lambda: budget.used_bytes == 70 * TOKEN_BYTES)
        assert time.monotonic() - left_s >= 1

    def test_a_number_means_nothing_on_another_connection(self, server: SessionServer) -> None:
        """Every operation on a stranger's session is refused, and does nothing to it."""
        with connect(server) as owner, connect(server) as stranger:
            session = owner.open(100)
            session.generate([1], max_new_tokens=3)
            stolen = stranger.open(100)
            stolen._number, theirs = session._number + 1, stolen._number
            assert theirs == session._number
            for act in (
                lambda: stolen.generate([1], max_new_tokens=1),
                lambda: stolen.put_kv(0, [1], bytes(TOKEN_BYTES)),
                stolen.get_kv,
                stolen.close,
            ):
                with pytest.raises(BackendRejected, match="no_session: no session 2 on this connection"):
                    act()
            kept = continuation([1], 3)
            assert session.generate([2], max_new_tokens=2).token_ids == continuation([1, *kept, 2], 2)

    def test_a_wrong_secret_opens_nothing(self, server: SessionServer) -> None:
        """It is 128 bits that only the opener was told."""
        with connect(server) as owner, connect(server) as stranger:
            secret = owner.open(100, linger_s=60).secret
            with pytest.raises(BackendRejected, match="no session has that secret"):
                stranger.resume(secret[:-1] + bytes([secret[-1] ^ 1]))

    def test_who_has_the_secret_takes_the_session_from_a_connection_that_hangs(
        self, server: SessionServer
    ) -> None:
        """The new connection gets all tokens of the running turn, the old one is told."""
        with connect(server) as old, connect(server) as new:
            session = old.open(1000)
            stream = session.turn([3], max_new_tokens=300)
            assert stream.next() is not None
            again = new.resume(session.secret, turn=stream.number)
            assert again.rest_of_turn().whole().token_ids == continuation([3], 300)
            with pytest.raises(BackendRejected, match="taken: session 1 was resumed by another connection"):
                stream.whole()
            with pytest.raises(BackendRejected, match="no_session"):
                session.generate([1], max_new_tokens=1)
            old.ping()


class TestMemory:
    def test_a_full_budget_refuses_a_session_and_nothing_else(
        self, client: SessionClient, budget: DeviceBudget
    ) -> None:
        """The error is the budget's own; what is closed makes room."""
        sessions = [client.open(4000) for _ in range(5)]
        with pytest.raises(BudgetError, match="session-6"):
            client.open(1)
        assert sessions[0].generate([1], max_new_tokens=2).token_ids == continuation([1], 2)
        sessions[1].close()
        assert client.open(4000).generate([2], max_new_tokens=2).token_ids == continuation([2], 2)

    def test_a_stopped_server_holds_nothing(self, budget: DeviceBudget, tmp_path: Path) -> None:
        """Neither bytes nor a socket."""
        path = tmp_path / "s"
        address = Address.of_path(str(path))
        with serve_in_thread(lambda: Unhurried(budget), address, grace_s=0.1) as server:
            client = connect(server)
            stream = client.open(4000).turn([1], max_new_tokens=3900)
            stream.next()
        with pytest.raises(BackendBroken, match=r"stopping: the server stops|the connection ended"):
            stream.whole()
        client.close()
        assert budget.used_bytes == 0
        assert not path.exists()
