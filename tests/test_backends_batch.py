"""Several answers to one request, drawn in one batch by a server that knows `n`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from harness.backends import Request
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.errors import BackendBroken, BackendError, BackendRejected
from harness.launchers import EmbeddedLauncher
from harness.launchers.canned import Behaviour, CannedServer, answering, refusing, replaying
from harness.models import gguf_path
from tests.conformance.frames import CHAT, SCHEMA
from tests.conformance.subjects import use

PROMPT = Request(prompt="x", max_tokens=3)


def saying(**frame: Any) -> Behaviour:
    """A server that answers with this object."""
    return replaying(json.dumps(frame).encode(), content_type="application/json")


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    """A server that records what it gets and behaves as told."""
    with CannedServer() as server:
        yield server


def test_answers_come_in_the_order_of_their_index(canned: CannedServer) -> None:
    """Texts, endings and the counts of all together."""
    choices = [
        {"index": 1, "text": "b", "finish_reason": "stop"},
        {"index": 0, "text": "a", "finish_reason": "length"},
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    canned.behave = saying(choices=choices, usage=usage)
    backend = OpenAIBackend(canned.url, model="m")
    batch = use(backend, lambda: backend.sample(PROMPT, 2))
    assert (batch.texts, batch.finish_reasons) == (("a", "b"), ("length", "stop"))
    assert (batch.prompt_tokens, batch.output_tokens) == (3, 9)
    assert 0 < batch.done_s - batch.sent_s < 5
    body = canned.exchanges[0].body
    assert (body["n"], body["stream"]) == (2, False)
    assert "stream_options" not in body


def test_a_count_of_the_first_answer_alone_is_no_count(canned: CannedServer) -> None:
    """llama.cpp, known by its timings, counts the first of several answers."""
    choices = [{"index": i, "message": {"content": "a"}, "finish_reason": "stop"} for i in range(2)]
    canned.behave = saying(choices=choices, usage={"completion_tokens": 1}, timings={"predicted_ms": 1})
    backend = LlamaCppBackend(canned.url, model="m")
    assert use(backend, lambda: backend.sample(CHAT, 2)).output_tokens is None


def chosen(*lists: list[float]) -> list[dict[str, Any]]:
    """Choices of a chat, each with a list of its tokens."""
    return [
        {
            "index": i,
            "message": {"content": "a"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"logprob": value} for value in values]},
        }
        for i, values in enumerate(lists)
    ]


@pytest.mark.parametrize(
    ("frame", "total", "each"),
    [
        ({"usage": {"completion_tokens": 2}, "timings": {"predicted_ms": 1}}, 5, (2, 3)),
        ({"usage": {"completion_tokens": 3}, "timings": {"predicted_ms": 1}}, None, ()),
        ({"usage": {"completion_tokens": 5}}, 5, (2, 3)),
        ({"usage": {"completion_tokens": 7}}, 7, ()),
        ({}, None, ()),
    ],
    ids=["first alone", "first unlike its list", "all", "all unlike their lists", "none"],
)
def test_listed_tokens_count_where_the_servers_own_number_agrees(
    canned: CannedServer, frame: dict[str, Any], total: int | None, each: tuple[int, ...]
) -> None:
    """A list that leaves out the last token of an answer is no count of it."""
    canned.behave = saying(choices=chosen([-0.5, -0.25], [-1.0, -2.0, -3.0]), **frame)
    backend = LlamaCppBackend(canned.url, model="m")
    batch = use(backend, lambda: backend.sample(replace(CHAT, logprobs=True), 2))
    assert (batch.output_tokens, batch.answer_tokens) == (total, each)
    assert batch.token_logprobs == ((-0.5, -0.25), (-1.0, -2.0, -3.0))


def test_a_real_servers_answers_are_counted_one_by_one() -> None:
    """Each is the one of its own seed, and their tokens add up to what the engine's counter saw."""
    request = Request(prompt="def f(x)", max_tokens=8, temperature=1.0, seed=3, logprobs=True)
    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", n_parallel=3).launch() as server:
        backend = LlamaCppBackend(server.url, model="nano")

        async def draw() -> None:
            batch = await backend.sample(request, 3)
            counters = await backend.metrics()
            assert counters["llamacpp:tokens_predicted_total"] == batch.output_tokens
            alone = [await backend.generate(replace(request, seed=3 + i)) for i in range(3)]
            assert batch.texts == tuple(one.text for one in alone)
            assert batch.answer_tokens == tuple(one.output_tokens for one in alone)
            assert [len(values or ()) for values in batch.token_logprobs] == list(batch.answer_tokens)

        use(backend, draw)


