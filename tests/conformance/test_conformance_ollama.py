"""The rows that recorded answers of Ollama can show. None is a pass: no Ollama ran.

With a real one at OLLAMA_HOST or 127.0.0.1:11434 the core and the extras run on it, with the model of
ASSAY_OLLAMA_MODEL, and its cells take the place of these.
"""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from harness.backends import Backend, Chunk, Request
from harness.errors import BackendRejected, BackendTimeout, BackendUnreachable
from harness.launchers.canned import CannedServer, hanging, routing
from tests.conformance.subjects import NOWHERE, run, use
from tests.ollama_replay import CHAT, client, ollama, transcript

__all__ = ["ollama"]

WHOLE = Request(messages=CHAT.messages, max_tokens=300, stream=False)
AGE = {
    "type": "object",
    "properties": {"age": {"type": "integer"}, "available": {"type": "boolean"}},
    "required": ["age", "available"],
}


@pytest.mark.replays("ollama", "core", "has the protocols methods")
def test_the_client_is_a_backend(ollama: CannedServer) -> None:
    """It has the protocol's methods, and names its role and model."""
    backend = client(ollama)
    assert isinstance(backend, Backend)
    assert (backend.model, backend.name) == ("llama3.2", "small")


@pytest.mark.replays("ollama", "streaming", "chunks join to the text")
@pytest.mark.parametrize("size", [1, 10_000])
def test_recorded_chunks_join_to_the_text(ollama: CannedServer, size: int) -> None:
    """However the network cuts the documented stream, the pieces are its text, each with its time."""
    ollama.behave = transcript("generate_streamed").cut(size)
    backend, seen = client(ollama), []
    request = Request(prompt="x", max_tokens=9)
    [answer] = use(backend, lambda: asyncio.gather(backend.generate(request, seen.append)))
    assert "".join(chunk.text for chunk in seen) == answer.text == "That's a fantastic question!"
    assert tuple(chunk.time_s for chunk in seen) == answer.chunk_times_s
    assert all(isinstance(chunk, Chunk) and chunk.text for chunk in seen)


@pytest.mark.replays("ollama", "streaming", "times are in order on this processes clock")
def test_times_of_a_recorded_answer_are_in_order(ollama: CannedServer) -> None:
    """Sent, first token, chunks and done follow each other between the caller's own readings."""
    ollama.behave = transcript("chat_streamed").cut(100)
    before_s = time.perf_counter()
    [answer] = run(client(ollama), CHAT)
    marks = [before_s, answer.sent_s, *answer.chunk_times_s, answer.done_s, time.perf_counter()]
    assert marks == sorted(marks)
    assert answer.first_token_s == answer.chunk_times_s[0] > answer.sent_s


@pytest.mark.replays("ollama", "streaming", "a whole answer is the streamed one without inner times")
def test_a_recorded_whole_answer_has_no_inner_times(ollama: CannedServer) -> None:
    """Streaming is not asked for, and no time of a first token is made up."""
    ollama.behave = transcript("chat_whole").cut(1000)
    [answer] = run(client(ollama), WHOLE)
    assert ollama.exchanges[0].body["stream"] is False
    assert (answer.text, answer.first_token_s, answer.chunk_times_s) == (
        "Hello! How are you today?",
        None,
        (),
    )


@pytest.mark.replays("ollama", "counts", "an answer that ends itself is shorter than its limit")
def test_a_recorded_answer_ends_below_its_limit(ollama: CannedServer) -> None:
    """The count and the reason of the end are the server's."""
    ollama.behave = transcript("generate_whole").cut(1000)
    [answer] = run(client(ollama), Request(prompt="hi", max_tokens=20, stream=False))
    assert (answer.output_tokens, answer.finish_reason) == (18, "stop")


@pytest.mark.replays("ollama", "trouble", "a deadline ends the wait")
def test_a_silent_server_is_given_up(ollama: CannedServer) -> None:
    """An answer that takes longer than the deadline is an error that names role and limit."""
    ollama.behave = hanging
    backend = client(ollama)
    backend = type(backend)(ollama.url, model="llama3.2", name="small", timeout_s=0.05)
    with pytest.raises(BackendTimeout, match=r"small: .*0\.05 s"):
        run(backend, CHAT)


