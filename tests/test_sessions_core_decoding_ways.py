"""Which way a model's decode steps are run, and why not another: without a GPU all of it but the last."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.errors import BudgetError, UnavailableError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Model
from harness.sessions.core.decoding import ways
from tests.tiny_engine import tiny_model

MODULE = "harness.sessions.core.decoding.kernels"
pytest.importorskip("triton", reason="needs Triton: pip install '.[triton]'")


def small() -> Model:
    return tiny_model("cpu", torch.float32)


CUDA = {"device": torch.device("cuda")}


@pytest.mark.parametrize(
    ("change", "capability", "triton", "says"),
    [
        ({}, (9, 0), True, "the device is 'cpu', no GPU"),
        ({**CUDA, "dtype": torch.float64}, (9, 0), True, "do not compute in torch.float64"),
        ({**CUDA, "head_dim": 512}, (9, 0), True, "heads are 512 wide, and the kernels take 256"),
        (CUDA, (9, 0), False, "Triton is not installed; it comes with PyTorch's CUDA builds"),
        (CUDA, (7, 5), True, "from compute capability 8.0 on"),
    ],
)
def test_slab_by_slab_says_why(
    change: dict[str, Any], capability: tuple[int, int], triton: bool, says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server that asks more often than it might tells what it lacks."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(ways, "find_spec", lambda name: object() if triton else None)
    model = small()
    for name, value in change.items():
        if name == "head_dim":
            model.shape = model.shape._replace(head_dim=value)
        else:
            setattr(model, name, value)
    found = ways.way_of(model, max_batch=4, max_tokens=40)
    assert (found.decoder, found.name, found.graph_steps) == (None, "slab-by-slab", None)
    assert says in found.why_not


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler"),
        subprocess.CalledProcessError(1, ["cc", "main.c"]),
        PermissionError(13, "Permission denied", "/home/.triton"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_kernels_that_cannot_be_compiled_are_an_error_with_its_remedy(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one line, and the remedy is a way that needs none of them."""

    class Failing:
        def __getitem__(self, grid: object) -> Any:
            raise error

    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace(store=Failing()))
    with pytest.raises(UnavailableError, match=r"tiny: .* cannot be compiled here: .*slab-by-slab$"):
        ways._try_kernels(small(), 40)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")],
    ids=["device", "library"],
)
def test_no_memory_for_a_step_is_out_of_memory_and_no_missing_compiler(error: Exception) -> None:
    """Whoever was refused, as everywhere else."""

    class Refused:
        def record(self, step: Any) -> Any:
            raise error

    with pytest.raises(BudgetError, match="the device's own allocator refused: CUDA"):
        ways._decoder(small(), 4, 40, Refused())


def test_an_engine_takes_no_way_that_it_does_not_know() -> None:
    """When it is made, and when it is slowed."""
    budget = DeviceBudget.create(1 << 24)
    says = "decoding 'faster' is unknown; choose one of slab-by-slab, kernels, graphs"
    with pytest.raises(UsageError, match=says):
        Engine(small(), budget, max_session_tokens=40, decoding="faster")
    with Engine(small(), budget, max_session_tokens=40) as engine:
        with pytest.raises(UsageError, match=says):
            engine.slowed("faster").__enter__()
        with pytest.raises(UnavailableError, match=r"tiny: kernels is not before slab-by-slab.*no GPU"):
            engine.slowed("kernels").__enter__()
    budget.remove()


def test_a_step_that_cannot_be_recorded_is_an_error_with_its_remedy() -> None:
    """Nothing falls back in silence to what is slower."""

    class Broken:
        def record(self, step: Any) -> Any:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    with pytest.raises(UnavailableError, match=r"tiny: .* stream is capturing; serve with --decoding"):
        ways._decoder(small(), 4, 40, Broken())
