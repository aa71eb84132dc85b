"""The session server and its client, over the counting engine: what one asks for the other gives.

The engine's next token is a hash of all tokens before it: a token lost, doubled or crossed changes the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.errors import BackendBroken, BackendRejected, BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.counting import VOCAB_SIZE, CountingEngine, continuation
from harness.sessions.link import MAX_LINK_BPS, Pacer
from harness.sessions.server import SessionServer, serve_in_thread

TOKEN_BYTES = 64
CAPACITY_BYTES = 20_000 * TOKEN_BYTES


class Unhurried(CountingEngine):
    """A millisecond per step, so that something can happen during a turn."""

    def step(self) -> list:
        time.sleep(0.001)
        return super().step()


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(CAPACITY_BYTES)
    yield budget
    budget.remove()


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Address.of_path(str(tmp_path / "s")) if request.param == "unix" else Address()


@pytest.fixture
def server(budget: DeviceBudget, tmp_path: Path) -> Iterator[SessionServer]:
    with serve_in_thread(lambda: Unhurried(budget), Address.of_path(str(tmp_path / "s"))) as server:
        yield server


@pytest.fixture
def client(server: SessionServer) -> Iterator[SessionClient]:
    with connect(server) as client:
        yield client


def connect(server: SessionServer) -> SessionClient:
    return SessionClient.connect(server.address, timeout_s=10)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.01)
    return True


class TestTurns:
    def test_new_tokens_go_up_and_the_continuation_comes_down(
        self, address: Address, budget: DeviceBudget
    ) -> None:
        """Over a unix socket and over TCP; the second turn goes on where the first ended."""
        with serve_in_thread(lambda: CountingEngine(budget), address) as server, connect(server) as client:
            session = client.open(100)
            one = session.generate([1, 2, 3], max_new_tokens=10)
            two = session.generate([4], max_new_tokens=5)
        assert one.token_ids == continuation([1, 2, 3], 10)
        assert two.token_ids == continuation([1, 2, 3, *one.token_ids, 4], 5)
        assert [one.done.reason, two.done.reason] == ["length", "length"]

    def test_reuse_is_counted_and_only_new_tokens_are_computed(self, client: SessionClient) -> None:
        """The last token of a turn was never computed: it is, with the next."""
        session = client.open(100)
        one = session.generate(range(50), max_new_tokens=10).done
        two = session.generate([7], max_new_tokens=1).done
        assert (one.reused_tokens, one.prefilled_tokens) == (0, 50)
        assert (two.reused_tokens, two.prefilled_tokens) == (59, 2)

    def test_the_parts_of_a_turn_fit_into_its_wall_time(self, client: SessionClient) -> None:
        """Queue, compute and transfer at the server are no more than what the client waited."""
        generated = client.open(100).generate([1], max_new_tokens=20)
        done = generated.done
        inside_s = done.queue_s + done.compute_s + done.transfer_s
        assert 0 < inside_s <= generated.done_s - generated.sent_s
        assert done.first_queue_s + done.first_compute_s + done.first_transfer_s <= inside_s

    def test_a_stop_token_ends_a_turn(self, client: SessionClient) -> None:
        """It is given out, and nothing after it."""
        expected = continuation([5], 20)
        generated = client.open(100).generate([5], max_new_tokens=20, stop_ids=[expected[3]])
        assert generated.token_ids == expected[:4]
        assert generated.done.reason == "stop"

    def test_logits_come_with_each_token_when_wanted(self, client: SessionClient) -> None:
        """Float32, as many as the vocabulary has words."""
        tokens = client.open(100).generate([5], max_new_tokens=3, want_logits=True).tokens
        for token in tokens:
            assert token.logits is not None
            assert np.array_equal(token.logits, np.full(VOCAB_SIZE, token.token_id, np.float32))

    def test_sessions_of_one_connection_do_not_mix(self, client: SessionClient) -> None:
        """Three turns at once, read in another order than they were sent."""
        sessions = [client.open(100) for _ in range(3)]
        streams = [session.turn([at], max_new_tokens=30) for at, session in enumerate(sessions)]
        for at in (2, 0, 1):
            assert [token.token_id for token in streams[at]] == continuation([at], 30)

    def test_a_cancelled_turn_has_not_happened(self, client: SessionClient) -> None:
        """It ends early, and the session goes on from before it."""
        session = client.open(4000)
        before = session.generate([1], max_new_tokens=3).token_ids
        stream = session.turn([9], max_new_tokens=3000)
        got = [stream.next(), stream.next()]
        stream.cancel()
        rest = stream.whole()
        assert rest.done.reason == "cancelled"
        assert 2 <= len(got) + len(rest.tokens) == rest.done.num_tokens < 3000
        assert rest.done.reused_tokens is None
        again = session.generate([2], max_new_tokens=3).token_ids
        assert again == continuation([1, *before, 2], 3)

    def test_cancelling_what_is_over_does_nothing(self, client: SessionClient) -> None:
        """The turn had ended before the word came."""
        stream = client.open(100).turn([1], max_new_tokens=1)
        assert stream.whole().done.reason == "length"
        stream.cancel()
        client.ping()

    @pytest.mark.parametrize(
        ("token_ids", "max_new_tokens", "says"),
        [
            ([VOCAB_SIZE], 1, f"token id {VOCAB_SIZE}; the model has {VOCAB_SIZE}"),
            ([1], 0, "max_new_tokens 0; give 1 to"),
            ([1], 2**31, "max_new_tokens 2147483648; give 1 to"),
            ([], 1, "no token to go on from"),
            ([1] * 90, 20, "exceed its 100"),
        ],
    )
    def test_a_turn_without_sense_is_refused_and_the_session_lives(
        self, client: SessionClient, token_ids: list[int], max_new_tokens: int, says: str
    ) -> None:
        """The message names the value; what follows works."""
        session = client.open(100)
        with pytest.raises(BackendRejected, match=says):
            session.generate(token_ids, max_new_tokens=max_new_tokens)
        assert session.generate([1], max_new_tokens=2).token_ids == continuation([1], 2)

    def test_a_second_turn_of_a_busy_session_is_refused(self, client: SessionClient) -> None:
        """The first goes on undisturbed."""
        session = client.open(1000)
        first = session.turn([1], max_new_tokens=100)
        with pytest.raises(BackendRejected, match="busy: a turn of session 1 runs"):
            session.generate([2], max_new_tokens=1)
        assert first.whole().token_ids == continuation([1], 100)


class TestArrival:
    def test_a_token_has_the_time_it_came_not_the_time_it_was_asked_for(self, client: SessionClient) -> None:
        """Tokens of two turns come mixed; reading one turn stamps the other's."""
        long, short = client.open(400), client.open(400)
        one, two = long.turn([1], max_new_tokens=300), short.turn([2], max_new_tokens=10)
        first, second = one.whole(), two.whole()
        assert second.tokens[-1].came_s < first.tokens[-1].came_s
        for generated in (first, second):
            times = [token.came_s for token in generated.tokens]
            assert times == sorted(times)
            assert generated.sent_s < times[0]


