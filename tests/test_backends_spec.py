from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from harness.backends import (
    BackendSpec,
    Message,
    Request,
    backend_for,
    connect,
    launcher_for,
    parse_backend,
)
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.errors import HarnessError, LaunchError, ModelError, UsageError
from harness.launchers import EmbeddedLauncher, Server
from harness.launchers.canned import CannedServer
from harness.models import gguf_path


@pytest.mark.parametrize(
    ("text", "fields", "label"),
    [
        (
            "large=http://gpu1:30000",
            {"kind": "auto", "way": "url", "url": "http://gpu1:30000"},
            "openai http://gpu1:30000",
        ),
        ("large=http://gpu1:1/", {"kind": "auto", "url": "http://gpu1:1", "model": None}, None),
        ("large=http://gpu1:1/v1", {"url": "http://gpu1:1", "model": None}, None),
        ("large=http://gpu1:1/v1/", {"url": "http://gpu1:1", "model": None}, None),
        (
            "large=http://gpu1:1/org/m",
            {"url": "http://gpu1:1", "model": "org/m"},
            "openai org/m http://gpu1:1",
        ),
        ("large=http://gpu1:1/v1/org/m", {"url": "http://gpu1:1", "model": "org/m"}, None),
        ("large=http://gpu1:1/v1/chat/completions", {"url": "http://gpu1:1", "model": None}, None),
        ("large=process:llamacpp?model=nano", {"kind": "llamacpp", "slots": 1}, None),
        ("large=https://host/api/v1", {"url": "https://host/api", "model": None}, None),
        ("large=http://gpu1:1?model=org/m", {"url": "http://gpu1:1", "model": "org/m", "options": {}}, None),
        (
            "large=http://gpu1:1?timeout_s=9.5&key_env=K",
            {"options": {"timeout_s": 9.5, "key_env": "K"}},
            None,
        ),
        ("large=llamacpp+http://gpu1:1", {"kind": "llamacpp", "url": "http://gpu1:1"}, None),
        ("large=openai+http://gpu1:1", {"kind": "openai", "url": "http://gpu1:1"}, None),
        (
            "large=sglang://gpu1:30000/Qwen/Qwen2.5-7B",
            {"kind": "sglang", "way": "url", "url": "http://gpu1:30000", "model": "Qwen/Qwen2.5-7B"},
            "sglang Qwen/Qwen2.5-7B http://gpu1:30000",
        ),
        ("large=sglang://gpu1", {"url": "http://gpu1:30000", "model": None}, None),
        ("large=vllm://[::1]/m?slots=8", {"url": "http://[::1]:8000", "model": "m"}, None),
        ("large=vllm://gpu1?model=org/m", {"url": "http://gpu1:8000", "model": "org/m"}, None),
        ("large=sglang+https://host/api", {"kind": "sglang", "url": "https://host", "model": "api"}, None),
        (
            "small=ollama://127.0.0.1:11434/qwen2.5:0.5b-instruct?num_ctx=4096&keep_alive=5m",
            {
                "kind": "ollama",
                "url": "http://127.0.0.1:11434",
                "model": "qwen2.5:0.5b-instruct",
                "options": {"num_ctx": 4096, "keep_alive": "5m"},
            },
            None,
        ),
        (
            "large=process:vllm?model=org/m&python=/envs/vllm/bin/python&args=--dtype%20float32",
            {
                "kind": "vllm",
                "way": "process",
                "starts": "vllm",
                "model": "org/m",
                "url": None,
                "options": {"python": "/envs/vllm/bin/python", "args": "--dtype float32"},
            },
            "vllm org/m process",
        ),
        (
            "large=process:transformers?model=nano",
            {"kind": "transformers-serve", "starts": "transformers"},
            None,
        ),
        (
            "large=container:sglang?model=org/m&gpus=all&pull=1",
            {"kind": "sglang", "way": "container", "options": {"gpus": "all", "pull": True}},
            None,
        ),
        (
            "small=container:reg:5000/my/image:tag?port=8080&speaks=llamacpp",
            {"kind": "llamacpp", "starts": "reg:5000/my/image:tag", "options": {"port": 8080}},
            None,
        ),
        (
            "small=transformers:/m/nano?dtype=bfloat16",
            {"kind": "transformers", "way": "transformers", "model": "/m/nano", "slots": 1},
            None,
        ),
        (
            "large=simulated:mistral-7b?device=h100&slots=4",
            {"kind": "simulated", "is_simulated": True, "slots": 4},
            None,
        ),
        (
            "small=pocket:nano",
            {"kind": "llamacpp", "model": "nano", "quant": "f16", "url": None, "gguf": None},
            "llama.cpp nano f16",
        ),
        ("small=pocket:nano@q8_0", {"model": "nano", "quant": "q8_0"}, "llama.cpp nano q8_0"),
        (
            "small=pocket:nano?n_parallel=4&slowdown=0.1",
            {"quant": "f16", "options": {"n_parallel": 4, "slowdown": 0.1}},
            None,
        ),
        ("code-fast=gguf:/m/a.gguf", {"role": "code-fast", "gguf": "/m/a.gguf", "model": "a"}, "llama.cpp a"),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" in value else "",
)
def test_a_spec_is_read_as_documented(text: str, fields: dict[str, Any], label: str | None) -> None:
    """Each form of `ROLE=SPEC` gives the spec that the module's docstring says."""
    spec = parse_backend(text)
    assert {name: getattr(spec, name) for name in fields} == fields
    assert spec.is_embedded is (spec.way == "embedded")
    assert (spec.url is not None) is (spec.way == "url")
    assert label is None or spec.label == label
    assert isinstance(hash(spec), int)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("large", "ROLE=SPEC"),
        ("=http://x", "ROLE=SPEC"),
        ("large=", "ROLE=SPEC"),
        ("large=vllm:qwen", "unknown scheme 'vllm'"),
        ("large=ftp+http://x", "unknown scheme 'ftp+http'"),
        ("large=sglang:///m", "is no URL"),
        ("large=sglang://host?num_ctx=1", "unknown option 'num_ctx'"),
        ("large=process:triton?model=m", "no engine 'triton' can be started; use sglang, vllm"),
        ("large=process:vllm", "vllm serves one model; name it with ?model=NAME"),
        ("large=container:my/image", "give it with ?port=8000"),
        ("large=container:my/image?port=1&speaks=grpc", "speaks is 'grpc'"),
        ("large=container:vllm?model=m&pull=maybe", "give a 0 or 1"),
        ("large=transformers:", "nothing after transformers:"),
        ("large=gpu1", "unknown scheme 'gpu1'"),
        ("large=http://", "is no URL"),
        ("large=http://host:99999", "is no URL"),
        ("large=http://host:abc", "is no URL"),
        ("small=pocket:", "nothing after pocket:"),
        ("small=pocket:nano?n_slots=4", "unknown option 'n_slots'; known are n_ctx, n_parallel"),
        ("small=pocket:nano?n_ctx=many", "n_ctx is 'many'"),
        ("small=pocket:nano?slowdown=-1", "slowdown is '-1'; give a number of at least 0"),
        ("small=pocket:nano?slowdown=nan", "slowdown is 'nan'"),
        ("small=pocket:nano?n_parallel=0", "n_parallel is '0'; give a whole number of at least 1"),
        ("large=http://host?slots=0", "slots is '0'"),
        ("large=http://host?timeout_s=0", "timeout_s is '0'; give a number of seconds above 0"),
        ("large=http://host?timeout_s=nan", "timeout_s is 'nan'"),
        ("large=http://host?deadline_s=-3", "deadline_s is '-3'"),
        ("large=http://host?deadline_s=inf", "deadline_s is 'inf'"),
        ("large=ollama://host/m?num_ctx=0", "num_ctx is '0'"),
        ("large=process:vllm?model=m&port=70000", "port is '70000'; give a port, 1 to 65535"),
        ("large=process:vllm?model=", "model is ''; give a text"),
        ("large=http://host?n_ctx=1", "unknown option 'n_ctx'"),
    ],
    ids=lambda value: value if "=" in value else "",
)
def test_a_malformed_spec_is_one_clear_error(text: str, says: str) -> None:
    """The error repeats the argument, says what is wrong with it and what would be right."""
    with pytest.raises(UsageError) as caught:
        parse_backend(text)
    assert str(caught.value).startswith(f"--backend {text}: ")
    assert says in str(caught.value)


