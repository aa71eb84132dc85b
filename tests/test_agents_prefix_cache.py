"""Agents on an engine with a prefix cache: llama.cpp of a random model, and servers of the OpenAI API."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

from harness.agents.arms.prefix_cache import PrefixCache, slot_tokens
from harness.agents.arms.random_gguf import GgufModel, random_gguf
from harness.agents.arms.token_stream import LlamaCpp, OpenAI, TokenClient
from harness.agents.base import Step
from harness.errors import (
    BackendBroken,
    BackendRejected,
    BackendUnreachable,
    BudgetError,
    UnavailableError,
    UsageError,
)
from harness.hardware.budget import DeviceBudget
from harness.launchers import EmbeddedLauncher
from harness.sessions.core import Engine, Model, Turn
from harness.sessions.core.loading import random_llama

SHAPE = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "initializer_range": 0.3,
}  # fmt: skip
PROMPT, OBSERVATION, NEW_TOKENS = [(7 * n) % 97 for n in range(60)], [5, 6, 7], 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GgufModel]:
    """A tiny model as GGUF, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield random_gguf(3, **SHAPE)


async def both_steps(arm: PrefixCache, max_tokens: int = 100) -> tuple[Step, Step]:
    agent = await arm.open(max_tokens)
    reason = await agent.step(PROMPT, NEW_TOKENS)
    reflect = await agent.step(OBSERVATION, NEW_TOKENS)
    await agent.close()
    return reason, reflect


def session_ids() -> list[list[int]]:
    """What the sessions' own engine says, of the same weights."""
    own = Model.from_transformers("tiny", random_llama(3, **SHAPE))
    with Engine(own, DeviceBudget.create(10**8), max_session_tokens=100) as engine:
        engine.open("a", 100)
        found = []
        for ids in (PROMPT, OBSERVATION):
            engine.submit(Turn("a", ids, NEW_TOKENS))
            events = []
            while not engine.is_idle:
                events += engine.step()
            found.append([event.token_id for event in events])
    return found


def test_llama_cpp_reuses_what_its_slot_holds(model: GgufModel) -> None:
    """As it counts; of the same weights, so with mostly the tokens of the sessions' engine."""
    budget = DeviceBudget.create(10**8)

    async def use() -> list[tuple[Step, Step]]:
        arm = await PrefixCache.start(budget, num_agents=2, max_tokens=100, model=model)
        try:
            drawn_bytes = model.weight_bytes + 2 * 256 * model.kv_token_bytes
            assert budget.used_bytes == drawn_bytes
            first = await asyncio.gather(both_steps(arm), both_steps(arm))
            with pytest.raises(UsageError, match="2 slots of 100 are free"):
                await arm.open(101)
            return first
        finally:
            await arm.close()
            await arm.close()

    pairs = asyncio.run(use())
    assert budget.used_bytes == 0
    budget.remove()
    for reason, reflect in pairs:
        assert (reason.reused_tokens, reason.prefilled_tokens) == (0, 60)
        # 60 of the prompt and 5 of the answer: the last one is computed with what follows it.
        assert (reflect.reused_tokens, reflect.prefilled_tokens) == (65, 4)
        assert len(reason.token_ids) == len(reflect.token_ids) == NEW_TOKENS
        assert reason.asked_s < reason.first_token_s <= reason.done_s
        assert reason.prefill_s is not None
        assert reason.compute_s is not None
        assert 0 < reason.prefill_s < reason.compute_s
    said = [token_id for step in pairs[0] for token_id in step.token_ids]
    expected = [token_id for ids in session_ids() for token_id in ids]
    agreeing = sum(one == other for one, other in zip(said, expected, strict=True))
    assert agreeing >= 0.9 * len(expected)
    assert pairs[0][0].token_ids == pairs[1][0].token_ids


def test_an_agent_whose_slot_finds_no_room_is_refused_and_the_others_are_served(model: GgufModel) -> None:
    """By the ledger, which counts it, and by its number; whoever comes after it too."""
    budget = DeviceBudget.create(model.weight_bytes + 2 * 256 * model.kv_token_bytes + 1)

    async def use() -> None:
        arm = await PrefixCache.start(budget, num_agents=4, max_tokens=200, model=model)
        try:
            before = budget.num_refusals
            agents = [await arm.open(200) for _ in range(2)]
            for _ in range(2):
                with pytest.raises(BudgetError, match=r"engine-prefix-cache slot 2: .* 1 of"):
                    await arm.open(200)
            assert budget.num_refusals == before + 2
            assert [len((await agent.step(PROMPT, 2)).token_ids) for agent in agents] == [2, 2]
        finally:
            await arm.close()

    asyncio.run(use())
    assert budget.used_bytes == 0
    budget.remove()


