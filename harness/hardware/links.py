"""How fast bytes cross between this machine's memory and a GPU's: the bound of every switch between models.

Pinned memory is copied by the device itself, at the link's rate. Pageable memory goes through a pinned
buffer of the driver's, a piece at a time, at a third to a half of it. The best pass of each counts.

Traps: a link that is idle may rest in a slower state and wake with the first copy. What two devices get at
once is another number than what one gets alone. PyTorch's own pinned allocator rounds up to a power of two:
the buffers here are one.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

from harness.errors import UnavailableError, UsageError
from harness.hardware.memory import give_back

__all__ = ["LinkRates", "measure_link"]

_PASSES = 5


class LinkRates(NamedTuple):
    """The best pass of each way."""

    to_device_pinned_bytes_per_s: float
    to_device_pageable_bytes_per_s: float
    to_host_pinned_bytes_per_s: float
    to_host_pageable_bytes_per_s: float
    num_bytes: int


def measure_link(device: str = "cuda:0", num_bytes: int = 256 * 2**20) -> LinkRates:
    """Copy a buffer to a GPU and back, a few times each.

    Raises
    ------
    UnavailableError: there is no GPU, or no PyTorch that sees it; the message says what it takes.
    UsageError: less than a page.
    """
    if num_bytes < 4096:
        raise UsageError(f"link: {num_bytes} bytes; give 4096 or more")
    torch = _torch(device)
    there = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    rates = {}
    for is_pinned in (True, False):
        here = torch.ones(num_bytes, dtype=torch.uint8)
        here = here.pin_memory() if is_pinned else here
        for way, (target, source) in {"to": (there, here), "from": (here, there)}.items():
            rates[way, is_pinned] = num_bytes / _best_s(torch, device, target, source)
    del there, here, target, source
    give_back()  # others measure on this device
    return LinkRates(
        rates["to", True], rates["to", False], rates["from", True], rates["from", False], num_bytes
    )


def _best_s(torch: Any, device: str, target: Any, source: Any) -> float:
    def once() -> float:
        torch.cuda.synchronize(device)
        began_s = perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize(device)
        return perf_counter() - began_s

    once()  # wakes the link, and has the driver map what it needs
    return min(once() for _ in range(_PASSES))


def _torch(device: str) -> Any:
    try:
        import torch
    except ImportError as exc:
        raise UnavailableError("link: PyTorch is missing; run: pip install 'assay[torch]'") from exc
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else ", and this PyTorch is built without CUDA"
        raise UnavailableError(f"link: no GPU: {device} needs an NVIDIA GPU and its driver{built}")
    if (index := torch.device(device).index or 0) >= torch.cuda.device_count():
        raise UnavailableError(f"link: no {device}; PyTorch sees {torch.cuda.device_count()} (not {index})")
    return torch
