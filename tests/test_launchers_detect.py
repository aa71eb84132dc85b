"""Finding servers that run already, and what is said of those that cannot serve."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.backends import parse_backend
from harness.errors import LaunchError, UsageError
from harness.launchers import EmbeddedLauncher, Server, UrlLauncher
from harness.launchers.__main__ import lines, main
from harness.launchers.canned import (
    Behaviour,
    CannedServer,
    hanging,
    hanging_up,
    refusing,
    replaying,
    routing,
)
from harness.launchers.detect import Found, detect
from harness.models import gguf_path

PATIENT_S = 20.0
"""For servers that do answer, on a machine that may be busy."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Server]:
    """llama.cpp, as a real server among the canned ones."""
    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano").launch() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set on this machine is not under test."""
    monkeypatch.delenv("OLLAMA_HOST", raising=False)


def port_of(url: str) -> int:
    """The port of a URL."""
    return int(url.rpartition(":")[2])


def listing(*models: str, owner: str = "library") -> Behaviour:
    """A list of models, as servers with the OpenAI API give it."""
    data = [{"id": model, "owned_by": owner} for model in models] or None
    return replaying(json.dumps({"object": "list", "data": data}).encode(), content_type="application/json")


def ollama(*models: str) -> Behaviour:
    """Ollama's list of models and its greeting at the root."""
    greeting = replaying(b"Ollama is running", content_type="text/plain; charset=utf-8")
    return routing(**{"models": listing(*models), "": greeting})


