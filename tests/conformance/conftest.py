"""The backends under test and the servers they speak to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.backends.openai import OpenAIBackend
from harness.launchers import EmbeddedLauncher, Server
from harness.launchers.canned import CannedServer
from tests.conformance.subjects import CLIENTS, N_PARALLEL, SUBJECTS, Subject


@pytest.fixture(scope="session")
def engine() -> Iterator[Server]:
    """llama.cpp with the smallest pocket model and a few slots."""
    from harness.models import gguf_path

    with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano", n_parallel=N_PARALLEL).launch() as server:
        yield server


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, engine: Server) -> Subject:
    """Each backend in turn."""
    return Subject(request.param, engine)


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    """A server that records what it gets and behaves as told."""
    with CannedServer() as server:
        yield server


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest, canned: CannedServer) -> OpenAIBackend:
    """Each HTTP backend in turn, speaking to the canned server."""
    return CLIENTS[request.param](canned.url, model="canned", name="small", timeout_s=5)
