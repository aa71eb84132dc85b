"""Ollama's API: what the client makes of servers that fail, and of servers that are no Ollama."""

from __future__ import annotations

import pytest

from harness.backends.ollama import OllamaBackend
from harness.errors import BackendBroken, BackendError, BackendRejected, BackendTimeout, BackendUnreachable
from harness.launchers.canned import (
    Behaviour,
    CannedServer,
    hanging,
    hanging_up,
    refusing,
    replaying,
    routing,
)
from tests.conformance.subjects import run, use
from tests.ollama_replay import CHAT, client, line, ollama, streamed, transcript

__all__ = ["FAILURES", "ollama"]


FAILURES = pytest.mark.parametrize(
    ("behave", "error", "says"),
    [
        (refusing(500, "out of memory"), BackendBroken, "500.*out of memory"),
        (refusing(400, "prompt exceeds the context length"), BackendRejected, "400.*raise num_ctx"),
        (refusing(401, "unauthorized"), BackendRejected, "401.*key_env"),
        (refusing(404, "File Not Found"), BackendRejected, "404.*http:// instead of ollama://"),
        (hanging_up, BackendBroken, "broke the connection off"),
        (streamed(line(response="a", done=False)), BackendBroken, "broke off after 1 chunks"),
        (streamed(), BackendBroken, "broke off after 0 chunks"),
        (streamed(b"{nonsense\n"), BackendBroken, "no valid answer.*nonsense"),
        (streamed(b"[1]\n"), BackendBroken, "no valid answer"),
        (streamed(b'"\xff\xfe"\n'), BackendBroken, "no valid answer"),
        (streamed(line(status="pulling manifest")), BackendBroken, "neither text nor an end"),
        (replaying(b"<html>", content_type="text/html"), BackendBroken, "no valid answer"),
        (replaying(b"{}", content_type="application/json"), BackendBroken, "no valid answer"),
        (
            replaying(line(response="a", done=False), content_type="application/json"),
            BackendBroken,
            "without an end",
        ),
        (hanging, BackendTimeout, "no whole answer"),
    ],
    ids=[
        "500", "context", "401", "no API", "hangs up", "no end", "empty", "no JSON", "no object", "no UTF-8",
        "no answer", "HTML", "nothing", "whole, no end", "silent",
    ],
)  # fmt: skip


@FAILURES
def test_a_failure_is_one_clear_error(
    ollama: CannedServer, behave: Behaviour, error: type[BackendError], says: str
) -> None:
    """The kind fits, the role is named, and the request was sent once."""
    ollama.behave = behave
    timeout_s = 0.3 if error is BackendTimeout else 30
    backend = OllamaBackend(ollama.url, model="m", name="small", timeout_s=timeout_s)
    with pytest.raises(error, match=f"(?s)small: .*{says}"):
        run(backend, CHAT)
    assert len(ollama.exchanges) == 1


@pytest.mark.parametrize("model", ["llama3", "LLAMA3:latest", "codellama:13b"])
def test_a_pulled_model_is_ready(ollama: CannedServer, model: str) -> None:
    """A name without a tag is its latest, in any case of letters."""
    ollama.behave_at_models = routing(tags=transcript("tags").cut(100))
    backend = OllamaBackend(ollama.url, model=model)
    use(backend, backend.ready)


@pytest.mark.parametrize(
    ("behave", "error", "says"),
    [
        (transcript("tags").cut(100), BackendRejected, "llama3:latest, not llama3.2; run `ollama pull"),
        (replaying(b'{"models":null}'), BackendRejected, "has no model, not llama3.2"),
        (refusing(404, "File Not Found"), BackendRejected, "as no Ollama does; use http://"),
        (replaying(b"<html>"), BackendRejected, "as no Ollama does"),
        (refusing(401, "no key"), BackendRejected, "key_env"),
        (refusing(503, "starting"), BackendUnreachable, "wait until it has loaded"),
        (hanging_up, BackendUnreachable, "broke the connection off"),
    ],
    ids=["not pulled", "empty", "another server", "a site", "wants a key", "starts", "hangs up"],
)
def test_a_server_that_cannot_answer_is_not_ready(
    ollama: CannedServer, behave: Behaviour, error: type[BackendError], says: str
) -> None:
    """`ready` says what is missing before anything is measured."""
    ollama.behave_at_models = behave
    backend = client(ollama)
    with pytest.raises(error, match=f"small: .*{says}"):
        use(backend, backend.ready)


@pytest.mark.parametrize("ask", ["tags", "running", "show"])
def test_an_account_in_another_form_is_another_server(ollama: CannedServer, ask: str) -> None:
    """What is not Ollama's form is said, not guessed at."""
    ollama.behave = ollama.behave_at_models = replaying(b'{"data": [1]}', content_type="application/json")
    backend = client(ollama)
    with pytest.raises(BackendBroken, match=r"small: .*which Ollama does not"):
        use(backend, getattr(backend, ask))
