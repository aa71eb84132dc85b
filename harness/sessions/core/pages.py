"""Memory for slabs, in pages of 2 MiB where Linux gives them.

A decode step walks through all slabs once: with pages of 4 KiB, every few hundred bytes of each head's keys
are on a page that the processor has to look up, which doubles the time of attention in a virtual machine (32
sessions of 100 tokens, 105 MB: 24 against 12 ms on a busy machine). PyTorch asks for large pages itself,
also for weights, when THP_MEM_ALLOC_ENABLE=1 stands in the environment before it is imported.
"""

from __future__ import annotations

import contextlib
import mmap

import torch

__all__ = ["allocate"]

_PAGE_BYTES = 2 << 20
_SMALL_PAGE_BYTES = mmap.PAGESIZE
_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of Linux 5.14, which the standard library does not name."""


def allocate(num_bytes: int, device: torch.device) -> torch.Tensor:
    """Return bytes, uint8 [num_bytes], that are zero on a CPU and there in fact, not just promised."""
    if device.type != "cpu" or num_bytes < _PAGE_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    # Private: Python's default is shared memory, which has large pages only where an operator allows them.
    # Only whole, aligned pages can be large ones; what is not touched before and behind costs nothing.
    area = mmap.mmap(-1, num_bytes + _PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        area.madvise(mmap.MADV_HUGEPAGE)
    memory = torch.frombuffer(area, dtype=torch.uint8)
    begin = -memory.data_ptr() % _PAGE_BYTES
    memory = memory[begin : begin + num_bytes]
    try:
        # The kernel gives zeros: to write them once more would cost as much again, and a fault per page.
        area.madvise(_POPULATE_WRITE, begin, -num_bytes // _SMALL_PAGE_BYTES * -_SMALL_PAGE_BYTES)
    except OSError:  # an older kernel
        memory.zero_()
    return memory
