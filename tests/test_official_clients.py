"""The official clients and ours, on the same server: same text, same counts.

`openai` speaks to a real llama.cpp server. `ollama` speaks to a replay of Ollama's documentation, since no
Ollama runs here: that says that both read an answer alike, and nothing of the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import httpx
import ollama as official_ollama
import openai as official_openai
import pytest

from harness.backends import Completion, Message, Request
from harness.backends.ollama import OllamaBackend
from harness.backends.openai import OpenAIBackend
from harness.launchers import EmbeddedLauncher, Server
from harness.launchers.canned import CannedServer
from harness.models import gguf_path
from tests.conformance.subjects import run
from tests.ollama_replay import ollama, transcript

__all__ = ["ollama"]

T = TypeVar("T")

GREEDY: dict[str, Any] = {"max_tokens": 24, "temperature": 0.0}
SEEDED: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "top_p": 0.9, "seed": 11}
SAMPLINGS = {"greedy": GREEDY, "seed 11": SEEDED, "seed 12": {**SEEDED, "seed": 12}}
STOP = (")",)


class Answer(NamedTuple):
    """What both clients must agree on."""

    text: str
    prompt_tokens: int | None
    output_tokens: int | None
    finish_reason: str | None


@pytest.fixture(scope="module")
def engine() -> Iterator[Server]:
    """llama.cpp with the smallest pocket model."""
    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano").launch() as server:
        yield server


def ours(completion: Completion) -> Answer:
    """The answer as our client gave it."""
    counts = completion.prompt_tokens, completion.output_tokens
    return Answer(completion.text, *counts, completion.finish_reason)


def theirs(url: str, ask: Callable[[official_openai.AsyncOpenAI], Awaitable[T]]) -> T:
    """Ask with the official client, a connection for each request as ours."""

    async def asked() -> T:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(limits=limits, trust_env=False) as http,
            official_openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0
            ) as client,
        ):
            return await ask(client)

    return asyncio.run(asked())


async def _chat(client: official_openai.AsyncOpenAI, stream: bool, **asked: Any) -> Answer:
    given: dict[str, Any] = {"model": "nano", "messages": [{"role": "user", "content": "hello"}], **asked}
    if not stream:
        whole = await client.chat.completions.create(**given)
        return _answer(whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage)
    pieces, reason, usage = [], None, None
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async for frame in await client.chat.completions.create(**given, **options):
        usage = frame.usage or usage
        for choice in frame.choices:
            pieces.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
    return _answer("".join(pieces), reason, usage)


async def _complete(client: official_openai.AsyncOpenAI, stream: bool, **asked: Any) -> Answer:
    given: dict[str, Any] = {"model": "nano", "prompt": "def f(x):\n    return", **asked}
    if not stream:
        whole = await client.completions.create(**given)
        return _answer(whole.choices[0].text, whole.choices[0].finish_reason, whole.usage)
    pieces, reason, usage = [], None, None
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async for frame in await client.completions.create(**given, **options):
        usage = frame.usage or usage
        for choice in frame.choices:
            pieces.append(choice.text or "")
            reason = choice.finish_reason or reason
    return _answer("".join(pieces), reason, usage)


def _answer(text: str | None, reason: str | None, usage: Any) -> Answer:
    return Answer(text or "", usage.prompt_tokens, usage.completion_tokens, reason)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("stop", [(), STOP], ids=["no stop", "stop"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
class TestOpenAI:
    """The official `openai` client beside ours, on one real llama.cpp server."""

    def test_a_chat_is_the_same(
        self, engine: Server, sampling: str, stop: tuple[str, ...], stream: bool
    ) -> None:
        """Text, counts and ending agree, greedy and by seed."""
        asked = SAMPLINGS[sampling]
        request = Request(messages=(Message("user", "hello"),), stop=stop, stream=stream, **asked)
        [mine] = run(OpenAIBackend(engine.url, model="nano"), request)
        extra = {"stop": list(stop)} if stop else {}
        assert ours(mine) == theirs(engine.url, lambda client: _chat(client, stream, **asked, **extra))
        assert mine.text

    def test_a_completion_is_the_same(
        self, engine: Server, sampling: str, stop: tuple[str, ...], stream: bool
    ) -> None:
        """The same of a raw prompt; a stop string is no part of the text."""
        asked = SAMPLINGS[sampling]
        request = Request(prompt="def f(x):\n    return", stop=stop, stream=stream, **asked)
        [mine] = run(OpenAIBackend(engine.url, model="nano"), request)
        extra = {"stop": list(stop)} if stop else {}
        assert ours(mine) == theirs(engine.url, lambda client: _complete(client, stream, **asked, **extra))
        assert not stop or ")" not in mine.text


def test_seeds_really_differ(engine: Server) -> None:
    """What agrees above is not one text for every seed."""
    texts = [
        ours(answer).text
        for answer in run(
            OpenAIBackend(engine.url, model="nano"),
            *(Request(prompt="def f(x):\n    return", **asked) for asked in SAMPLINGS.values()),
        )
    ]
    assert len(set(texts)) == 3


class TestOllamaReplay:
    """The official `ollama` client beside ours, on one replay of Ollama's documentation."""

    @pytest.mark.parametrize("name", ["chat_streamed_with_message", "chat_whole", "chat_schema"])
    def test_a_replayed_chat_is_read_alike(self, ollama: CannedServer, name: str) -> None:
        """Text, counts, ending and durations agree."""
        ollama.behave = transcript(name).cut(64)
        stream = name == "chat_streamed_with_message"
        request = Request(messages=(Message("user", "hi"),), max_tokens=9, stream=stream)
        [mine] = run(OllamaBackend(ollama.url, model="llama3.2"), request)
        asked: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}
        with official_ollama.Client(host=ollama.url, trust_env=False) as client:
            frames = list(client.chat(**asked, stream=True)) if stream else [client.chat(**asked)]
        text = "".join(frame.message.content or "" for frame in frames if frame.message)
        _agree(mine, text, frames[-1])

    @pytest.mark.parametrize("name", ["generate_streamed", "generate_whole"])
    def test_a_replayed_text_is_read_alike(self, ollama: CannedServer, name: str) -> None:
        """The same of a raw prompt."""
        ollama.behave = transcript(name).cut(64)
        stream = name == "generate_streamed"
        [mine] = run(
            OllamaBackend(ollama.url, model="gemma3"), Request(prompt="hi", max_tokens=9, stream=stream)
        )
        asked: dict[str, Any] = {"model": "gemma3", "prompt": "hi", "raw": True}
        with official_ollama.Client(host=ollama.url, trust_env=False) as client:
            frames = list(client.generate(**asked, stream=True)) if stream else [client.generate(**asked)]
        _agree(mine, "".join(frame.response for frame in frames), frames[-1])

    def test_what_ours_sends_the_official_client_sends_too(self, ollama: CannedServer) -> None:
        """The same request, field for field, but for `truncate`, which the official client does not know."""
        ollama.behave = transcript("chat_whole").cut(1000)
        schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
        request = Request(
            messages=(Message("user", "hi"),),
            max_tokens=9,
            temperature=0.5,
            seed=3,
            stop=("x",),
            json_schema=schema,
            logprobs=True,
            stream=False,
        )
        run(OllamaBackend(ollama.url, model="llama3.2", keep_alive=60, num_ctx=512), request)
        mine = ollama.exchanges[0].body
        with official_ollama.Client(host=ollama.url, trust_env=False) as client:
            client.chat(
                model="llama3.2",
                messages=[{"role": "user", "content": "hi"}],
                stream=False,
                format=schema,
                options=mine["options"],
                keep_alive=60,
                logprobs=True,
            )
        official = ollama.exchanges[1].body
        assert mine.pop("truncate") is False
        assert official.pop("tools", []) == []
        assert mine == official


def _agree(mine: Completion, text: str, last: Any) -> None:
    """Our completion and the official client's last frame say the same."""
    assert mine.text == text
    assert (mine.prompt_tokens, mine.output_tokens) == (last.prompt_eval_count, last.eval_count)
    assert (mine.finish_reason, mine.model) == (last.done_reason, last.model)
    durations = (last.load_duration, last.prompt_eval_duration, last.eval_duration)
    engine = mine.engine
    assert (engine.load_s, engine.prefill_s, engine.decode_s) == tuple(
        None if nanoseconds is None else nanoseconds / 1e9 for nanoseconds in durations
    )
