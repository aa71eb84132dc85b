"""fresh: memory is taken from the system for each request and given back behind it.

What a framework does that moves a model to a device and drops it again, once its allocator keeps nothing:
every page is touched for the first time. On a GPU it is the published "pageable" arm: memory from the driver,
filled from host memory that is not pinned.

Physics: a page fault per page, with large pages where the kernel gives them, as in every other arm's arena;
on a CPU about as much again as the copy itself. A declared link that is slower than that hides it.

Traps: an allocator's pool would hide it too, so the memory is mapped here and unmapped, by no allocator.
Unmapping is behind the last token and in no request's time. Views are made anew for each request, since the
memory lies elsewhere; how they are to be made is worked out before, which is in no arm's time.

Source: jaewan/Djinn, OSDI_Evaluation/exp1, "PyTorch Pageable" (`model.to("cuda")` per request).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, ClassVar

import torch

from harness.errors import BudgetError
from harness.residency.policies.base import Plan
from harness.residency.store.blob import HostBlob
from harness.switching.arms.arena import answer_of, checksums_of
from harness.switching.arms.whole import Pace, WholeArm
from harness.switching.base import Answer, Ask

__all__ = ["Fresh"]

_LARGE_PAGE_BYTES = 2 << 20


class Fresh(WholeArm):
    """A new allocation per request."""

    name: ClassVar[str] = "fresh"

    def checksums(self) -> Mapping[str, str]:
        """Of every blob, now and when it was packed."""
        return checksums_of(self._hosts)

    def _answer(self, ask: Ask) -> Answer:
        host = self._hosts[ask.model]
        began_s = perf_counter()
        with _memory(host.blob.num_bytes, self._setting.device) as memory:
            taking_s = perf_counter() - began_s
            bring = partial(self._copy, blob=host.blob, memory=memory)
            generated = self._generate(ask, self._over(host, memory), bring)
            # The memory goes back only when nothing looks at it any more.
            del memory, bring
        answer = answer_of(ask, generated)
        return replace(
            answer,
            began_s=answer.began_s - taking_s,
            switch_s=answer.switch_s + taking_s,
            plan_s=(answer.plan_s or 0.0) + taking_s,
        )

    def _copy(self, plan: Plan, *, blob: HostBlob, memory: Any) -> None:
        pace = Pace(self._setting.link_bytes_per_s)
        source = _readable(blob)
        for load in plan.loads:
            begin, end = load.host_offset, load.host_offset + load.num_bytes
            memory[begin:end].copy_(source[begin:end])
            pace.add(load.num_bytes)
            pace.wait()
        if memory.is_cuda:
            torch.cuda.synchronize()


@contextmanager
def _memory(num_bytes: int, device: str) -> Iterator[Any]:
    """Memory that nobody has touched, and that goes back to the system or the driver."""
    if device != "cpu":
        yield _on_device(num_bytes, device)
        torch.cuda.empty_cache()
        return
    area = _mapped(num_bytes)
    begin = -_address(area) % _LARGE_PAGE_BYTES
    # After an error its traceback holds views of the memory, which goes with them.
    yield torch.frombuffer(area, dtype=torch.uint8, offset=begin, count=num_bytes)
    area.close()


def _on_device(num_bytes: int, device: str) -> Any:
    torch.cuda.empty_cache()
    try:
        return torch.empty(num_bytes, dtype=torch.uint8, device=device)
    except torch.cuda.OutOfMemoryError as exc:
        raise BudgetError(f"fresh: {device} has no {num_bytes} bytes; free some, or name another") from exc


def _mapped(num_bytes: int) -> mmap.mmap:
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        area = mmap.mmap(-1, num_bytes + _LARGE_PAGE_BYTES, flags=flags)
    except OSError as exc:
        raise BudgetError(f"fresh: no {num_bytes} bytes of host memory; stop what else runs here") from exc
    with contextlib.suppress(OSError):  # a kernel without large pages
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


def _address(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def _readable(blob: HostBlob) -> Any:
    """The blob as a tensor. Nothing writes to it; torch would warn that something might."""
    memory = (ctypes.c_uint8 * blob.num_bytes).from_address(blob.address)
    return torch.frombuffer(memory, dtype=torch.uint8)