@pytest.mark.parametrize(
    ("behave", "error", "says"),
    [
        (
            saying(choices=[{"text": "a"}]),
            BackendRejected,
            "gave 1 of 2 answers.*send 2 requests instead",
        ),
        (refusing(400, "n must be 1 when greedy"), BackendRejected, "400.*n must be 1"),
        (saying(error={"message": "slot lost"}), BackendBroken, "no valid answer.*slot lost"),
        (saying(choices=5), BackendBroken, "no valid answer"),
        (
            saying(choices=[{"text": "a", "finish_reason": "abort"}, {"text": "b", "finish_reason": "stop"}]),
            BackendBroken,
            "the server gave up 1 of 2 .abort.",
        ),
    ],
    ids=["ignored", "refused", "error", "no answer", "given up"],
)
def test_a_batch_that_fails_is_one_clear_error(
    canned: CannedServer, behave: Behaviour, error: type[BackendError], says: str
) -> None:
    """A server that ignores `n` has not drawn what was asked."""
    canned.behave = behave
    backend = OpenAIBackend(canned.url, model="m", name="small")
    with pytest.raises(error, match=f"small: .*{says}"):
        use(backend, lambda: backend.sample(PROMPT, 2))


def test_each_answer_of_a_batch_is_held_to_the_schema(canned: CannedServer) -> None:
    """As one answer is: a server that drops the schema in silence is found out, answer by answer."""
    texts = ('{"answer": 1}', "free", '{"answer": "x"}')
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
    canned.behave = saying(choices=choices)
    backend = OpenAIBackend(canned.url, model="m")
    good, free, wrong = use(
        backend, lambda: backend.sample(replace(CHAT, json_schema=SCHEMA), 3)
    ).schema_errors
    assert good is None
    assert "no JSON" in free
    assert "$.answer" in wrong
    assert use(backend, lambda: backend.sample(CHAT, 3)).schema_errors == ()


def test_a_slowed_backend_samples_later_too(canned: CannedServer) -> None:
    """The arm by which the gate is proven is slowed in all that it does."""
    canned.behave = answering(token_s=0.02)
    backend = OpenAIBackend(canned.url, model="m", slowdown=1.0)
    batch = use(backend, lambda: backend.sample(Request(prompt="x", max_tokens=5), 1))
    assert batch.done_s - batch.sent_s >= 0.2


def test_no_sample_is_a_mistake() -> None:
    """Nothing is asked for nothing."""
    backend = OpenAIBackend("http://x", model="m", name="small")
    with pytest.raises(ValueError, match="small: 0 samples"):
        use(backend, lambda: backend.sample(PROMPT, 0))


def test_a_real_servers_prompts_are_not_reused_however_they_arrive() -> None:
    """Asked not to, llama.cpp takes none from its slots, neither one after the other nor at once."""
    prefix = "def f(x):\n    return x\n" * 8
    requests = [Request(prompt=f"{prefix}def g{i}(y):", max_tokens=4) for i in range(12)]
    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", n_parallel=2).launch() as server:
        backend = LlamaCppBackend(server.url, model="nano")
        for at_once in (1, 4, 12):
            free = asyncio.Semaphore(at_once)

            async def ask(request: Request, free: asyncio.Semaphore = free) -> int | None:
                async with free:
                    return (await backend.generate(request)).cached_tokens

            assert use(backend, lambda ask=ask: asyncio.gather(*map(ask, requests))) == [0] * 12


def test_a_real_server_draws_different_answers_and_the_same_again() -> None:
    """llama.cpp draws as many as it has slots, each by a seed of its own, and refuses more."""
    request = Request(prompt="def f(x)", max_tokens=8, temperature=1.0, seed=3)
    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", n_parallel=3).launch() as server:
        backend = LlamaCppBackend(server.url, model="nano", name="small")

        async def draw() -> None:
            first, again = [await backend.sample(request, 3) for _ in range(2)]
            assert len(set(first.texts)) == 3
            assert set(first.texts) == set(again.texts)
            assert (first.prompt_tokens, first.output_tokens) == (4, None)
            with pytest.raises(BackendRejected, match=r"small: .*400.*must be between 1 <= value <= 3"):
                await backend.sample(request, 4)

        use(backend, draw)