def test_a_pocket_spec_launches_its_file_with_its_options() -> None:
    """Model, quantization and options reach the launcher."""
    launcher = launcher_for(parse_backend("small=pocket:nano@q8_0?n_parallel=4&n_ctx=512"))
    assert launcher == EmbeddedLauncher(
        name="small", gguf=gguf_path("nano", quant="q8_0"), model="nano", n_parallel=4, n_ctx=512
    )


@pytest.mark.parametrize("text", ["small=pocket:no-such-model", "small=pocket:nano@q99"])
def test_an_unknown_pocket_model_is_told(text: str) -> None:
    """A model or quantization that does not exist is an error of the model, before anything starts."""
    with pytest.raises(ModelError):
        launcher_for(parse_backend(text))


def test_a_key_in_a_url_is_refused_and_not_repeated() -> None:
    """What stands in an error, a label or a record is no place for a secret."""
    with pytest.raises(UsageError, match=r"use \?key_env=VARIABLE") as caught:
        parse_backend("large=http://user:secret@host:1/m")
    assert "secret" not in str(caught.value)


def test_a_spec_chooses_its_client() -> None:
    """The protocol spoken decides the class, and options reach it."""
    server = Server(url="http://x", model="m", start_s=0.0)
    plain = backend_for(BackendSpec(role="large", kind="openai", url="http://x"), server)
    slowed = backend_for(parse_backend("small=gguf:/m.gguf?slowdown=0.5&timeout_s=7"), server)
    assert type(plain) is OpenAIBackend
    assert isinstance(slowed, LlamaCppBackend)
    assert (slowed.slowdown, slowed.timeout_s, slowed.name, slowed.model) == (0.5, 7.0, "small", "m")


