"""What `transformers serve` is sent, and how its stop strings are cut off, seen at a canned server."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import Chunk, Request
from harness.backends.transformers_serve import TransformersServeBackend
from harness.errors import BackendUnreachable
from harness.launchers.canned import CannedServer, refusing, replaying
from tests.conformance.frames import CHAT, piece
from tests.conformance.subjects import run, use


def client(canned: CannedServer) -> TransformersServeBackend:
    return TransformersServeBackend(canned.url, model="/models/nano", name="small", timeout_s=5)


def stops(*texts: str) -> Request:
    return Request(prompt="x", max_tokens=9, stop=texts)


def test_the_end_is_forbidden_instead_of_ignored(canned: CannedServer) -> None:
    """`ignore_eos` would be refused with 422; `min_new_tokens` has the same effect."""
    run(client(canned), Request(prompt="x", max_tokens=7, ignore_eos=True))
    body = canned.exchanges[0].body
    assert "ignore_eos" not in body
    assert json.loads(body["generation_config"]) == {"min_new_tokens": 7}


def test_sampling_is_asked_for_and_not_truncated(canned: CannedServer) -> None:
    """A temperature alone samples nothing there, and 50 tokens would be kept."""
    run(client(canned), Request(prompt="x", max_tokens=3, temperature=0.7, seed=1))
    body = canned.exchanges[0].body
    assert json.loads(body["generation_config"]) == {"do_sample": True, "top_k": 0}
    assert (body["temperature"], body["seed"]) == (0.7, 1)


def test_a_plain_request_leaves_the_models_configuration_alone(canned: CannedServer) -> None:
    """What is sent would replace it."""
    run(client(canned), CHAT)
    assert "generation_config" not in canned.exchanges[0].body


def test_a_server_without_a_list_of_models_is_ready(canned: CannedServer) -> None:
    """`ready` asks for health; its error names the server when that fails."""
    backend = client(canned)
    use(backend, backend.ready)
    canned.behave_at_models = refusing(503, "cb_worker_dead")
    with pytest.raises(BackendUnreachable, match=r"small: .*503"):
        use(backend, backend.ready)


@settings(max_examples=50, deadline=None)
@given(
    text=st.text("ab<|>", max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=8),
    ends=st.lists(st.text("ab<|>", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_are_cut_off_however_the_text_comes(text: str, cuts: list[int], ends: list[str]) -> None:
    """Streamed in any pieces, the text ends before the first stop string, and what was shown is the text."""
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    with CannedServer() as canned:
        canned.behave = replaying(*map(piece, pieces), piece("", "stop"))
        backend = client(canned)
        seen: list[Chunk] = []
        [answer] = use(backend, lambda: asyncio.gather(backend.generate(stops(*ends), seen.append)))
    first = min((at for end in ends if (at := text.find(end)) >= 0), default=len(text))
    assert answer.text == text[:first]
    assert "".join(chunk.text for chunk in seen) == answer.text
    assert tuple(chunk.time_s for chunk in seen) == answer.chunk_times_s


def test_the_wait_for_the_first_token_is_not_that_for_its_text(canned: CannedServer) -> None:
    """A first token kept back, as it may begin a stop string, still ends the wait when it came."""
    canned.behave = replaying(piece("<"), piece("b"), piece("", "stop"), pause_s=0.2)
    [answer] = run(client(canned), stops("<|end|>"))
    assert answer.text == "<b"
    assert answer.first_token_s is not None
    assert answer.chunk_times_s[0] - answer.first_token_s > 0.1
