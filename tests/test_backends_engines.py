"""What SGLang, vLLM and llama.cpp offer beyond the OpenAI API, seen at a canned server in their place.

The real vLLM and llama.cpp are held to the same in `tests/conformance`; here is what they cannot show: an
older version, a server started without a flag, a server that is busy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.backends import BatchSampler, CacheFlusher, Message, Metered, Request, Sleeper
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.backends.sglang import SGLangBackend
from harness.backends.vllm import VLLMBackend
from harness.errors import BackendBroken, BackendRejected
from harness.launchers.canned import Behaviour, CannedServer, refusing, replaying, routing
from tests.conformance.frames import CHAT, SCHEMA, event, piece
from tests.conformance.subjects import run, use

SAMPLED = Request(messages=CHAT.messages, max_tokens=3, temperature=0.7)
MODELS = replaying(b'{"data": [{"id": "m", "owned_by": "sglang"}]}', content_type="application/json")


def saying(**frame: Any) -> Behaviour:
    """A server that answers with this object."""
    return replaying(json.dumps(frame).encode(), content_type="application/json")


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    """A server that records what it gets and behaves as told."""
    with CannedServer() as server:
        yield server


def bodies(server: CannedServer, backend: OpenAIBackend, *requests: Request) -> list[dict[str, Any]]:
    """What a backend sends for these requests."""
    run(backend, *requests)
    return [exchange.body for exchange in server.exchanges]


@pytest.mark.parametrize("kind", [SGLangBackend, VLLMBackend])
class TestSent:
    """What is sent to servers that would sample and reuse by rules of their own."""

    def test_the_distribution_is_the_models(self, canned: CannedServer, kind: type[OpenAIBackend]) -> None:
        """Truncation and penalty of generation_config.json are undone, the penalty also when greedy."""
        sampled, greedy, narrow = bodies(
            canned,
            kind(canned.url, model="m"),
            SAMPLED,
            CHAT,
            Request(messages=CHAT.messages, max_tokens=3, temperature=1.0, top_p=0.9),
        )
        assert (sampled["top_k"], sampled["top_p"], sampled["min_p"]) == (-1, 1.0, 0.0)
        assert sampled["repetition_penalty"] == greedy["repetition_penalty"] == 1.0
        assert "top_k" not in greedy
        assert narrow["top_p"] == 0.9

    def test_forbidden_reuse_is_a_salt_of_the_requests_own(
        self, canned: CannedServer, kind: type[OpenAIBackend]
    ) -> None:
        """No two requests share a salt, and one that may reuse has none."""
        one, two, reusing = bodies(
            canned,
            kind(canned.url, model="m"),
            CHAT,
            CHAT,
            Request(prompt="x", max_tokens=1, cache_prompt=True),
        )
        assert len({one["cache_salt"], two["cache_salt"]}) == 2
        assert one["cache_salt"].isalnum()
        assert "cache_salt" not in reusing

    def test_a_users_own_fields_win(self, canned: CannedServer, kind: type[OpenAIBackend]) -> None:
        """What is passed as an extra field is sent as it is."""
        backend = kind(canned.url, model="m", extra_body={"top_k": 5, "cache_salt": "shared"})
        [body] = bodies(canned, backend, SAMPLED)
        assert (body["top_k"], body["cache_salt"]) == (5, "shared")

    def test_a_raw_prompt_takes_a_schema(self, canned: CannedServer, kind: type[OpenAIBackend]) -> None:
        """Each is asked in its own words, and the answer is checked here."""
        canned.behave = saying(choices=[{"text": '{"answer": 1}', "finish_reason": "stop"}])
        backend = kind(canned.url, model="m")
        [answer] = run(backend, Request(prompt="x", max_tokens=9, json_schema=SCHEMA, stream=False))
        body = canned.exchanges[0].body
        if kind is SGLangBackend:
            assert json.loads(body["json_schema"]) == SCHEMA
        else:
            assert body["response_format"]["json_schema"]["schema"] == SCHEMA
        assert answer.schema_error is None

    def test_each_says_what_counting_cached_tokens_needs(
        self, canned: CannedServer, kind: type[OpenAIBackend]
    ) -> None:
        """The flag stands in the class, for the check that finds no count."""
        assert kind.cached_tokens_need is not None
        assert kind.cached_tokens_need.startswith("start ")


def test_reasoning_under_its_newer_name_ends_the_wait(canned: CannedServer) -> None:
    """vLLM calls it `reasoning`; its first token is the first token."""
    thought = event(choices=[{"delta": {"reasoning": "Hm"}, "finish_reason": None}])
    canned.behave = replaying(thought, piece("a", "stop"), pause_s=0.1)
    [answer] = run(VLLMBackend(canned.url, model="m"), CHAT)
    assert answer.text == "a"
    assert answer.chunk_times_s[1] - answer.chunk_times_s[0] > 0.05


class TestCachedTokens:
    """SGLang leaves a count of nothing out, and a server without the flag leaves every count out."""

    USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 1})

    @pytest.mark.parametrize(
        ("info", "cached"),
        [
            (routing(models=MODELS, server_info=saying(enable_cache_report=True)), 0),
            (routing(models=MODELS, get_server_info=saying(enable_cache_report=True)), 0),
            (routing(models=MODELS, server_info=saying(enable_cache_report=False)), None),
            (routing(models=MODELS, server_info=refusing(401, "for the administrator")), None),
            (MODELS, None),
        ],
        ids=["told", "told by an older version", "not started with it", "a secret", "unknown"],
    )
    def test_nothing_cached_is_0_only_where_counts_are_reported(
        self, canned: CannedServer, info: Behaviour, cached: int | None
    ) -> None:
        """`ready` learns which of the two it is."""
        canned.behave_at_models = info
        canned.behave = replaying(piece("a", "stop"), self.USAGE)
        backend = SGLangBackend(canned.url, model="m")

        async def ask() -> int | None:
            await backend.ready()
            return (await backend.generate(CHAT)).cached_tokens

        assert use(backend, ask) == cached


METRICS = b"""# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \\"b\\" {c}"} 2.0
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 7 1395066363000
process_cpu_seconds_total 1.5e+01
up NaN
"""
DEV, SLEEPS = "VLLM_SERVER_DEV_MODE=1", "--enable-sleep-mode"
SAVER = "--enable-memory-saver --enable-weights-cpu-backup"


class TestServers:
    """What a server does beside answering, and what it lacks."""

    @pytest.mark.parametrize("kind", [SGLangBackend, VLLMBackend, LlamaCppBackend])
    def test_counters_are_read(self, canned: CannedServer, kind: Any) -> None:
        """Samples are numbers under their names, labels as the server wrote them."""
        canned.behave_at_models = routing(metrics=replaying(METRICS, content_type="text/plain"))
        backend = kind(canned.url, model="m")
        assert isinstance(backend, Metered)
        samples = use(backend, backend.metrics)
        assert samples['vllm:num_requests_running{engine="0",model_name="a \\"b\\" {c}"}'] == 2.0
        assert samples['vllm:e2e_request_latency_seconds_bucket{le="+Inf"}'] == 7
        assert samples["process_cpu_seconds_total"] == 15
        assert len(samples) == 4

    def test_what_is_no_counter_is_said(self, canned: CannedServer) -> None:
        """A page in place of counters is a broken answer."""
        canned.behave_at_models = replaying(b"<html>", content_type="text/html")
        backend = VLLMBackend(canned.url, model="m", name="small")
        with pytest.raises(BackendBroken, match=r"small: .*no Prometheus text"):
            use(backend, backend.metrics)

    @pytest.mark.parametrize(
        ("kind", "ask", "status", "remedy"),
        [
            (SGLangBackend, "metrics", 404, "--enable-metrics"),
            (LlamaCppBackend, "metrics", 501, "--metrics"),
            (VLLMBackend, "flush_cache", 404, DEV),
            (VLLMBackend, "sleep", 404, SLEEPS),
            (VLLMBackend, "wake", 404, SLEEPS),
            (SGLangBackend, "sleep", 404, "update SGLang"),
            (SGLangBackend, "flush_cache", 404, "SGLang's own server"),
        ],
    )
    def test_what_a_server_was_started_without_is_named_as_the_flag(
        self, canned: CannedServer, kind: Any, ask: str, status: int, remedy: str
    ) -> None:
        """The remedy is what to start it with."""
        canned.behave = canned.behave_at_models = refusing(status, "not there")
        backend = kind(canned.url, model="m", name="small")
        with pytest.raises(BackendRejected, match=f"small: .*is not offered.*{remedy}"):
            use(backend, getattr(backend, ask))

    @pytest.mark.parametrize(
        ("kind", "info", "remedy"),
        [
            (VLLMBackend, {"vllm_config": {"model_config": {"enable_sleep_mode": False}}}, SLEEPS),
            (SGLangBackend, {"enable_memory_saver": False}, SAVER),
            (SGLangBackend, {"enable_memory_saver": True}, f"without enable_weights_cpu_backup; .*{SAVER}"),
        ],
        ids=["vLLM", "SGLang", "SGLang, weights lost"],
    )
    def test_a_sleep_that_would_free_nothing_or_lose_the_weights_is_refused(
        self, canned: CannedServer, kind: Any, info: dict[str, Any], remedy: str
    ) -> None:
        """Such a server says that it sleeps; what it was started with says otherwise."""
        canned.behave_at_models = saying(**info)
        backend = kind(canned.url, model="m", name="small")
        with pytest.raises(BackendRejected, match=f"small: .*{remedy}"):
            use(backend, backend.sleep)
        assert not canned.exchanges

    @pytest.mark.parametrize(
        ("kind", "info", "paths"),
        [
            (
                VLLMBackend,
                {"vllm_config": {"model_config": {"enable_sleep_mode": True}}},
                ["/sleep?level=1", "/wake_up", "/reset_prefix_cache"],
            ),
            (
                SGLangBackend,
                {"enable_memory_saver": True, "enable_weights_cpu_backup": True},
                ["/release_memory_occupation", "/resume_memory_occupation", "/flush_cache"],
            ),
        ],
        ids=["vLLM", "SGLang"],
    )
    def test_sleep_wake_and_flush_go_where_the_engine_takes_them(
        self, canned: CannedServer, kind: Any, info: dict[str, Any], paths: list[str]
    ) -> None:
        """Each in the engine's own words, once."""
        canned.behave_at_models = saying(**info)
        canned.behave = replaying(b'{"success": true}', content_type="application/json")
        backend = kind(canned.url, model="m")
        assert isinstance(backend, Sleeper)
        assert isinstance(backend, CacheFlusher)
        assert isinstance(backend, BatchSampler)

        async def ask() -> None:
            await backend.sleep()
            await backend.wake()
            await backend.flush_cache()

        use(backend, ask)
        assert [exchange.path for exchange in canned.exchanges] == paths

    @pytest.mark.parametrize(
        ("kind", "behave", "says"),
        [
            (VLLMBackend, saying(success=False), "requests hold parts of it; wait"),
            (SGLangBackend, refusing(400, "Flush cache failed"), "400: .*Flush cache failed"),
        ],
        ids=["vLLM", "SGLang"],
    )
    def test_a_cache_in_use_is_not_said_to_be_empty(
        self, canned: CannedServer, kind: Any, behave: Behaviour, says: str
    ) -> None:
        """vLLM says so in the body of a success."""
        canned.behave = behave
        backend = kind(canned.url, model="m", name="small")
        with pytest.raises(BackendRejected, match=f"small: .*{says}"):
            use(backend, backend.flush_cache)


def test_messages_reach_every_engine_alike(canned: CannedServer) -> None:
    """The chat itself is sent as it is to each of them."""
    chat = Request(messages=(Message("system", "s"), Message("user", "ü")), max_tokens=1)
    for kind in (OpenAIBackend, LlamaCppBackend, SGLangBackend, VLLMBackend):
        run(kind(canned.url, model="m"), chat)
    sent = [exchange.body["messages"] for exchange in canned.exchanges]
    assert sent == [[{"role": "system", "content": "s"}, {"role": "user", "content": "ü"}]] * 4
