"""Ollama's API: what is sent, and what is made of answers, seen at replays of its documentation.

No Ollama runs here. Transcripts are those of `tests/data/ollama`, each with its source; other lines are
composed in the form of its api/types.go.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends import Backend, BatchSampler, CacheFlusher, Chunk, Message, Request, Sleeper
from harness.backends.ndjson import LineParser
from harness.backends.ollama import OllamaBackend
from harness.backends.ollama_answer import full_name
from harness.errors import BackendBroken, BackendRejected, UsageError
from harness.launchers.canned import CannedServer, replaying, routing
from tests.conformance.frames import SCHEMA
from tests.conformance.subjects import run, use
from tests.ollama_replay import CHAT, client, line, ollama, streamed, transcript

__all__ = ["ollama"]

WHOLE = Request(messages=CHAT.messages, max_tokens=300, stream=False)


class TestSent:
    """The request on the wire."""

    def test_a_chat_says_all_that_the_request_says(self, ollama: CannedServer) -> None:
        """Every parameter stands under Ollama's name for it, and none is left to the Modelfile."""
        ollama.behave = transcript("chat_whole").cut(1000)
        request = Request(
            messages=(Message("system", "be brief"), Message("user", "héllo")),
            max_tokens=5,
            temperature=0.7,
            top_p=0.9,
            seed=11,
            stop=("\n", "END"),
            json_schema=SCHEMA,
            logprobs=True,
            stream=False,
        )
        run(client(ollama, keep_alive="10m", num_ctx=2048), request)
        [exchange] = ollama.exchanges
        assert exchange.path == "/api/chat"
        assert exchange.body == {
            "model": "llama3.2",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "héllo"}],
            "stream": False,
            "truncate": False,
            "format": SCHEMA,
            "logprobs": True,
            "keep_alive": "10m",
            "options": {
                "num_predict": 5,
                "temperature": 0.7,
                "top_p": 0.9,
                "top_k": 0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
                "seed": 11,
                "stop": ["\n", "END"],
                "num_ctx": 2048,
            },
        }

    def test_a_prompt_is_sent_raw(self, ollama: CannedServer) -> None:
        """No template is put around a raw prompt, and what was left open is not sent."""
        ollama.behave = transcript("generate_whole").cut(1000)
        run(client(ollama), Request(prompt="def f(", max_tokens=3))
        [exchange] = ollama.exchanges
        assert exchange.path == "/api/generate"
        assert (exchange.body["prompt"], exchange.body["raw"]) == ("def f(", True)
        assert exchange.body["options"]["temperature"] == 0.0
        assert not {"keep_alive", "format", "logprobs", "messages"} & set(exchange.body)
        assert not {"seed", "stop", "num_ctx"} & set(exchange.body["options"])

    @pytest.mark.parametrize(
        ("given_", "sent"), [("10m", "10m"), ("300", 300), ("-1", -1), ("1.5", 1.5), (0, 0)]
    )
    def test_a_bare_number_of_seconds_is_sent_as_one(
        self, ollama: CannedServer, given_: str | float, sent: str | float
    ) -> None:
        """Ollama refuses "300" as a duration without a unit, and takes 300."""
        ollama.behave = transcript("chat_whole").cut(1000)
        run(client(ollama, keep_alive=given_), WHOLE)
        assert ollama.exchanges[0].body["keep_alive"] == sent

    @pytest.mark.parametrize(
        ("request_", "says"),
        [
            (Request(prompt="x", max_tokens=3, ignore_eos=True), "cannot ignore the end.*drop ignore_eos"),
            (Request(prompt="", max_tokens=3), "an empty prompt only loads the model.*send a prompt"),
        ],
        ids=["exact length", "nothing"],
    )
    def test_what_ollama_would_not_do_is_refused_before_it_is_sent(
        self, ollama: CannedServer, request_: Request, says: str
    ) -> None:
        """A length that cannot be promised would be a wrong measurement."""
        with pytest.raises(BackendRejected, match=f"small: .*{says}"):
            run(client(ollama), request_)
        assert not ollama.exchanges

    def test_a_context_without_room_is_no_context(self) -> None:
        """A wrong option ends before anything is asked."""
        with pytest.raises(UsageError, match="small: num_ctx is 0"):
            OllamaBackend("http://x", model="m", name="small", num_ctx=0)