class TestBytes:
    def test_a_token_costs_less_than_64_bytes(self, client: SessionClient) -> None:
        """Prefix, number of the turn, token: 16 or so, and an end per turn."""
        generated = client.open(200).generate(range(72), max_new_tokens=50)
        assert (generated.bytes_up + generated.bytes_down) / 50 < 64

    def test_client_and_server_count_the_same_bytes(self, client: SessionClient) -> None:
        """Each at its own socket; the server's answer to the question is not yet in its count."""
        client.open(100).generate([1, 2, 3], max_new_tokens=20, want_logits=True)
        stats = client.stats()
        assert stats["connection_bytes_received"] == client.bytes_sent
        before = stats["connection_bytes_sent"]
        assert isinstance(before, int)
        length_of_answer = client.bytes_received - before
        assert 100 < length_of_answer < 2000
        assert client.stats()["connection_bytes_sent"] == before + length_of_answer

    def test_a_turns_bytes_are_those_of_its_frames(self, client: SessionClient) -> None:
        """At the client all of them, at the server all but the end that says so."""
        session = client.open(100)
        sent, received = client.bytes_sent, client.bytes_received
        generated = session.generate([1, 2, 3], max_new_tokens=20)
        assert generated.bytes_up == client.bytes_sent - sent == generated.done.bytes_up
        assert generated.bytes_down == client.bytes_received - received
        assert 0 < generated.bytes_down - generated.done.bytes_down < 150


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
        monkeypatch.setattr("harness.sessions.client.PIECE_BYTES", TOKEN_BYTES * 5 // 2)
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
        assert within(5, lambda: budget.used_bytes == 0)
        with connect(server) as client, pytest.raises(BackendRejected, match="no session has that secret"):
            client.resume(session.secret)

    def test_a_session_that_nobody_comes_back_for_ends(
        self, server: SessionServer, budget: DeviceBudget
    ) -> None:
        """After as many seconds as it was opened for."""
        with connect(server) as client:
            client.open(100, linger_s=1)
        time.sleep(0.3)
        assert budget.used_bytes == 100 * TOKEN_BYTES
        assert within(5, lambda: budget.used_bytes == 0)

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
        with serve_in_thread(lambda: Unhurried(budget), Address.of_path(str(path))) as server:
            client = connect(server)
            stream = client.open(4000).turn([1], max_new_tokens=3900)
            stream.next()
        with pytest.raises(BackendBroken, match=r"stopping: the server stops|the connection ended"):
            stream.whole()
        client.close()
        assert budget.used_bytes == 0
        assert not path.exists()


class TestLink:
    def test_a_transfer_takes_the_time_its_bits_need(self) -> None:
        """Late wake-ups are made up for; an idle link has nothing saved up."""
        now_s, oversleep_s = [0.0], 0.004

        def sleep(seconds: float) -> None:
            now_s[0] += seconds + oversleep_s

        pacer = Pacer(8_000_000, now=lambda: now_s[0], sleep=sleep)
        for began_s in (0.0, 5.0):
            now_s[0] = began_s
            pacer.begin()
            for _ in range(100):
                pacer.carry(10_000)
            assert 1.0 <= now_s[0] - began_s <= 1.0 + 2 * oversleep_s

    def test_a_client_is_as_slow_as_the_link_the_server_declares(
        self, budget: DeviceBudget, tmp_path: Path
    ) -> None:
        """A megabit each way at 10 Mbit/s: no less than its time."""
        path = Address.of_path(str(tmp_path / "s"))
        with (
            serve_in_thread(lambda: CountingEngine(budget), path, link_bps=10_000_000) as server,
            connect(server) as client,
        ):
            session = client.open(3000)
            session.generate(range(1, 900), max_new_tokens=1)
            began_s = time.perf_counter()
            kv = session.get_kv()
            down_s = time.perf_counter()
            session.put_kv(0, kv.token_ids, kv.rows)
            up_s = time.perf_counter()
        least_s = len(kv.rows) * 8 / 10e6
        assert down_s - began_s >= least_s > 0.04
        assert up_s - down_s >= least_s

    def test_a_link_too_fast_to_pace_is_refused(self) -> None:
        """It is to be modelled from the bytes."""
        with pytest.raises(UsageError, match="model a faster one"):
            Pacer(MAX_LINK_BPS + 1)
