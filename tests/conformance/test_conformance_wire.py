"""What the HTTP backends send and what they make of what comes back, seen at a canned server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.backends import EngineTimes, Message, Request
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.backends.transformers_serve import TransformersServeBackend
from harness.backends.vllm import VLLMBackend
from harness.errors import (
    BackendRejected,
)
from harness.launchers.canned import (
    CannedServer,
    answering,
    replaying,
)
from tests.conformance.frames import CHAT, SCHEMA, STREAM, TEXT, event, piece
from tests.conformance.subjects import run


class TestSent:
    """The request on the wire."""

    def test_every_parameter_is_really_sent(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """Temperature, seed and the rest stand in the body under the API's names."""
        run(
            client,
            Request(
                messages=(Message("system", "be brief"), Message("user", "héllo")),
                max_tokens=5,
                temperature=0.7,
                top_p=0.9,
                seed=11,
                stop=("\n", "END"),
                json_schema=SCHEMA,
                logprobs=True,
                ignore_eos=True,
            ),
        )
        [exchange] = canned.exchanges
        assert exchange.path == "/v1/chat/completions"
        expected = {
            "model": "canned",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "héllo"}],
            "max_tokens": 5,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": 11,
            "stop": ["\n", "END"],
            "logprobs": True,
            "top_logprobs": 1,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
            },
        }
        if isinstance(client, TransformersServeBackend):
            # Refused there, and said in the words of its own.
            del expected["ignore_eos"]
            expected["generation_config"] = '{"do_sample": true, "top_k": 0, "min_new_tokens": 5}'
        exchange.body["response_format"]["json_schema"]["schema"].pop("x-guidance", None)
        assert {key: exchange.body.get(key) for key in expected} == expected

    def test_a_schema_that_would_be_dropped_is_refused(self, canned: CannedServer) -> None:
        """A raw prompt takes no schema in the OpenAI API; nothing is sent, as the answer would be free."""
        backend = OpenAIBackend(canned.url, model="m", name="small")
        with pytest.raises(BackendRejected, match="small: a raw prompt with a JSON schema"):
            run(backend, Request(prompt="x", max_tokens=3, json_schema=SCHEMA))
        assert not canned.exchanges

    def test_nothing_else_is_sent_to_an_unknown_server(self, canned: CannedServer) -> None:
        """What a request leaves open is left to the server, and no engine's own words are used."""
        backend = OpenAIBackend(canned.url, model="canned")
        run(backend, CHAT, Request(prompt="once", max_tokens=3, stream=False))
        chat, prompt = (set(exchange.body) for exchange in canned.exchanges)
        assert chat == {"model", "messages", "max_tokens", "temperature", "stream", "stream_options"}
        assert prompt == {"model", "prompt", "max_tokens", "temperature", "stream"}
        assert canned.exchanges[1].path == "/v1/completions"

    def test_greedy_is_sent_as_temperature_0(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """The default temperature is sent too, as a server's own default may be another."""
        run(client, CHAT)
        assert canned.exchanges[0].body["temperature"] == 0.0

    def test_llamacpp_is_told_to_sample_as_asked(self, canned: CannedServer) -> None:
        """llama.cpp's own truncation of the distribution and reuse of prompts are switched off."""
        backend = LlamaCppBackend(canned.url, model="canned")
        run(backend, Request(prompt="x", max_tokens=1, temperature=1.0, cache_prompt=True), CHAT)
        body = canned.exchanges[0].body
        assert (body["top_k"], body["min_p"], body["top_p"]) == (0, 0.0, 1.0)
        assert body["cache_prompt"] is True
        assert canned.exchanges[1].body["cache_prompt"] is False

    def test_a_key_and_fields_of_a_servers_own_are_sent(self, canned: CannedServer) -> None:
        """The key goes into the header, extra fields into the body."""
        # The line feed is what a key read from a file ends in.
        backend = OpenAIBackend(canned.url, model="m", api_key="secret\n", extra_body={"cache_salt": "1"})
        run(backend, CHAT)
        assert canned.exchanges[0].headers["authorization"] == "Bearer secret"
        assert canned.exchanges[0].body["cache_salt"] == "1"


class TestStreams:
    """Streams, however the network and the server cut them."""

    def test_characters_cut_anywhere_are_whole_again(
        self, client: OpenAIBackend, canned: CannedServer
    ) -> None:
        """Each byte of the stream in a packet of its own gives the same text."""
        canned.behave = replaying(*(STREAM[i : i + 1] for i in range(len(STREAM))))
        [answer] = run(client, CHAT)
        assert (answer.text, answer.finish_reason) == (TEXT, "stop")

    @pytest.mark.parametrize(
        "stream",
        [
            STREAM.replace(b"\n", b"\r\n"),
            STREAM.replace(b"\n", b"\r"),
            STREAM.replace(b"data: ", b"data:"),
            b": ping\n\nevent: x\nid: 1\nretry: 5\n" + STREAM.replace(b"\n\n", b"\n\n: ping\n\n"),
            STREAM.removesuffix(b"data: [DONE]\n\n"),
            STREAM.removesuffix(b"\n\ndata: [DONE]\n\n"),
        ],
        ids=["crlf", "cr", "no blank", "comments", "no DONE", "no end"],
    )
    @pytest.mark.parametrize("cut", [1, 7, 10_000])
    def test_every_legal_form_is_understood(
        self, client: OpenAIBackend, canned: CannedServer, stream: bytes, cut: int
    ) -> None:
        """Line ends, comments and endings of servers differ, and the answer does not."""
        canned.behave = replaying(*(stream[i : i + cut] for i in range(0, len(stream), cut)))
        [answer] = run(client, CHAT)
        assert (answer.text, answer.finish_reason) == (TEXT, "stop")

    def test_chunk_times_follow_the_servers_pace(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """Each piece is timed when it came, not when the answer was whole."""
        canned.behave = replaying(*(piece(word) for word in "abc"), piece("", "stop"), pause_s=0.2)
        [answer] = run(client, CHAT)
        gaps_s = [b - a for a, b in zip(answer.chunk_times_s, answer.chunk_times_s[1:], strict=False)]
        assert all(gap_s > 0.1 for gap_s in gaps_s)
        assert answer.ttft_s is not None
        assert answer.ttft_s < 0.2

    def test_a_role_is_no_token(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """The first frame of many servers bears no text, and does not end the wait for the first token."""
        role = event(choices=[{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        canned.behave = replaying(role, piece("a", "stop"), pause_s=0.05)
        [answer] = run(client, CHAT)
        assert answer.ttft_s is not None
        assert answer.ttft_s >= 0.05
        assert len(answer.chunk_times_s) == 1

    def test_a_server_that_cannot_stream_is_understood(
        self, client: OpenAIBackend, canned: CannedServer
    ) -> None:
        """A whole answer to a streamed request is taken, without inner times."""
        whole = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
        canned.behave = replaying(whole, content_type="application/json")
        [answer] = run(client, CHAT)
        assert (answer.text, answer.first_token_s, answer.output_tokens) == ("hi", None, None)


class TestAccounts:
    """What the server says of its own work."""

    def test_counts_are_the_servers_and_not_the_chunks(
        self, client: OpenAIBackend, canned: CannedServer
    ) -> None:
        """One chunk may hold many tokens: usage decides."""
        usage = {"prompt_tokens": 5, "completion_tokens": 17, "prompt_tokens_details": {"cached_tokens": 4}}
        canned.behave = replaying(piece("all at once", "stop"), event(choices=[], usage=usage))
        [answer] = run(client, CHAT)
        assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (5, 17, 4)

    def test_what_is_not_said_is_none(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """Missing counts and times are absent, never 0."""
        canned.behave = replaying(STREAM)
        [answer] = run(client, CHAT)
        assert (answer.prompt_tokens, answer.output_tokens, answer.cached_tokens) == (None, None, None)
        assert (answer.engine.prefill_s, answer.engine.decode_s, answer.tpot_s) == (None, None, None)
        assert (answer.model, answer.token_logprobs) == (None, None)

    def test_engine_times_are_the_servers(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """llama.cpp's timings become seconds, and its count of reused tokens is taken."""
        timings = {"cache_n": 0, "prompt_ms": 12.5, "predicted_ms": 40.0}
        canned.behave = answering(timings=timings)
        [answer] = run(client, CHAT)
        assert (answer.engine.prefill_s, answer.engine.decode_s) == (0.0125, 0.04)
        assert answer.cached_tokens == 0
        assert answer.model == "canned"

    def test_vllms_times_are_the_engines_too(self, canned: CannedServer) -> None:
        """vLLM's metrics of a request become seconds: waiting, prefill and decode."""
        metrics = {"time_to_first_token_ms": 12.5, "generation_time_ms": 40.0, "queue_time_ms": 2.0}
        canned.behave = replaying(piece("a", "stop"), event(choices=[], metrics=metrics))
        [answer] = run(VLLMBackend(canned.url, model="canned"), CHAT)
        assert answer.engine == EngineTimes(queue_s=0.002, prefill_s=0.0125, decode_s=0.04)

    @pytest.mark.parametrize(
        "logprobs",
        [
            {"content": [{"logprob": -0.5}, {"logprob": -1.5}]},
            {"token_logprobs": [-0.5, -1.5], "tokens": ["a", "b"]},
        ],
        ids=["chat", "completions"],
    )
    def test_logprobs_come_in_two_forms(
        self, client: OpenAIBackend, canned: CannedServer, logprobs: dict[str, Any]
    ) -> None:
        """Chat lists records, plain completions numbers; both become numbers."""
        frame = event(choices=[{"text": "ab", "finish_reason": "stop", "logprobs": logprobs}])
        canned.behave = replaying(frame)
        [answer] = run(client, Request(prompt="x", max_tokens=2, logprobs=True))
        assert answer.token_logprobs == (-0.5, -1.5)

    def test_a_frame_may_have_no_logprobs(self, client: OpenAIBackend, canned: CannedServer) -> None:
        """Null is a legal list of them, and takes nothing from those of other frames."""
        some = {"content": [{"logprob": -0.5}]}
        frames = [
            event(choices=[{"delta": {"content": text}, "finish_reason": end, "logprobs": logprobs}])
            for text, end, logprobs in (("", None, {"content": None}), ("a", None, some), ("", "stop", some))
        ]
        canned.behave = replaying(*frames, event(choices=[{"delta": {}, "logprobs": {"content": None}}]))
        [answer] = run(client, CHAT)
        assert (answer.text, answer.token_logprobs) == ("a", (-0.5, -0.5))
        canned.behave = replaying(frames[0], piece("a", "stop"))
        assert run(client, CHAT)[0].token_logprobs is None

    def test_writing_comes_after_sending_and_before_the_answer(
        self, client: OpenAIBackend, canned: CannedServer
    ) -> None:
        """The connection lies between the two, and the server cannot answer what was not written."""
        canned.behave = answering()
        for answer in run(client, CHAT, replace(CHAT, stream=False)):
            assert answer.written_s is not None
            assert answer.sent_s < answer.written_s < answer.done_s
            assert answer.first_token_s is None or answer.written_s < answer.first_token_s
