"""The arithmetic's roof is the best product that the library made here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import UsageError

pytest.importorskip("torch")

from harness.hardware.bandwidth import measure_device_bandwidth
from harness.hardware.compute import measure_compute


def test_a_product_counts_multiplications_and_additions() -> None:
    """Above what a pocket calculator does, and below any processor of today."""
    found = measure_compute(size=256)
    assert 1e8 < found.flop_per_s < 1e14
    assert (found.size, found.dtype) == (256, "float32")
    assert found.threads >= 1


@pytest.mark.parametrize(("size", "dtype"), [(0, "float32"), (8, "float7"), (8, "nn")])
def test_what_cannot_be_multiplied_is_refused(size: int, dtype: str) -> None:
    """With what can be."""
    with pytest.raises(UsageError, match=rf"size {size}, dtype '{dtype}'; give"):
        measure_compute(size=size, dtype=dtype)


def test_a_buffer_too_small_is_refused_before_the_device_is_asked() -> None:
    """So that it needs no GPU."""
    with pytest.raises(UsageError, match="bandwidth of 8 bytes on cuda"):
        measure_device_bandwidth(8, "cuda")


def test_without_torch_one_line_says_how_to_get_it() -> None:
    """The module itself does not import it."""
    code = (
        "import sys; import harness.hardware.compute as c; assert 'torch' not in sys.modules\n"
        "sys.modules['torch'] = None\n"
        "try: c.measure_compute()\n"
        "except c.UnavailableError as exc: print(exc)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "compute roof: PyTorch is missing; run: pip install 'assay[torch]'"


@pytest.mark.gpu
def test_a_gpus_memory_and_arithmetic_are_faster_than_a_processors() -> None:
    """Above 100 GB/s and 1 TFLOP/s, below any GPU of today."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and a PyTorch that is built with CUDA")
    memory = measure_device_bandwidth(2**30, "cuda")
    assert 1e11 < memory.bytes_per_s < 1e14
    assert 1e12 < measure_compute(device="cuda", dtype="float16").flop_per_s < 1e17
