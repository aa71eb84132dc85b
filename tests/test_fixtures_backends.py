"""The pool starts what a role needs, prices it, and leaves nothing running."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from fixtures.backends import DEFAULTS, Pool, price_of, specs_of
from harness.backends import Completion, Message, Request, parse_backend
from harness.errors import BackendError, HarnessError, LaunchError, UnavailableError, UsageError
from harness.launchers.canned import CannedServer, replaying
from harness.launchers.probe import serving_engine
from harness.workflow import EngineTimePrice, TokenPrice, UnknownPrice


def pool(*given: str, profile: str = "pocket") -> Pool:
    return Pool(specs_of(profile, given), profile)


def listens(url: str) -> bool:
    async def knock() -> bool:
        parts = urlsplit(url)
        try:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            return False
        writer.close()
        return True

    return asyncio.run(knock())


def test_the_pocket_profile_names_every_role() -> None:
    """Without options both platforms have a small and a large model, embedded."""
    assert (
        set(specs_of("pocket", ()))
        == set(DEFAULTS["pocket"])
        == {"large", "small", "edge-large", "edge-small"}
    )
    assert all(spec.is_embedded for spec in specs_of("pocket", ()).values())


def test_a_given_backend_replaces_the_profiles() -> None:
    """The last word is the command line's."""
    assert specs_of("pocket", ["large=http://gpu1:30000/m"])["large"].url == "http://gpu1:30000"


def test_a_role_without_a_backend_names_the_option_that_would_give_it_one() -> None:
    """The skip reason is the line to type."""
    with pytest.raises(UnavailableError, match=r"pass --backend large=http://HOST:PORT"):
        pool(profile="node").spec("large")


@pytest.mark.parametrize("text", ["large", "=x", "large=ftp://x", "large=pocket:nano?threads=many"])
def test_a_malformed_backend_is_named(text: str) -> None:
    """One clear error with the option as it was typed."""
    with pytest.raises(UsageError, match="--backend"):
        specs_of("pocket", [text])


def test_an_embedded_engine_is_priced_by_time_and_a_model_with_a_price_by_token() -> None:
    """A pocket model has no market price."""
    assert isinstance(price_of(parse_backend("small=pocket:nano"), "nano"), EngineTimePrice)
    remote = parse_backend("large=http://gpu1:30000")
    price = price_of(remote, "mistralai/Mistral-7B-Instruct-v0.3")
    assert isinstance(price, TokenPrice)


@pytest.mark.parametrize(
    "served", ["Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5:0.5b-instruct", "/models/Qwen2.5-0.5B-Instruct/"]
)
def test_a_price_is_found_by_each_engines_spelling_of_the_model(served: str) -> None:
    """SGLang, Ollama and a local path name one model in three ways."""
    assert isinstance(price_of(parse_backend("small=http://gpu1:30001"), served), TokenPrice)


def test_a_model_without_a_price_has_an_unknown_cost() -> None:
    """No price is invented, and none is 0."""
    price = price_of(parse_backend("large=http://gpu1:30000"), "mystery")
    assert isinstance(price, UnknownPrice)
    answer = Completion(text="x", prompt_tokens=1, output_tokens=1, sent_s=0, done_s=1)
    assert price.usd(answer) is None


def test_a_lease_answers_and_is_gone_when_closed() -> None:
    """The engine listens while leased and no longer after."""

    async def use() -> tuple[str, str]:
        lease = await pool().lease(["small"])
        async with lease.endpoints["small"].slot() as backend:
            answer = await backend.generate(Request(messages=(Message("user", "Hello"),), max_tokens=3))
        url = backend.url  # type: ignore[attr-defined]
        assert lease.start_s > 0
        await lease.aclose()
        return answer.text, url

    text, url = asyncio.run(use())
    assert text
    assert not listens(url)


def test_replicas_are_servers_of_their_own() -> None:
    """Two replicas of one role have two addresses."""

    async def urls() -> set[str]:
        lease = await pool().lease(["small"], replicas=2)
        try:
            return {b.url for b in lease.endpoints["small"].backends}  # type: ignore[attr-defined]
        finally:
            await lease.aclose()

    assert len(asyncio.run(urls())) == 2


def test_a_second_role_that_fails_takes_the_first_down_with_it() -> None:
    """A lease is whole or nothing."""

    async def lease() -> None:
        await pool("large=gguf:/nowhere/model.gguf").lease(["small", "large"])

    with pytest.raises(LaunchError, match=r"/nowhere/model\.gguf"):
        asyncio.run(lease())


def test_a_dead_url_is_one_clear_error() -> None:
    """The message names the role, the address and what to do."""

    async def lease() -> None:
        await pool("large=http://127.0.0.1:9/m").lease(["large"])

    with pytest.raises(HarnessError, match=r"large.*127\.0\.0\.1:9") as caught:
        asyncio.run(lease())
    assert isinstance(caught.value, (BackendError, LaunchError))


def test_a_slowed_engine_takes_that_much_longer() -> None:
    """A slowdown of 1 at least nearly doubles the time that the caller sees, inside the backend."""

    async def seconds(slowdown: float) -> float:
        lease = await pool().lease(["small"], slowdown=slowdown)
        try:
            async with lease.endpoints["small"].slot() as backend:
                request = Request(messages=(Message("user", "Hello"),), max_tokens=40, ignore_eos=True)
                done = await backend.generate(request)
            return done.e2e_latency_s / (done.engine.prefill_s + done.engine.decode_s)  # type: ignore[operator]
        finally:
            await lease.aclose()

    assert asyncio.run(seconds(1.0)) > 1.9


@pytest.mark.parametrize(
    ("owner", "engine"), [("sglang", "sglang"), ("vllm", "vllm"), ("llamacpp", "llama.cpp"), ("me", "openai")]
)
def test_a_server_at_a_url_is_called_what_it_calls_itself(owner: str, engine: str) -> None:
    """The claims about SGLang are decided by a server that says that it is SGLang, and by no other."""
    listing = json.dumps({"data": [{"id": "mistralai/Mistral-7B-Instruct-v0.3", "owned_by": owner}]}).encode()
    with CannedServer() as server:
        server.behave_at_models = replaying(listing, content_type="application/json")
        found = pool(f"large={server.url}", profile="node")
        assert found.engine("large") == engine
        assert found.label("large") == f"{engine} mistralai/Mistral-7B-Instruct-v0.3"


def test_ollama_is_known_by_its_greeting() -> None:
    """Ollama lists models without naming itself, and says so at its root."""
    with CannedServer() as server:
        server.behave_at_models = replaying(b"Ollama is running", content_type="text/plain")
        assert serving_engine(server.url) == "ollama"
