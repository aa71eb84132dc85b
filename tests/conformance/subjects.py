"""The backends under test: how each comes to be, which client speaks to it, and how to look past that client.

A subject that is not available here is skipped with the line that would make it available. Those with a
marker are dear, and run only when named: `--subjects vllm,ollama`, or `-m vllm`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from harness.backends import Backend, Completion, OnChunk, Request
from harness.backends.connect import backend_for, launcher_for
from harness.backends.fake import FakeBackend
from harness.backends.http import HttpBackend
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.ollama import OllamaBackend
from harness.backends.openai import OpenAIBackend
from harness.backends.sglang import SGLangBackend
from harness.backends.spec import BackendSpec, parse_backend
from harness.backends.transformers_serve import TransformersServeBackend
from harness.backends.vllm import VLLMBackend
from harness.clock import now_s
from harness.errors import HarnessError, LaunchError, UnavailableError
from harness.launchers import Launcher, Server
from tests.conformance.views import (
    CpuView,
    FakeView,
    HeldView,
    LlamaCppView,
    MetricsView,
    OllamaView,
    SimulatedView,
    View,
)

N_PARALLEL = 4
CLIENTS: dict[str, type[OpenAIBackend]] = {
    "llamacpp": LlamaCppBackend,
    "openai": OpenAIBackend,
    "sglang": SGLangBackend,
    "transformers-serve": TransformersServeBackend,
    "vllm": VLLMBackend,
}
"""Those that speak the OpenAI API; for Ollama's see `test_conformance_ollama_wire.py`."""
OLLAMA_MODEL = os.environ.get("ASSAY_OLLAMA_MODEL", "qwen2.5:0.5b-instruct")
NOWHERE = "http://127.0.0.1:9"

T = TypeVar("T")