def test_an_engine_without_room_for_one_agent_is_not_started(model: GgufModel) -> None:
    """And gives back what it had."""
    budget = DeviceBudget.create(model.weight_bytes + 255 * model.kv_token_bytes)
    with pytest.raises(BudgetError, match="engine-prefix-cache slot 0: "):
        asyncio.run(PrefixCache.start(budget, num_agents=4, max_tokens=200, model=model))
    assert budget.used_bytes == 0
    budget.remove()
    assert [slot_tokens(num) for num in (1, 256, 257, 576)] == [256, 256, 512, 768]


def test_a_killed_engine_fails_its_agents(model: GgufModel) -> None:
    """And closing it afterwards gives its memory back."""
    budget = DeviceBudget.create(10**8)

    async def use() -> None:
        arm = await PrefixCache.start(budget, num_agents=1, max_tokens=100, model=model)
        try:
            agent = await arm.open(100)
            first = await agent.step(PROMPT, 2)
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises((BackendBroken, BackendUnreachable), match="engine-prefix-cache"):
                await agent.step([1], 2)
        finally:
            await arm.close()

    asyncio.run(use())
    assert budget.used_bytes == 0
    budget.remove()


def test_a_width_that_llama_cpp_lacks_is_refused(model: GgufModel) -> None:
    """With what there is."""
    with pytest.raises(UsageError, match="no type 'f33'; give f16 or f32"):
        EmbeddedLauncher(gguf=model.path, model="m", cache_type="f33").launch()


class Completions(BaseHTTPRequestHandler):
    """Answers `/v1/completions` as vLLM does, id after id from 1 on."""

    sends_ids: ClassVar[bool] = True
    status: ClassVar[int] = 200
    num_short: ClassVar[int] = 0
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.send_response(self.status)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if self.status != 200:
            self.wfile.write(b"prompt must be text")
            return
        for number in range(body["max_tokens"] - self.num_short):
            choice: dict[str, Any] = {"index": 0, "text": f" {number}"}
            if self.sends_ids:
                choice["token_ids"] = [number + 1]
            self._event({"choices": [choice]})
        details = {"cached_tokens": len(body["prompt"]) - 4}
        usage = {"prompt_tokens": len(body["prompt"]), "prompt_tokens_details": details}
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, frame: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def completions(**traits: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server with these traits, and what it was asked."""
    handler = type("Traits", (Completions,), {"asked": [], **traits})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def at_url(url: str) -> Any:
    return PrefixCache.at_url(url, model="m", num_agents=2, max_tokens=100)


def test_a_server_at_a_url_is_asked_by_ids() -> None:
    """Greedily, past any end of text; cached tokens as it counts them."""

    async def use(url: str) -> tuple[Step, Step]:
        arm = await at_url(url)
        try:
            return await both_steps(arm)
        finally:
            await arm.close()

    with completions() as (url, asked):
        reason, reflect = asyncio.run(use(url))
    assert reason.token_ids == (1, 2, 3, 4, 5, 6)
    assert asked[-1]["prompt"] == [*PROMPT, *reason.token_ids, *OBSERVATION]
    assert asked[-1]["temperature"] == 0
    assert asked[-1]["ignore_eos"] is True
    assert (reflect.reused_tokens, reflect.prefilled_tokens) == (65, 4)
    assert reflect.queue_s is reflect.prefill_s is reflect.compute_s is None


@pytest.mark.parametrize(
    ("traits", "kind", "says"),
    [
        ({"sends_ids": False}, UnavailableError, "vLLM 0.10.2 or SGLang"),
        ({"status": 400}, BackendRejected, "prompt must be text"),
        ({"status": 500}, BackendBroken, "answered 500"),
        ({"num_short": 1}, BackendBroken, "gave 0 of 1 tokens"),
    ],
)
def test_a_server_that_cannot_serve_agents_says_why(
    traits: dict[str, Any], kind: type[Exception], says: str
) -> None:
    """When the arm starts, not in the middle of a run."""
    with completions(**traits) as (url, _), pytest.raises(kind, match=says):
        asyncio.run(at_url(url))


def test_a_server_that_is_not_there_says_so() -> None:
    """With the address."""
    with completions() as (url, _):
        pass
    with pytest.raises(BackendUnreachable, match=r"no connection to http://127\.0\.0\.1"):
        asyncio.run(at_url(url))


def test_events_that_make_no_sense_are_the_servers_fault() -> None:
    """Whatever it sends."""

    async def use() -> None:
        for dialect in (LlamaCpp(), OpenAI("m")):
            async with TokenClient("http://x", dialect, name="x", timeout_s=1) as client:
                for event in (b"", b"[]", b"3", b'{"error": "full"}', b'{"choices": 3, "tokens": 3}'):
                    with pytest.raises(ValueError, match=r"."):
                        client._piece(event)

    asyncio.run(use())


def test_the_gguf_is_cached_by_content(model: GgufModel, tmp_path: Path) -> None:
    """The same weights, the same file; others, another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path))
        first, again, other = (random_gguf(seed, **SHAPE) for seed in (3, 3, 4))
    assert first.path == again.path != other.path
    assert first.path.name == model.path.name
    assert len(list(tmp_path.rglob("*.gguf"))) == 2