@pytest.mark.replays("ollama", "trouble", "a cancelled call frees the server")
def test_a_cancelled_call_hangs_up(ollama: CannedServer) -> None:
    """Cancelling closes the connection, which is what ends Ollama's work."""
    ollama.behave = hanging
    backend = client(ollama)

    async def cancel() -> None:
        task = asyncio.create_task(backend.generate(CHAT))
        while not ollama.exchanges:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ends_s = time.monotonic() + 5
        while not ollama.exchanges[0].is_abandoned and time.monotonic() < ends_s:
            await asyncio.sleep(0.01)

    use(backend, cancel)
    assert ollama.exchanges[0].is_abandoned


@pytest.mark.replays("ollama", "trouble", "a server that is not there is not ready")
def test_no_server_is_not_ready(ollama: CannedServer) -> None:
    """`ready` says that nobody answers."""
    backend = client(ollama)
    backend.url = NOWHERE
    with pytest.raises(BackendUnreachable, match="small"):
        use(backend, backend.ready)


@pytest.mark.replays("ollama", "trouble", "a server that is there is ready")
def test_a_recorded_list_of_models_makes_it_ready(ollama: CannedServer) -> None:
    """`ready` returns for a model of the documented list, and names the line that pulls another."""
    ollama.behave_at_models = routing(tags=transcript("tags").cut(1000))
    backend = client(ollama)
    backend.model = "llama3"
    use(backend, backend.ready)
    backend.model = "gone"
    with pytest.raises(BackendRejected, match="ollama pull gone"):
        use(backend, backend.ready)


@pytest.mark.replays("ollama", "trouble", "calls one after another are all answered")
def test_dropped_idle_connections_lose_no_call() -> None:
    """A server that drops connections between requests gets each request once, and all are answered."""
    with CannedServer(idle_s=0.005) as dropping:
        dropping.behave = transcript("generate_whole").cut(1000)
        backend, request = client(dropping), Request(prompt="hi", max_tokens=20, stream=False)

        async def converse() -> list[int | None]:
            counts = []
            for i in range(30):
                counts.append((await backend.generate(request)).output_tokens)
                await asyncio.sleep(0.002 * (i % 5))
            return counts

        assert use(backend, converse) == [18] * 30
        assert len(dropping.exchanges) == 30


@pytest.mark.replays("ollama", "trouble", "serves one event loop after another")
def test_a_client_left_open_works_on_the_next_loop(ollama: CannedServer) -> None:
    """It is bound to no event loop."""
    ollama.behave = transcript("generate_whole").cut(1000)
    backend, request = client(ollama), Request(prompt="hi", max_tokens=20, stream=False)
    for _ in range(2):
        assert asyncio.run(backend.generate(request)).output_tokens == 18
    use(backend, lambda: backend.generate(request))


@pytest.mark.replays("ollama", "extras", "JSON schema, chat")
def test_a_recorded_answer_keeps_its_schema(ollama: CannedServer) -> None:
    """The documented answer is an instance of the documented schema, which is what was sent."""
    ollama.behave = transcript("chat_schema").cut(1000)
    [answer] = run(client(ollama), Request(messages=CHAT.messages, max_tokens=30, json_schema=AGE))
    assert ollama.exchanges[0].body["format"] == AGE
    assert answer.schema_error is None
    assert set(json.loads(answer.text)) == {"age", "available"}


@pytest.mark.replays("ollama", "extras", "prefill and decode times")
def test_recorded_durations_are_seconds(ollama: CannedServer) -> None:
    """Load, prefill and decode are told apart, in nanoseconds."""
    ollama.behave = transcript("chat_streamed").cut(1000)
    [answer] = run(client(ollama), CHAT)
    engine = answer.engine
    assert (engine.load_s, engine.prefill_s, engine.decode_s) == (0.001334875, 0.342546, 4.535599)