class TestReplays:
    """Answers of Ollama's documentation, byte for byte: replays, as no Ollama runs here."""

    @pytest.mark.parametrize("size", [1, 7, 100_000])
    def test_a_streamed_text_is_whole_however_it_is_cut(self, ollama: CannedServer, size: int) -> None:
        """Text, pieces and ending are those of the transcript; what it does not say is None."""
        ollama.behave = transcript("generate_streamed").cut(size)
        seen: list[Chunk] = []
        backend = client(ollama)
        request = Request(prompt="x", max_tokens=9)
        [answer] = use(backend, lambda: asyncio.gather(backend.generate(request, seen.append)))
        assert answer.text == "That's a fantastic question!"
        assert [chunk.text for chunk in seen] == ["That", "'", "s", " a", " fantastic", " question", "!"]
        assert tuple(chunk.time_s for chunk in seen) == answer.chunk_times_s
        assert (answer.finish_reason, answer.model) == ("stop", "gemma3")
        assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (None, None, None)
        assert (answer.engine.load_s, answer.engine.prefill_s, answer.engine.decode_s) == (None, None, None)

    def test_durations_are_seconds_of_load_prefill_and_decode(self, ollama: CannedServer) -> None:
        """A streamed chat ends with the server's counts and nanoseconds."""
        ollama.behave = transcript("chat_streamed").cut(50)
        [answer] = run(client(ollama), CHAT)
        assert (answer.text, answer.prompt_tokens, answer.output_tokens) == ("The", 26, 282)
        engine = answer.engine
        assert (engine.load_s, engine.prefill_s, engine.decode_s) == (0.001334875, 0.342546, 4.535599)
        assert answer.first_token_s == answer.chunk_times_s[0]

    @pytest.mark.parametrize(
        ("name", "request_", "text", "counts"),
        [
            ("chat_whole", WHOLE, "Hello! How are you today?", (26, 298)),
            (
                "generate_whole",
                Request(prompt="hi", max_tokens=20, stream=False),
                "Hello! How can I help you today?",
                (11, 18),
            ),
        ],
    )
    def test_a_whole_answer_has_no_inner_times(
        self, ollama: CannedServer, name: str, request_: Request, text: str, counts: tuple[int, int]
    ) -> None:
        """Counts and durations come with it, a time of the first token does not."""
        ollama.behave = transcript(name).cut(1000)
        [answer] = run(client(ollama), request_)
        assert (answer.text, (answer.prompt_tokens, answer.output_tokens)) == (text, counts)
        assert (answer.first_token_s, answer.chunk_times_s) == (None, ())
        assert answer.engine.load_s is not None

    def test_an_error_in_the_stream_ends_the_answer(self, ollama: CannedServer) -> None:
        """An error that follows text is no end of a text."""
        ollama.behave = transcript("generate_error").cut(10)
        with pytest.raises(BackendBroken, match=r"small: .*an error was encountered while running the model"):
            run(client(ollama), Request(prompt="x", max_tokens=9))

    def test_an_answer_to_a_schema_is_checked_here(self, ollama: CannedServer) -> None:
        """The documented answer is an instance of its schema, and is none of another."""
        ollama.behave = transcript("chat_schema").cut(1000)
        age = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
        name = {"type": "object", "required": ["name"]}
        requests = (Request(messages=CHAT.messages, max_tokens=30, json_schema=s) for s in (age, name))
        good, bad = run(client(ollama), *requests)
        assert good.schema_error is None
        assert bad.schema_error == "$: 'name' is a required property"

    def test_models_are_read_into_their_parts(self, ollama: CannedServer) -> None:
        """Tags, loaded models and cards carry units in their names, and None for what is omitted."""
        ollama.behave_at_models = routing(tags=transcript("tags").cut(9), ps=transcript("ps").cut(9))
        ollama.behave = routing(show=transcript("show").cut(1000), generate=transcript("unload").cut(1000))
        backend = client(ollama)

        async def ask() -> tuple[Any, ...]:
            answers = await backend.tags(), await backend.running(), await backend.show()
            await backend.unload()
            return answers

        tags, running, card = use(backend, ask)
        assert [(m.name, m.size_bytes, m.quantization) for m in tags] == [
            ("codellama:13b", 7365960935, "Q4_0"),
            ("llama3:latest", 3825819519, "Q4_0"),
        ]
        [loaded] = running
        assert (loaded.name, loaded.size_vram_bytes, loaded.num_ctx) == ("mistral:latest", 5137025024, None)
        pacific = timezone(timedelta(hours=-7))
        assert loaded.expires_at == datetime(2024, 6, 4, 14, 38, 31, 837530, tzinfo=pacific)
        assert (card.family, card.context_len, card.num_parameters) == ("llama", 8192, 8030261248)
        assert card.capabilities == ()
        assert ollama.exchanges[-1].body == {"model": "llama3.2", "keep_alive": 0}

    def test_a_model_that_is_not_there_is_named_with_the_line_that_pulls_it(
        self, ollama: CannedServer
    ) -> None:
        """The remedy can be typed as it stands."""
        ollama.behave = transcript("not_found").cut(1000)
        with pytest.raises(BackendRejected, match=r"404: .*not found.*; run `ollama pull llama3\.2`$"):
            run(client(ollama), CHAT)