@pytest.mark.parametrize("scheme", ["sglang", "vllm", "ollama", "llamacpp"])
def test_a_server_that_does_not_name_itself_is_no_proof_of_an_engine(scheme: str) -> None:
    """Without its word, nothing but the plain API is assumed."""
    server = Server(url="http://x:1", model="m", start_s=0.0)
    with pytest.raises(UsageError, match=r"does not say what it is, not .*; use openai\+http://"):
        backend_for(parse_backend(f"large={scheme}://x:1/m"), server)
    assert type(backend_for(parse_backend("large=openai+http://x:1/m"), server)) is OpenAIBackend


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("gpu1", "http://gpu1:11434"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://gpu1:9000/", "http://gpu1:9000"),
    ],
)
def test_ollama_without_a_host_is_where_its_own_variable_says(
    host: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ollama:///MODEL` follows OLLAMA_HOST as Ollama's own programs do, and else its default."""
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    if host is not None:
        monkeypatch.setenv("OLLAMA_HOST", host)
    spec = parse_backend("edge-small=ollama:///qwen2.5:0.5b-instruct")
    assert (spec.url, spec.model) == (url, "qwen2.5:0.5b-instruct")


def test_a_server_is_spoken_to_as_what_it_says_it_is() -> None:
    """`http://` asks; the plain API is there for who insists."""
    server = Server(url="http://x", model="m", start_s=0.0, engine="llama.cpp")
    assert type(backend_for(parse_backend("large=http://x"), server)) is LlamaCppBackend
    assert type(backend_for(parse_backend("large=openai+http://x"), server)) is OpenAIBackend


def test_a_server_that_is_another_engine_than_its_scheme_says_is_an_error() -> None:
    """A claim about SGLang is never decided by another engine under its name."""
    server = Server(url="http://x:1", model="m", start_s=0.0, engine="llama.cpp")
    with pytest.raises(
        UsageError, match=r"http://x:1 says that it is llama\.cpp, not sglang; use llamacpp://"
    ):
        backend_for(parse_backend("large=sglang://x:1"), server)


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line names a variable, never the key; a variable that is not set is told."""
    with CannedServer() as canned:
        spec = parse_backend(f"large={canned.url}?key_env=ASSAY_TEST_KEY")
        with pytest.raises(UsageError, match="ASSAY_TEST_KEY is not set"):
            launcher_for(spec)
        monkeypatch.setenv("ASSAY_TEST_KEY", "secret")
        asyncio.run(_ask(spec))
        assert canned.exchanges[0].headers["authorization"] == "Bearer secret"


def test_connecting_finds_the_model_and_answers() -> None:
    """From the text of the command line to an answer."""
    with CannedServer() as canned:
        assert asyncio.run(_ask(parse_backend(f"large={canned.url}/v1"))) == ("canned", " token" * 3)


def test_connecting_to_a_pocket_model_starts_and_stops_its_engine() -> None:
    """An embedded engine lives as long as its connection."""

    async def url_and_text() -> tuple[str, str]:
        async with connect(parse_backend("small=pocket:nano")) as (server, backend):
            answer = await backend.generate(Request(prompt="def f(x)", max_tokens=3, ignore_eos=True))
            return server.url, answer.text

    url, text = asyncio.run(url_and_text())
    assert text
    with pytest.raises(HarnessError):
        asyncio.run(_ask(parse_backend(f"small={url}?deadline_s=0.2")))


def test_a_dead_url_is_one_clear_error() -> None:
    """Nobody at the address: role, URL, reason and remedy, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(LaunchError) as caught:
        asyncio.run(_ask(parse_backend(f"large={url}?deadline_s=0.2")))
    message = str(caught.value)
    assert message.startswith(f"large: no server answers at {url}")
    assert "Connection refused" in message
    assert "--backend large=URL" in message
    assert "\n" not in message


async def _ask(spec: BackendSpec) -> tuple[str, str]:
    async with connect(spec) as (server, backend):
        answer = await backend.generate(Request(messages=(Message("user", "x"),), max_tokens=3))
        return server.model, answer.text
