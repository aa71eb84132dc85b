"""The image that the containers run, and a look at what is left of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.errors import UnavailableError
from harness.launchers.container_engine import open_engine
from harness.launchers.image import have_image


@pytest.fixture(scope="session")
def image() -> str:
    """llama.cpp's server in an image of its own."""
    try:
        return have_image()
    except UnavailableError as exc:
        pytest.skip(str(exc))


class Leftovers:
    """The containers of one role, by the engine's word."""

    def __init__(self, role: str) -> None:
        self.role = role

    def names(self) -> list[str]:
        """Those there are, running or not."""
        with open_engine("test") as engine:
            found = engine.client.containers.list(all=True, filters={"name": f"assay-{self.role}-"})
            return [container.name for container in found]

    def are_gone_within(self, seconds: float) -> bool:
        """Whether none is left after that time."""
        ends_s = time.monotonic() + seconds
        while self.names():
            if time.monotonic() > ends_s:
                return False
            time.sleep(0.2)
        return True


@pytest.fixture
def leftovers(request: pytest.FixtureRequest) -> Iterator[Leftovers]:
    """The containers of this test's role; whatever the test does, none may be left."""
    role = f"t{abs(hash((request.node.nodeid, time.time()))) % 10**10}"
    left = Leftovers(role)
    yield left
    assert left.names() == []