class TestAnswers:
    """Answers as newer versions give them, composed here."""

    def test_thinking_is_no_answer_but_ends_the_wait(self, ollama: CannedServer) -> None:
        """The first token of a thought is the first token; its text is not in the answer."""
        thought = line(message={"role": "assistant", "content": "", "thinking": "Hm"}, done=False)
        word = line(message={"role": "assistant", "content": "Blue"}, done=False)
        end = line(message={"role": "assistant", "content": ""}, done=True, done_reason="stop", eval_count=9)
        ollama.behave = replaying(thought, word, end, pause_s=0.1, content_type="application/x-ndjson")
        [answer] = run(client(ollama), CHAT)
        assert (answer.text, answer.output_tokens) == ("Blue", 9)
        assert len(answer.chunk_times_s) == 2
        assert answer.chunk_times_s[1] - answer.chunk_times_s[0] > 0.05

    def test_cached_tokens_and_log_probabilities_are_taken_where_given(self, ollama: CannedServer) -> None:
        """One number per token, over all frames; a count of 0 stays 0."""
        ollama.behave = streamed(
            line(response="a", done=False, logprobs=[{"token": "a", "logprob": -0.5}]),
            line(response="b", done=False, logprobs=[{"token": "b", "logprob": -1.5}]),
            line(response="", done=True, done_reason="length", prompt_eval_cached_count=0, eval_count=2),
        )
        [answer] = run(client(ollama), Request(prompt="x", max_tokens=2, logprobs=True))
        assert answer.token_logprobs == (-0.5, -1.5)
        assert (answer.cached_tokens, answer.finish_reason) == (0, "length")

    @given(
        text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
        size=st.integers(1, 9),
    )
    def test_any_text_survives_any_cut(self, text: str, size: int) -> None:
        """Lines do not depend on how the network cuts them, inside a character or not."""
        frames = [line(response=text, done=False), line(response=text, done=True)]
        stream = b"".join(frames)
        parser = LineParser()
        lines = [each for i in range(0, len(stream), size) for each in parser.feed(stream[i : i + size])]
        assert [json.loads(each) for each in lines + parser.close()] == [json.loads(each) for each in frames]

    def test_a_last_line_without_its_end_is_a_line(self, ollama: CannedServer) -> None:
        """A server that forgets the last line feed is understood, and its text seen."""
        ollama.behave = streamed(line(response="Grüße", done=True, done_reason="stop").rstrip(b"\n"))
        backend, seen = client(ollama), []
        request = Request(prompt="x", max_tokens=2)
        [answer] = use(backend, lambda: asyncio.gather(backend.generate(request, seen.append)))
        assert (answer.text, [chunk.text for chunk in seen]) == ("Grüße", ["Grüße"])

    @pytest.mark.parametrize(("prompt_tokens", "fits"), [(1990, True), (2040, False), (2048, False)])
    def test_a_prompt_that_lost_its_beginning_is_no_answer(
        self, ollama: CannedServer, prompt_tokens: int, fits: bool
    ) -> None:
        """Counts that overfill the context say that Ollama dropped a part of the prompt."""
        ollama.behave = streamed(
            line(response="x", done=True, done_reason="stop", prompt_eval_count=prompt_tokens, eval_count=9)
        )
        request = Request(prompt="long", max_tokens=50)
        if fits:
            run(client(ollama, num_ctx=2048), request)
            return
        with pytest.raises(BackendRejected, match=r"small: .*dropped a part of the prompt; raise num_ctx"):
            run(client(ollama, num_ctx=2048), request)


def test_ollama_offers_what_its_api_has(ollama: CannedServer) -> None:
    """It is a backend; it has no `n`, no flush and no sleep to offer."""
    backend = client(ollama)
    assert isinstance(backend, Backend)
    assert not isinstance(backend, BatchSampler | CacheFlusher | Sleeper)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama3", "llama3:latest"),
        ("qwen2.5:0.5b-instruct", "qwen2.5:0.5b-instruct"),
        ("host:5000/library/Llama3", "host:5000/library/llama3:latest"),
    ],
)
def test_names_are_compared_with_their_tag(name: str, full: str) -> None:
    """A port is no tag."""
    assert full_name(name) == full
