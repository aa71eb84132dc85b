"""A session server over the counting engine in a thread of this process, its budget, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.hardware.budget import DeviceBudget
from harness.sessions.address import Address
from harness.sessions.client import SessionClient
from harness.sessions.limits import Limits
from harness.sessions.server import SessionServer, serve_in_thread
from tests.session_servers import TOKEN_BYTES, Unhurried, connect


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(20_000 * TOKEN_BYTES)
    yield budget
    budget.remove()


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Address.of_path(str(tmp_path / "s")) if request.param == "unix" else Address()


@pytest.fixture
def limits() -> Limits:
    """What the server takes; a file of tests may put others in its place."""
    return Limits()


@pytest.fixture
def server(budget: DeviceBudget, tmp_path: Path, limits: Limits) -> Iterator[SessionServer]:
    path = Address.of_path(str(tmp_path / "s"))
    with serve_in_thread(lambda: Unhurried(budget), path, limits=limits) as server:
        yield server


@pytest.fixture
def client(server: SessionServer) -> Iterator[SessionClient]:
    with connect(server) as client:
        yield client
