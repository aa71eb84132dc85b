"""The backends under test and the servers they speak to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.backends.openai import OpenAIBackend
from harness.errors import BackendRejected, UnavailableError
from harness.launchers.canned import CannedServer
from tests.conformance.extras import LACKS
from tests.conformance.recording import (
    behaviour_of,
    pytest_addoption,
    pytest_configure,
    pytest_generate_tests,
    pytest_runtest_makereport,
    pytest_sessionfinish,
)
from tests.conformance.subjects import CLIENTS, Servers, Subject

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
]

LACKING = (AssertionError, BackendRejected)
"""What a check of something that is not there ends in; all else is a fault."""


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this session, each launched when first needed."""
    running = Servers()
    yield running
    running.stop()


@pytest.fixture
def subject(request: pytest.FixtureRequest, servers: Servers) -> Subject:
    """Each backend in turn; skipped, with the line that makes it available, where it is not.

    A test of what the backend is declared not to offer has to fail, and not by a crash.
    """
    try:
        subject = servers.subject(request.param)
    except UnavailableError as exc:
        pytest.skip(str(exc))
    source = LACKS.get((subject.name, behaviour_of(request.node)))
    if source is not None:
        request.applymarker(pytest.mark.xfail(reason=source, strict=True, raises=LACKING))
    return subject


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    """A server that records what it gets and behaves as told."""
    with CannedServer() as server:
        yield server


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest, canned: CannedServer) -> OpenAIBackend:
    """Each HTTP backend in turn, speaking to the canned server."""
    return CLIENTS[request.param](canned.url, model="canned", name="small", timeout_s=5)