class WithoutExactLength(OllamaBackend):
    """Ollama refuses a length that it cannot promise; here it is asked for its answers as they end."""

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        return await super().generate(replace(request, ignore_eos=False), on_chunk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A subject, as plain data: nothing started."""

    name: str
    """By which `--subjects` and its stored cells know it."""
    head: str
    """What the table calls it."""
    spec: str | None = None
    """As on the command line, without the role; `None` for a script."""
    view: type[Any] = LlamaCppView
    client: type[HttpBackend] | None = None
    """In place of the one that the spec gives."""
    prepare: Callable[[str], Launcher] | None = None
    """The way to its server, of the spec, where the spec alone does not say it."""
    large: str | None = None
    """The same with a model whose prefill is worth measuring; `None` measures the subject's own."""
    marker: str | None = None
    """It runs only when named."""
    is_found: bool = False
    """A server of the user's own: taken where it runs, and no failure where it does not."""

    def parsed(self) -> BackendSpec:
        """The spec, read."""
        return parse_backend(f"{self.name}={self.spec}")

    def launcher(self) -> Launcher:
        """The way to its server."""
        return launcher_for(self.parsed()) if self.prepare is None else self.prepare(str(self.spec))


def _started(name: str, options: str = "") -> Row:
    specs = {"spec": f"process:{name}?model=nano{options}", "large": f"process:{name}?model=large{options}"}
    return Row(name=name, head=name, view=MetricsView, marker=name, **specs)


def _simulation(spec: str) -> Launcher:
    """The spec's engine with answers that end, which no spec can ask for."""
    from harness.launchers.inprocess import SimulatedLauncher

    model, _, device = spec.removeprefix("simulated:").partition("?device=")
    return SimulatedLauncher(name="simulated", model=model, device=device, output="alpaca")


def _contained(spec: str) -> Launcher:
    """The spec's container, of an image made here: the official one is not to be had without a registry."""
    from harness.launchers.image import have_image

    return launcher_for(parse_backend(f"container={spec}&image={have_image('container')}"))


_LLAMACPP = {"spec": f"pocket:nano?n_parallel={N_PARALLEL}", "large": "pocket:large"}
ROWS = (
    Row(name="llamacpp", head="llamacpp", **_LLAMACPP),
    Row(name="openai", head="openai, at llama.cpp", client=OpenAIBackend, **_LLAMACPP),
    Row(
        name="transformers",
        head="transformers, in-process",
        spec="transformers:nano",
        large="transformers:large",
        view=HeldView,
    ),
    Row(
        name="transformers-serve",
        head="transformers-serve",
        spec="process:transformers?model=nano",
        view=CpuView,
        client=TransformersServeBackend,
    ),
    Row(
        name="ollama",
        head="ollama",
        spec=f"ollama:///{OLLAMA_MODEL}?deadline_s=0.5",
        client=WithoutExactLength,
        view=OllamaView,
        is_found=True,
    ),
    Row(
        name="container",
        head="llamacpp, in a container",
        spec=f"container:llamacpp?model=nano&args=--parallel {N_PARALLEL} --ctx-size {1024 * N_PARALLEL}",
        large="container:llamacpp?model=large",
        prepare=_contained,
        marker="containers",
    ),
    _started("vllm", "&args=--enable-per-request-metrics"),
    _started("sglang"),
    Row(
        name="simulated",
        head="simulated",
        spec="simulated:Qwen2.5-0.5B-Instruct?device=H100-SXM",
        prepare=_simulation,
        view=SimulatedView,
    ),
    Row(name="fake", head="fake", view=FakeView),
)
NAMES = tuple(row.name for row in ROWS)


@dataclass
class Subject:
    """A backend to be tested, with its server running."""

    row: Row
    server: Server | None
    engine: str = ""
    """Name and version of what answers."""
    large: Callable[[], Subject] | None = None
    """The same with a larger model, started when first asked for."""
    made: list[Backend] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was seen, for its cell."""
    num_waits: int = 0
    """Of a script: one before each token."""

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def model(self) -> str:
        """The model's name as the server knows it."""
        return "nano" if self.server is None else self.server.model

    @property
    def view(self) -> View:
        """The engine, seen past the client."""
        seen: View = (
            FakeView(self.made, lambda: self.num_waits) if self.server is None else self.row.view(self.server)
        )
        return seen

    def make(self, **options: Any) -> Backend:
        """A new client of the subject's server; `timeout_s` is the option that all have."""
        if self.server is None:
            script = {"prefill_s": 0.001, "token_s": 0.0002, "clock": now_s, "sleep": self._wait}
            backend: Backend = FakeBackend(model="nano", **script, **options)  # type: ignore[arg-type]
        else:
            backend = _client(self.row, self.server, **options)
        self.made.append(backend)
        return backend

    def make_unreachable(self) -> Backend:
        """A client of a server that is not there."""
        if self.server is None:
            return FakeBackend(reachable=False)
        if self.server.held is None:
            # Made for the server that is there: a spec is held to what its server says that it is.
            backend: Any = _client(self.row, self.server)
            backend.url = NOWHERE
            return backend  # type: ignore[no-any-return]
        gone = self.row.launcher().launch()
        gone.stop()
        return _client(self.row, gone)

    async def _wait(self, wait_s: float) -> None:
        self.num_waits += 1
        await asyncio.sleep(wait_s)

    def note(self, what: str) -> None:
        """Keep what was seen."""
        self.notes.append(what)


class Servers:
    """The servers of a session: each spec launched once, when first needed."""

    def __init__(self) -> None:
        self._running: dict[str, Server] = {}
        self._failed: dict[str, HarnessError] = {}
        self._engines: dict[str, str] = {}

    def of(self, row: Row) -> Server | None:
        """The subject's server.

        Raises
        ------
        UnavailableError: it cannot run here; the message is the line that would make it available.
        LaunchError: it did not come up.
        """
        if row.spec is None:
            return None
        if row.spec in self._failed:
            raise self._failed[row.spec]
        if row.spec not in self._running:
            try:
                self._running[row.spec] = row.launcher().launch()
            except LaunchError as exc:
                self._failed[row.spec] = UnavailableError(str(exc)) if row.is_found else exc
                raise self._failed[row.spec] from exc
            except HarnessError as exc:
                self._failed[row.spec] = exc
                raise
        return self._running[row.spec]

    def subject(self, row: Row) -> Subject:
        """A fresh subject of the row; raises as `of` does."""
        subject = Subject(row, self.of(row))
        if row.name not in self._engines:
            self._engines[row.name] = subject.view.engine()
        subject.engine = self._engines[row.name]
        if row.large is not None:
            large = replace(row, spec=row.large)
            subject.large = lambda: Subject(large, self.of(large))
        return subject

    def stop(self) -> None:
        """End them all."""
        while self._running:
            self._running.popitem()[1].stop()


def _client(row: Row, server: Server, **options: Any) -> Backend:
    if row.client is not None:
        return row.client(server.url, model=server.model, name=row.name, **options)
    spec = row.parsed()
    return backend_for(replace(spec, options={**spec.options, **options}), server)


def run(backend: Backend, *requests: Request) -> list[Completion]:
    """Answer the requests one after the other, on an event loop of their own."""

    async def answer_all() -> list[Completion]:
        return [await backend.generate(request) for request in requests]

    return use(backend, answer_all)


def use(backend: Backend, what: Callable[[], Awaitable[T]]) -> T:
    """Do something with a backend on an event loop of its own, and close the backend."""

    async def do() -> T:
        try:
            return await what()
        finally:
            await backend.aclose()

    return asyncio.run(do())