class TestDetect:
    """What answers at the usual ports."""

    def test_a_running_engine_is_found_and_named(self, engine: Server) -> None:
        """The line printed for it is one that the command line takes."""
        [found] = detect(ports=(port_of(engine.url),), limit_s=PATIENT_S)
        assert found == Found(url=engine.url, engine="llama.cpp", models=("nano",))
        [line] = lines(found)
        assert line == f"--backend ROLE=llamacpp://127.0.0.1:{port_of(engine.url)}"
        assert parse_backend(line.removeprefix("--backend ")).kind == "llamacpp"

    @pytest.mark.parametrize(
        ("behave", "expected"),
        [
            (listing("org/m", owner="sglang"), ["--backend ROLE=sglang://{at}/org/m"]),
            (
                listing("a", "b", owner="vllm"),
                ["--backend ROLE=vllm://{at}/a", "--backend ROLE=vllm://{at}/b"],
            ),
            (ollama("qwen2.5:0.5b-instruct"), ["--backend ROLE=ollama://{at}/qwen2.5:0.5b-instruct"]),
            (ollama(), ["# http://{at}: ollama has no model; run `ollama pull NAME`"]),
            (listing("m", owner="me"), ["--backend ROLE=http://{at}/m"]),
            (listing("/models/a b", owner="me"), ["--backend 'ROLE=http://{at}?model=/models/a%20b'"]),
            (refusing(401, "no key"), ["--backend 'ROLE=http://{at}?key_env=VARIABLE'"]),
            (
                refusing(503, "Loading model"),
                ["# http://{at}: a server that names no engine is still loading"],
            ),
        ],
        ids=["SGLang", "vLLM", "Ollama", "Ollama, empty", "another", "a path", "wants a key", "loads"],
    )
    def test_each_engine_has_its_line(self, behave: Behaviour, expected: list[str]) -> None:
        """Scheme, address and model, or what is missing."""
        with CannedServer() as server:
            server.behave_at_models = behave
            [found] = detect(ports=(port_of(server.url),), limit_s=PATIENT_S)
        assert [line.partition("; ask")[0] for line in lines(found)] == [
            line.format(at=server.url.removeprefix("http://")) for line in expected
        ]

    @pytest.mark.parametrize(
        "behave",
        [replaying(b"<html>", content_type="text/html"), replaying(b"[]"), refusing(404, "no"), hanging_up],
        ids=["a site", "another list", "no list", "hangs up"],
    )
    def test_what_is_no_engine_is_not_found(self, behave: Behaviour) -> None:
        """Other programs listen at such ports too."""
        with CannedServer() as server:
            server.behave_at_models = behave
            assert detect(ports=(port_of(server.url),), limit_s=PATIENT_S) == []

    def test_silent_ports_do_not_hold_up_the_others(self, engine: Server) -> None:
        """A port that accepts and says nothing, in whatever way, costs no more than the limit."""
        with CannedServer() as silent, socket.create_server(("127.0.0.1", 0)) as deaf:
            silent.behave_at_models = hanging
            ports = (port_of(silent.url), deaf.getsockname()[1], port_of(engine.url))
            began_s = time.monotonic()
            found = detect(ports=ports, limit_s=2)
            took_s = time.monotonic() - began_s
        assert [server.url for server in found] == [engine.url]
        assert took_s < 10

    @pytest.mark.parametrize("form", ["127.0.0.1:{}", "http://127.0.0.1:{}", "0.0.0.0:{}", ":{}"])
    def test_ollama_is_looked_for_where_its_variable_says(
        self, monkeypatch: pytest.MonkeyPatch, form: str
    ) -> None:
        """OLLAMA_HOST is read as Ollama's own client reads it."""
        with CannedServer() as server:
            server.behave_at_models = ollama("llama3:latest")
            monkeypatch.setenv("OLLAMA_HOST", form.format(port_of(server.url)))
            [found] = detect(ports=(), limit_s=PATIENT_S)
        assert (found.url, found.engine, found.models) == (server.url, "ollama", ("llama3:latest",))

    @pytest.mark.parametrize("host", ["", "x:y", "http://[", "no.such.host.invalid"])
    def test_a_wrong_variable_finds_nothing(self, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
        """A typo there is no reason to fail."""
        monkeypatch.setenv("OLLAMA_HOST", host)
        assert detect(ports=()) == []


class TestProgram:
    """`python -m harness.launchers`."""

    def test_says_where_it_looked_when_nothing_runs(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One line, and an exit status that a script can test."""
        monkeypatch.setattr("harness.launchers.__main__.detect", lambda hosts: [])
        assert main([]) == 1
        said = capsys.readouterr().err
        assert said.startswith("nothing answers at 127.0.0.1 (")
        assert "30000, 30001, 8000, 8080, 11434" in said

    @pytest.mark.parametrize("form", ["{host}:{port}", "http://{host}:{port}", "http://{host}:{port}/"])
    def test_asks_an_address_as_it_stands(
        self, form: str, engine: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A port that no engine has by default is found when it is named."""
        assert main([form.format(host="127.0.0.1", port=port_of(engine.url))]) == 0
        assert f"llamacpp://127.0.0.1:{port_of(engine.url)}" in capsys.readouterr().out

    @pytest.mark.parametrize("host", ["no.such.host.invalid", "http://[", "no.such.host.invalid:80"])
    def test_a_name_that_leads_nowhere_is_told(self, host: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A typo in a host is no machine without servers."""
        assert main([host]) == 2
        assert capsys.readouterr().err.startswith(f"{host}: ")

    def test_prints_what_it_found(
        self, engine: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A line for each server, at the hosts that were named."""

        def found(hosts: list[str]) -> list[Found]:
            return detect(hosts, ports=(port_of(engine.url),), limit_s=PATIENT_S)

        monkeypatch.setattr("harness.launchers.__main__.detect", found)
        assert main(["127.0.0.1", "localhost"]) == 0
        at = f":{port_of(engine.url)}\n"
        line = "--backend ROLE=llamacpp://"
        assert capsys.readouterr().out == f"{line}127.0.0.1{at}{line}localhost{at}"


class TestUrlLauncher:
    """A server at a URL that the user named."""

    @pytest.mark.parametrize(
        ("asked", "served"),
        [("llama3", "llama3:latest"), ("LLAMA3:latest", "llama3:latest"), (None, "llama3:latest")],
    )
    def test_ollama_completes_a_name_with_its_tag(self, asked: str | None, served: str) -> None:
        """A name without a tag is its latest."""
        with CannedServer() as server:
            server.behave_at_models = ollama("llama3:latest")
            found = UrlLauncher(url=server.url, model=asked).launch()
        assert (found.model, found.engine) == (served, "ollama")

    def test_only_ollama_completes_names(self) -> None:
        """Elsewhere a name is a name."""
        with CannedServer() as server:
            server.behave_at_models = listing("llama3:latest", owner="vllm")
            with pytest.raises(UsageError, match="serves llama3:latest, not llama3; name one it serves"):
                UrlLauncher(url=server.url, model="llama3").launch()

    @pytest.mark.parametrize(
        ("behave", "given", "error", "says"),
        [
            (ollama("a:latest"), {"model": "b"}, UsageError, "has a:latest, not b; run `ollama pull b`"),
            (ollama(), {}, UsageError, "serves no model; run `ollama pull NAME` first"),
            (listing(owner="vllm"), {}, UsageError, "serves no model; load one"),
            (refusing(401, "no"), {}, LaunchError, "answered 401, as it wants a key; .*key_env"),
            (refusing(403, "no"), {"api_key": "x"}, LaunchError, "403, as it does not take the key"),
            (refusing(404, "no"), {}, LaunchError, "answered 404; .*OpenAI-compatible"),
            (replaying(b"<html>"), {}, LaunchError, "gave no list of models"),
            (refusing(503, "Loading"), {"deadline_s": 0.2}, LaunchError, r"within 0\.2 s \(status 503\)"),
        ],
        ids=["not pulled", "empty Ollama", "empty", "key", "wrong key", "no list", "a site", "loads"],
    )
    def test_what_is_missing_is_one_line_with_its_remedy(
        self, behave: Behaviour, given: dict[str, Any], error: type[Exception], says: str
    ) -> None:
        """The role is named, and what to do."""
        with CannedServer() as server:
            server.behave_at_models = behave
            with pytest.raises(error, match=f"small: .*{says}") as caught:
                UrlLauncher(name="small", url=server.url, **given).launch()
        assert "\n" not in str(caught.value)
