"""The backends under test, each as a `Subject`: how to make it, and how to see from outside what it left."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.backends import Backend, Completion, Request
from harness.backends.fake import FakeBackend
from harness.backends.llamacpp import LlamaCppBackend
from harness.backends.openai import OpenAIBackend
from harness.launchers import Server

SUBJECTS = ("llamacpp", "openai", "fake")
CLIENTS: dict[str, type[OpenAIBackend]] = {"llamacpp": LlamaCppBackend, "openai": OpenAIBackend}
N_PARALLEL = 4

T = TypeVar("T")


@dataclass
class Subject:
    """A backend to be tested."""

    name: str
    server: Server
    made: list[Backend] = field(default_factory=list)

    def make(self, **options: Any) -> Backend:
        """A new client of the subject's server; `timeout_s` is the option that all have."""
        if self.name == "fake":
            backend: Backend = FakeBackend(model="nano", prefill_s=0.001, token_s=0.0002, **options)
        else:
            backend = CLIENTS[self.name](self.server.url, model="nano", name="small", **options)
        self.made.append(backend)
        return backend

    def make_unreachable(self) -> Backend:
        """A client of a server that is not there."""
        if self.name == "fake":
            return FakeBackend(reachable=False)
        return CLIENTS[self.name]("http://127.0.0.1:9", model="nano", name="small")

    def is_idle(self) -> bool:
        """Whether the server works on nothing, by its own account."""
        if self.name == "fake":
            return not any(backend.num_running for backend in self.made if isinstance(backend, FakeBackend))
        return not any(slot["is_processing"] for slot in self.ask("/slots"))

    def count_tokens(self, text: str) -> int:
        """The tokens of a raw prompt, by the server's own tokenizer."""
        if self.name == "fake":
            return len(text.split())
        return len(self.ask("/tokenize", {"content": text})["tokens"])

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the server directly, past the backend."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server.url + path, data)
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)


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
