"""The image that the containers run, and a look at what is left of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from harness.errors import UnavailableError
from harness.launchers.container_engine import ContainerEngine, open_engine
from harness.launchers.image import have_image


@pytest.fixture(scope="session")
def engine() -> Iterator[ContainerEngine]:
    """docker or podman, whatever is here."""
    try:
        opened = open_engine("test")
    except UnavailableError as exc:
        pytest.skip(str(exc))
    with opened:
        yield opened


@pytest.fixture(scope="session")
def image(engine: ContainerEngine) -> str:
    """llama.cpp's server in an image of its own."""
    return have_image()


class Leftovers:
    """The containers of one role, by the engine's word."""

    def __init__(self, engine: ContainerEngine, role: str) -> None:
        self.engine, self.role = engine, role

    def names(self) -> list[str]:
        """Those there are, running or not."""
        found = self.engine.client.containers.list(
            all=True, filters={"name": f"assay-{self.role}-"}, ignore_removed=True
        )
        return [container.name for container in found]


@pytest.fixture
def leftovers(engine: ContainerEngine) -> Iterator[Leftovers]:
    """The containers of this test's role; whatever the test does, none may be left."""
    left = Leftovers(engine, f"test{uuid.uuid4().hex[:8]}")
    yield left
    assert left.names() == []
