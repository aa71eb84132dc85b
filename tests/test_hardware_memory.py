"""What a GPU refuses is out of memory, and what this process no longer uses of one goes back to it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fixtures import gpu_rounds  # noqa: E402
from harness.errors import BudgetError, LaunchError  # noqa: E402
from harness.hardware.bandwidth import measure_device_bandwidth  # noqa: E402
from harness.hardware.compute import measure_compute  # noqa: E402
from harness.hardware.links import measure_link  # noqa: E402
from harness.hardware.memory import REFUSED, give_back, out_of_memory  # noqa: E402
from harness.models.torch_engine import random_weights  # noqa: E402
from harness.sessions.core import loading  # noqa: E402

NUM_BYTES = 3 * 2**20
SIDE = 311


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_context_without_room_is_out_of_memory(said: str) -> None:
    """PyTorch has no class of its own for it: the last process of those that fill a GPU is told so."""
    with pytest.raises(BudgetError, match=REFUSED), out_of_memory():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="illegal"), out_of_memory():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_model_that_finds_no_room_is_out_of_memory_and_no_broken_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever counts how many agents a GPU holds goes by that error; a broken file still is one."""

    def refuse(error: Exception) -> Callable[..., None]:
        def make(*_: object, **__: object) -> None:
            raise error

        return make

    no_room = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 172.00 MiB")
    monkeypatch.setattr(random_weights, "random_model", refuse(no_room))
    with pytest.raises(BudgetError, match=f"{REFUSED}: CUDA out of memory"):
        loading.load("random:tiny-llama")
    monkeypatch.setattr(random_weights, "random_model", refuse(RuntimeError("corrupt")))
    with pytest.raises(LaunchError, match="corrupt"):
        loading.load("random:tiny-llama")


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """A GPU that was used: the shapes of the tensors alive whenever its cache is emptied."""
    found: list[list[tuple[int, ...]]] = []

    def empty() -> None:
        alive = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
        found.append([tuple(one.shape) for one in alive])

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", empty)
    return found


def test_without_a_gpu_in_use_there_is_nothing_to_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context is not made for it."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("asked"))
    give_back()


@pytest.mark.parametrize(
    ("measure", "shape"),
    [
        (lambda: measure_device_bandwidth(NUM_BYTES, "cpu"), (NUM_BYTES // 8,)),
        (lambda: measure_compute(size=SIDE), (SIDE, SIDE)),
    ],
    ids=["bandwidth", "compute"],
)
def test_a_ceiling_leaves_the_device_to_what_is_measured_next(
    measure: Callable[[], Any], shape: tuple[int, ...], emptied: list[list[tuple[int, ...]]]
) -> None:
    """Servers measure beside this process; 2 GiB in its allocator's hands are not theirs."""
    measure()
    assert len(emptied) == 1
    assert shape not in emptied[0]


def test_the_links_buffers_go_back_too(
    emptied: list[list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pinned or not."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda one: one)
    measure_link("cpu", NUM_BYTES)
    assert len(emptied) == 1
    assert (NUM_BYTES,) not in emptied[0]


def test_a_loaded_model_keeps_none_of_the_matrices_that_were_fused(
    emptied: list[list[tuple[int, ...]]],
) -> None:
    """On a GPU PyTorch would keep them: 9 of Llama-2-7b's 13.5 GB once more, for nobody."""
    loaded = loading.load("random:tiny-llama", packed=False)
    shape = loaded.model.shape
    assert len(emptied) == 1
    assert (2 * shape.ffn, shape.width) in emptied[0]
    assert (shape.ffn, shape.width) not in emptied[0]


def test_behind_every_test_and_its_fixtures_the_gpus_are_left_to_the_next(
    emptied: list[list[tuple[int, ...]]],
) -> None:
    """Also when they failed."""
    for ends in (lambda one: one.send(None), lambda one: one.throw(ValueError)):
        hook = gpu_rounds.pytest_runtest_teardown()
        next(hook)
        with pytest.raises((StopIteration, ValueError)):
            ends(hook)
    assert len(emptied) == 2
