"""The session server and its client, over the counting engine: what one asks for the other gives.

The engine's next token is a hash of all tokens before it: a token lost, doubled or crossed changes the rest.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import BackendRejected
from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.counting import VOCAB_SIZE, CountingEngine, continuation
from harness.sessions.server import serve_in_thread
from tests.session_servers import connect


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
