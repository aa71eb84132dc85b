"""What a miss is measured with is given back, also where it comes to nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("msgspec")

from fixtures import switching_memcpy as memcpy
from fixtures.switching_variants import Work
from harness.errors import UnavailableError
from harness.residency.live import LiveArena
from harness.residency.store import memory
from harness.residency.store.memory import HostMemory

MODEL = "llama-mini"


class Held:
    """Memory of the host that is open, and how often the devices' was given back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: list[HostMemory] = []
        self.given_back = 0
        make, close = HostMemory.__init__, HostMemory.close

        def made(one: HostMemory, *given: Any, **named: Any) -> None:
            make(one, *given, **named)
            self.open.append(one)

        def closed(one: HostMemory) -> None:
            close(one)
            self.open = [other for other in self.open if other is not one]

        def give_back() -> None:
            self.given_back += 1

        monkeypatch.setattr(memory.HostMemory, "__init__", made)
        monkeypatch.setattr(memory.HostMemory, "close", closed)
        monkeypatch.setattr(memcpy, "give_back", give_back)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setattr(memcpy, "POCKET_MODEL", MODEL)
    return Held(monkeypatch)


@pytest.fixture
def switching() -> Any:
    return SimpleNamespace(stand=SimpleNamespace(work=Work()))


def test_a_miss_brings_the_blob_in_and_leaves_nothing(held: Held, switching: Any) -> None:
    """A blob, an arena and a buffer, as long as they are measured with."""
    misses = memcpy._Misses(switching)
    misses.prepare()
    misses.miss()
    assert misses.is_whole
    assert misses.answers == [misses.wanted]
    assert len(held.open) == 3
    misses.close()
    assert (held.open, held.given_back, misses.buffer) == ([], 1, None)


@pytest.mark.parametrize("name", ["_pinned_rate", "LiveArena", "buffer"])
def test_what_fails_half_way_leaves_nothing(
    name: str, held: Held, switching: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the blob, after the lane, after the arena."""

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("broke")

    if name == "_pinned_rate":
        monkeypatch.setattr(memcpy, name, fail)
    elif name == "LiveArena":
        monkeypatch.setattr(LiveArena, "__init__", fail)
    else:
        monkeypatch.setattr("harness.sessions.ring.serve.RingGenerator.over", fail)
    with pytest.raises(UnavailableError, match="broke"):
        memcpy._Misses(switching)
    assert (held.open, held.given_back) == ([], 1)
