"""How fast numbers are multiplied here: measured, as the bound of whatever multiplies much of what it reads.

A batch of sequences reads the weights once and multiplies them once per sequence: from some batch on it is
no longer the memory that binds but the arithmetic. Its roof is the best product of two large square matrices,
by the library that the engine multiplies with, on as many threads as that library has now.

Traps: on a busy machine a long product is always interrupted (512 rows: 200 GFLOP/s on one thread here, busy
or not; 1,024 rows: 120 to 220), so short ones are tried often. A processor's clock falls under vector code
and under others' load, so the number is that of now. In half precision a GPU multiplies on its tensor cores,
which small or odd shapes do not reach. PyTorch may multiply float32 in reduced precision where it was told to
(`allow_tf32`); by itself it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from harness.errors import UnavailableError, UsageError
from harness.hardware.memory import give_back

__all__ = ["Compute", "measure_compute"]

_PASSES = 40
_SIZES = {"cpu": 512, "cuda": 8192}
"""Rows of the matrices: a millisecond or few for each product, so that among many one is left undisturbed."""
_ROWS_HINT = 32


class Compute(NamedTuple):
    """The best pass of each probe."""

    flop_per_s: float
    """Multiplications and additions, each counted."""
    size: int
    dtype: str
    threads: int
    """Of the library; on a GPU those of the host, which do not matter."""


def measure_compute(*, device: str = "cpu", dtype: str = "float32", size: int | None = None) -> Compute:
    """Multiply two matrices a few times; some tenths of a second on one core.

    Arguments: `dtype`, as PyTorch calls it; `size`, rows and columns of both.

    Raises
    ------
    UnavailableError: PyTorch is missing.
    UsageError: the size is below 1, or the dtype unknown.
    """
    try:
        import torch
    except ImportError as exc:
        raise UnavailableError("compute roof: PyTorch is missing; run: pip install 'assay[torch]'") from exc
    kind = torch.device(device).type
    size = _SIZES.get(kind, 1024) if size is None else size
    wanted = getattr(torch, dtype, None)
    if size < 1 or not isinstance(wanted, torch.dtype):
        raise UsageError(
            f"compute roof: size {size}, dtype {dtype!r}; give 1 or more, and float32 or the like"
        )
    with torch.inference_mode():
        left, right = (torch.ones(size, size, dtype=wanted, device=device) for _ in range(2))
        best_s = min(
            _timed(probe, torch, device) for probe in _probes(torch, left, right) for _ in range(_PASSES)
        )
    del left, right
    give_back()  # others measure on this device
    return Compute(2 * size**3 / best_s, size, dtype, torch.get_num_threads())


def _probes(torch: Any, left: Any, right: Any) -> list[Callable[[], object]]:
    """The plain product, and oneDNN's of a packed matrix where there is one: the engine's."""
    out = torch.empty_like(left)
    found: list[Callable[[], object]] = [lambda: torch.mm(left, right, out=out)]
    is_packable = left.device.type == "cpu" and left.dtype == torch.float32 and torch._C._has_mkldnn
    if is_packable and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        packed = torch.ops.mkldnn._reorder_linear_weight(right, _ROWS_HINT)
        found.append(lambda: torch.ops.mkldnn._linear_pointwise(left, packed, None, "none", [], ""))
    return found


def _timed(work: Callable[[], object], torch: Any, device: str) -> float:
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.synchronize(device)
    began_s = perf_counter()
    work()
    if is_cuda:
        torch.cuda.synchronize(device)
    return perf_counter() - began_s
