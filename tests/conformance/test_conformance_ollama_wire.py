"""The clients' rows for Ollama, whose streams are JSON lines: trouble, cuts, dropped connections.

Classes and tests bear the names of those in `test_conformance_wire.py` and `test_conformance_trouble.py`:
the table finds the row by them. What those send in the OpenAI API's words is in
`tests/test_backends_ollama.py`.
"""

from __future__ import annotations

import pytest

from harness.backends import EngineTimes, Request
from harness.backends.ollama import OllamaBackend
from harness.errors import BackendError, BackendTimeout
from harness.launchers.canned import Behaviour, CannedServer, replaying
from tests.conformance.frames import CHAT, TEXT
from tests.conformance.subjects import run
from tests.conformance.test_conformance_trouble import TestBrokenServers as BrokenServers
from tests.conformance.test_conformance_trouble import TestConnections as Connections
from tests.ollama_replay import line, streamed
from tests.test_backends_ollama_trouble import FAILURES

LINES = "application/x-ndjson"


def piece(text: str, **more: object) -> bytes:
    return line(**{"message": {"role": "assistant", "content": text}, "done": False, **more})


END = piece("", done=True, done_reason="stop")
STREAM = piece("Grüße, ") + piece("世界 🙂") + END


@pytest.fixture(params=["ollama"])
def client(canned: CannedServer) -> OllamaBackend:
    """Ollama's client, speaking to the canned server."""
    return OllamaBackend(canned.url, model="canned", name="small", timeout_s=5)


class TestBrokenServers(BrokenServers):
    """The same, and the failures of Ollama's own form."""

    @FAILURES
    def test_a_failure_is_one_clear_error(
        self,
        client: OllamaBackend,
        canned: CannedServer,
        behave: Behaviour,
        error: type[BackendError],
        says: str,
    ) -> None:
        """The error has the kind that fits, and says who failed and how."""
        canned.behave = behave
        timeout_s = 0.3 if error is BackendTimeout else 30
        backend = OllamaBackend(canned.url, model="canned", name="small", timeout_s=timeout_s)
        with pytest.raises(error, match=f"(?s)small: .*{says}") as caught:
            run(backend, CHAT)
        assert canned.url in str(caught.value)
        assert len(canned.exchanges) == 1, "the request was sent more than once"


class TestConnections(Connections):
    """The same."""

    test_a_server_that_cannot_serve_yet_is_not_ready = None


class TestStreams:
    """Streams of JSON lines, however the network and the server cut them."""

    def test_characters_cut_anywhere_are_whole_again(
        self, client: OllamaBackend, canned: CannedServer
    ) -> None:
        """Each byte of the stream in a packet of its own gives the same text."""
        canned.behave = streamed(STREAM, size=1)
        [answer] = run(client, CHAT)
        assert (answer.text, answer.finish_reason) == (TEXT, "stop")

    @pytest.mark.parametrize(
        "stream",
        [STREAM.replace(b"\n", b"\r\n"), STREAM.replace(b"\n", b"\n\n"), STREAM.rstrip(b"\n")],
        ids=["crlf", "blank lines", "no end"],
    )
    @pytest.mark.parametrize("cut", [1, 7, 10_000])
    def test_every_legal_form_is_understood(
        self, client: OllamaBackend, canned: CannedServer, stream: bytes, cut: int
    ) -> None:
        """Line ends and endings differ, and the answer does not."""
        canned.behave = streamed(stream, size=cut)
        [answer] = run(client, CHAT)
        assert (answer.text, answer.finish_reason) == (TEXT, "stop")

    def test_chunk_times_follow_the_servers_pace(self, client: OllamaBackend, canned: CannedServer) -> None:
        """Each piece is timed when it came, not when the answer was whole."""
        canned.behave = replaying(*map(piece, "abc"), END, pause_s=0.2, content_type=LINES)
        [answer] = run(client, CHAT)
        gaps_s = [b - a for a, b in zip(answer.chunk_times_s, answer.chunk_times_s[1:], strict=False)]
        assert len(gaps_s) == 2
        assert all(gap_s > 0.1 for gap_s in gaps_s)

    def test_a_role_is_no_token(self, client: OllamaBackend, canned: CannedServer) -> None:
        """A first line without text does not end the wait for the first token."""
        canned.behave = replaying(piece(""), piece("a"), END, pause_s=0.05, content_type=LINES)
        [answer] = run(client, CHAT)
        assert answer.ttft_s is not None
        assert answer.ttft_s >= 0.05
        assert len(answer.chunk_times_s) == 1

    def test_a_server_that_cannot_stream_is_understood(
        self, client: OllamaBackend, canned: CannedServer
    ) -> None:
        """A whole answer to a streamed request is taken, without inner times."""
        whole = piece("hi", done=True, done_reason="stop")
        canned.behave = replaying(whole, content_type="application/json")
        [answer] = run(client, CHAT)
        assert (answer.text, answer.first_token_s, answer.output_tokens) == ("hi", None, None)


class TestAccounts:
    """What Ollama says of its own work."""

    def test_counts_are_the_servers_and_not_the_chunks(
        self, client: OllamaBackend, canned: CannedServer
    ) -> None:
        """One line may hold many tokens: the counts of the last decide."""
        counts = {"prompt_eval_count": 5, "eval_count": 17, "prompt_eval_cached_count": 4}
        canned.behave = streamed(piece("all at once"), piece("", done=True, done_reason="stop", **counts))
        [answer] = run(client, CHAT)
        assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (5, 17, 4)

    def test_what_is_not_said_is_none(self, client: OllamaBackend, canned: CannedServer) -> None:
        """Missing counts and times are absent, never 0."""
        canned.behave = streamed(STREAM)
        [answer] = run(client, CHAT)
        assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (None, None, None)
        assert (answer.model, answer.token_logprobs, answer.tpot_s) == (None, None, None)
        assert answer.engine == EngineTimes()

    def test_engine_times_are_the_servers(self, client: OllamaBackend, canned: CannedServer) -> None:
        """Nanoseconds become seconds."""
        durations = {"prompt_eval_duration": 12_500_000, "eval_duration": 40_000_000}
        canned.behave = streamed(piece("a"), piece("", done=True, done_reason="stop", **durations))
        [answer] = run(client, Request(prompt="x", max_tokens=2))
        assert (answer.engine.prefill_s, answer.engine.decode_s) == (0.0125, 0.04)
