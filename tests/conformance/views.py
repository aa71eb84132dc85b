"""What can be seen of an engine from outside, past the client under test: its work, and its tokens.

A client that misreports would agree with itself. So work, idleness and token counts are asked of the server
by plain HTTP, of the operating system, or of the model's own tokenizer file.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import pytest

from harness.backends.fake import FakeBackend
from harness.launchers import Server

__all__ = [
    "CpuView",
    "FakeView",
    "HeldView",
    "LlamaCppView",
    "MetricsView",
    "OllamaView",
    "SimulatedView",
    "View",
]

MODEL = "nano"
_SAMPLE_S = 0.2
_IDLE_SHARE = 0.1


class View(Protocol):
    """An engine, seen from outside."""

    unit: str
    """Of its work."""

    def work(self) -> float:
        """What it did since it started, in its unit: tokens that it decoded, or the time that took."""

    def is_idle(self) -> bool:
        """Whether it works on no request."""

    def count_tokens(self, text: str) -> int:
        """The tokens of a raw prompt."""

    def engine(self) -> str:
        """Name and version."""


class LlamaCppView:
    """llama.cpp's server tells its slots and what they decoded, and tokenizes."""

    unit = "tokens"

    def __init__(self, server: Server) -> None:
        self._url = server.url

    def is_idle(self) -> bool:
        return not any(slot["is_processing"] for slot in ask(f"{self._url}/slots"))

    def work(self) -> float:
        return _sum_of(self._url, "llamacpp:tokens_predicted_total")

    def count_tokens(self, text: str) -> int:
        return len(ask(f"{self._url}/tokenize", {"content": text})["tokens"])

    def engine(self) -> str:
        build = ask(f"{self._url}/props")["build_info"]
        # The wheel's build does not know its own number.
        return (
            f"llama.cpp, xllamacpp {version('xllamacpp')}"
            if build.startswith("b0-")
            else f"llama.cpp {build}"
        )


class MetricsView:
    """vLLM and SGLang publish the number of requests they run and of tokens they made, and tokenize."""

    unit = "tokens"

    _GAUGE = re.compile(r"^(?:vllm:num_requests_running|sglang:num_running_reqs)\{.*\} (\S+)$", re.MULTILINE)

    def __init__(self, server: Server) -> None:
        self._url, self._model = server.url, server.model

    def is_idle(self) -> bool:
        values = self._GAUGE.findall(_get(f"{self._url}/metrics").decode())
        assert values, f"no gauge of running requests at {self._url}/metrics"
        return not any(float(value) for value in values)

    def work(self) -> float:
        return _sum_of(self._url, "(?:vllm|sglang):generation_tokens_total")

    def count_tokens(self, text: str) -> int:
        counted: int = ask(f"{self._url}/tokenize", {"model": self._model, "prompt": text})["count"]
        return counted

    def engine(self) -> str:
        try:
            return f"vLLM {ask(f'{self._url}/version')['version']}"
        except OSError:
            return f"SGLang {ask(f'{self._url}/server_info')['version']}"


class CpuView:
    """A server that tells nothing of its work is known by the CPU time that its process uses."""

    unit = "CPU s"

    def __init__(self, server: Server) -> None:
        self._port = urlsplit(server.url).port

    def is_idle(self) -> bool:
        began_s, began = time.monotonic(), self.work()
        time.sleep(_SAMPLE_S)
        return self.work() - began < _IDLE_SHARE * (time.monotonic() - began_s)

    def count_tokens(self, text: str) -> int:
        return count_by_file(text)

    def engine(self) -> str:
        return f"transformers {version('transformers')}, serve"

    def work(self) -> float:
        import psutil

        [pid] = {
            socket.pid
            for socket in psutil.net_connections("tcp")
            if socket.status == psutil.CONN_LISTEN and socket.laddr.port == self._port
        }
        leader = psutil.Process(pid)
        times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
        return sum(t.user + t.system for t in times)


class OllamaView(CpuView):
    """Ollama tells its version; its own and its runner's CPU time tell whether they work."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._url = server.url

    def count_tokens(self, text: str) -> int:
        pytest.skip("no path tokenizes: https://github.com/ollama/ollama/blob/main/docs/api.md")

    def engine(self) -> str:
        return f"Ollama {ask(f'{self._url}/api/version')['version']}"


class HeldView:
    """An engine inside this process says itself how many requests it runs; its model's calls are counted."""

    unit = "forward passes"
    _PASSES: ClassVar[WeakKeyDictionary[Any, list[int]]] = WeakKeyDictionary()

    def __init__(self, server: Server) -> None:
        self._held: Any = server.held

    def work(self) -> float:
        if self._held not in self._PASSES:
            passes = self._PASSES[self._held] = [0]
            self._held._loaded.model.register_forward_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
        return self._PASSES[self._held][0]

    def is_idle(self) -> bool:
        return not self._held.num_running

    def count_tokens(self, text: str) -> int:
        return count_by_file(text)

    def engine(self) -> str:
        return f"transformers {version('transformers')}, torch {version('torch')}"


class SimulatedView(HeldView):
    """A simulation: tokens are four characters, begun or whole, and it sums the time of its iterations."""

    unit = "s of iterations"

    def work(self) -> float:
        busy_s: float = self._held.busy_s
        return busy_s

    def count_tokens(self, text: str) -> int:
        return (len(text) + 3) // 4

    def engine(self) -> str:
        return "published constants"


class FakeView:
    """A script: its own calls in flight, and words for tokens, with a wait before each."""

    unit = "tokens"

    def __init__(self, made: list[Any], num_waits: Callable[[], int]) -> None:
        self._made, self._num_waits = made, num_waits

    def work(self) -> float:
        return self._num_waits()

    def is_idle(self) -> bool:
        return not any(backend.num_running for backend in self._made if isinstance(backend, FakeBackend))

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def engine(self) -> str:
        return "a script"


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """A server's JSON answer, past every client of ours."""
    return json.loads(_get(url, None if body is None else json.dumps(body).encode()))


def count_by_file(text: str) -> int:
    """Tokens by the tokenizer file that the engine loads too."""
    return len(_tokenizer().encode(text).ids)


def _sum_of(url: str, counter: str) -> float:
    lines = _get(f"{url}/metrics").decode()
    values = re.findall(rf"^{counter}(?:\{{.*\}})? (\S+)$", lines, re.MULTILINE)
    assert values, f"no {counter} at {url}/metrics"
    return sum(map(float, values))


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    from harness.models import checkpoint

    return Tokenizer.from_file(str(checkpoint(MODEL) / "tokenizer.json"))


def _get(url: str, data: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as response:
        body: bytes = response.read()
        return body
