"""How fast memory is read here: measured, as the bound of whatever has to read much of it.

A decoded token reads all weights once, so no token is faster than weights ÷ bandwidth. What is read is a
buffer as large as those weights, and larger than the caches, or the bound would be one of a cache. The
maximum of whole numbers is taken, which is vectorized, keeps no core busy and calls no library with threads
of its own; and a copy, whose bytes are both read and written. The best pass of either counts: others only
add what else the machine did.

Traps: one thread reads less than a machine can, so measure with as many as the work has. A processor's cache
may still hold a part: 32 MB of 135 MB give up to a third more. A virtual machine shares its memory's
bandwidth with others, so the number is that of now. Of a GPU it is the GPU's memory that counts, not this
machine's: `measure_device_bandwidth`, with PyTorch, which is imported for it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from harness.errors import UsageError
from harness.hardware.memory import give_back

__all__ = ["Bandwidth", "measure_bandwidth", "measure_device_bandwidth"]

_PASSES = 20


class Bandwidth(NamedTuple):
    """The best pass of each probe."""

    read_bytes_per_s: float
    copy_bytes_per_s: float
    """Bytes read and bytes written, both."""
    buffer_bytes: int
    threads: int
    """0 where a GPU reads."""

    @property
    def bytes_per_s(self) -> float:
        """The better of the two."""
        return max(self.read_bytes_per_s, self.copy_bytes_per_s)


def measure_bandwidth(buffer_bytes: int, *, threads: int = 1) -> Bandwidth:
    """Read and copy a buffer of so many bytes a few times; some tenths of a second at 100 MB.

    Raises
    ------
    UsageError: less than a page per thread, or no thread.
    """
    if threads < 1 or buffer_bytes < 4096 * threads:
        raise UsageError(
            f"bandwidth of {buffer_bytes} bytes by {threads} threads; give 1 or more, and 4096 bytes for each"
        )
    # Written to, so that its pages are there: zeros would be one page many times.
    source = np.arange(buffer_bytes // 8, dtype=np.int64)
    target = np.ones_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:

        def best_s(work: Callable[[tuple[np.ndarray, np.ndarray]], object]) -> float:
            return min(_timed(lambda: list(pool.map(work, parts))) for _ in range(_PASSES))

        read_s = best_s(lambda part: np.maximum.reduce(part[0]))
        copy_s = best_s(lambda part: np.copyto(part[1], part[0]))
    return Bandwidth(source.nbytes / read_s, 2 * source.nbytes / copy_s, source.nbytes, threads)


def measure_device_bandwidth(buffer_bytes: int, device: str) -> Bandwidth:
    """Read and copy a buffer of so many bytes in a GPU's memory.

    Raises
    ------
    UsageError: less than a page.
    """
    if buffer_bytes < 4096:
        raise UsageError(f"bandwidth of {buffer_bytes} bytes on {device}; give 4096 or more")
    try:
        return _device_bandwidth(buffer_bytes, device)
    finally:
        give_back()  # others measure on this device


def _device_bandwidth(buffer_bytes: int, device: str) -> Bandwidth:
    import torch

    def best_s(work: Callable[[], Any]) -> float:
        def whole() -> None:
            work()
            torch.cuda.synchronize(device)

        return min(_timed(whole) for _ in range(_PASSES))

    with torch.inference_mode():
        source = torch.ones(buffer_bytes // 8, dtype=torch.int64, device=device)
        target = torch.zeros_like(source)
        torch.cuda.synchronize(device)
        read_s = best_s(lambda: source.max())
        copy_s = best_s(lambda: target.copy_(source))
    return Bandwidth(source.nbytes / read_s, 2 * source.nbytes / copy_s, source.nbytes, 0)


def _timed(work: Callable[[], object]) -> float:
    began_s = perf_counter()
    work()
    return perf_counter() - began_s
