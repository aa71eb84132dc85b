"""The CPU's lane: one thread that copies, and an arena whose pages have all been touched.

With a declared link, a copy lands no sooner than a link of so many bytes per second would have had it there.
Deadlines are absolute: a copy begins where the one before ended, or when it was asked for if that is later,
so that what a sleep or the machine is late by is not added up, and idle time is not saved up either. The link
can only be slower than the processor's own copying.

Traps: the copier needs the interpreter's lock for some microseconds per copy; whoever computes in long
stretches of Python delays it. The library's copy (`ctypes.memmove`) runs without the lock, and is as fast as
torch's and numpy's (135 MB on a busy machine: 28, 29 and 28 ms). A thread does not survive a fork: make the
lane in the process that uses it.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any, cast

import torch

from harness.errors import ArenaError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.device.base import Landed, Landing, Mark
from harness.residency.device.copier import Copier, Job
from harness.residency.policies.base import Load
from harness.residency.store.blob import HostBlob
from harness.residency.store.memory import HostMemory

__all__ = ["CpuLane", "check_span"]


class _Copy(Job):
    """From one address to another."""

    __slots__ = ("dst", "landed", "src", "stalled_s")

    def __init__(self, what: str, dst: int, src: int, num_bytes: int) -> None:
        super().__init__(what, num_bytes)
        self.dst = dst
        self.src = src
        self.landed: Landed | None = None
        self.stalled_s = 0.0


class CpuLane:
    """An arena in host memory and its copier. Ask from one thread; wait from any."""

    def __init__(
        self, capacity_bytes: int, *, bytes_per_s: float | None = None, budget: DeviceBudget | None = None
    ) -> None:
        """Take the memory; the copier starts with the first copy.

        bytes_per_s: the declared link; None for as fast as the processor copies. budget: drawn on for the
        arena, in the name of "arena".

        Raises
        ------
        BudgetError: the budget, or the host, has no room for the arena.
        UsageError: the capacity or the rate is not positive.
        """
        if capacity_bytes <= 0 or (bytes_per_s is not None and not bytes_per_s > 0):
            raise UsageError(
                f"arena: {capacity_bytes} bytes behind {bytes_per_s} bytes/s; give positive numbers"
            )
        self._allocation = budget.allocate(capacity_bytes, owner="arena") if budget else None
        try:
            self._memory = HostMemory(capacity_bytes, owner="arena")
        except BaseException:
            self._release()
            raise
        self.capacity_bytes = capacity_bytes
        self.bytes_per_s = bytes_per_s
        self._arena: Any = torch.frombuffer(self._memory.view, dtype=torch.uint8)
        self._blobs: dict[str, tuple[HostBlob, memoryview]] = {}
        self._scratch: HostMemory | None = None
        self._copier = Copier(self._carry)
        self._free_s = 0.0

    @property
    def arena(self) -> Any:
        """The arena as a flat torch tensor of uint8.

        Raises
        ------
        ArenaError: the lane is closed.
        """
        self._copier.check_open()
        return self._arena

    def register(self, blob: HostBlob) -> None:
        """Make a blob known under its model's name; it stays mapped as long as the lane is open.

        Raises
        ------
        ArenaError: another blob has that name, or the lane is closed.
        """
        self._copier.check_open()
        known, _ = self._blobs.setdefault(blob.name, (blob, blob.view))
        if known is not blob:
            raise ArenaError(f"{blob.name}: registered already; give another model another name")

    def copy_in(self, model: str, load: Load, *, after: Sequence[Mark] = ()) -> Landing:
        """Queue a copy of a chunk; marks are nothing here, computing is done when its call returns.

        Raises
        ------
        ArenaError: the model is not registered, the chunk lies beyond the blob or the arena, or the lane is
            closed.
        """
        self._copier.check_open()
        if model not in self._blobs:
            raise ArenaError(f"{model}: unknown to the lane; register its blob first")
        blob, _ = self._blobs[model]
        check_span(f"{model}: {load}", load.host_offset, load.num_bytes, blob.num_bytes)
        check_span(f"{model}: {load}", load.arena_offset, load.num_bytes, self.capacity_bytes)
        dst, src = self._memory.address + load.arena_offset, blob.address + load.host_offset
        return self._put(_Copy(f"{model}: chunk {load.chunk}", dst, src, load.num_bytes))

    def copy_out(self, offset: int, num_bytes: int) -> Landing:
        """Queue a copy from the arena to scratch memory as large as the arena, made for the first of them.

        Raises
        ------
        ArenaError: there are no such bytes in the arena, or the lane is closed.
        BudgetError: the host has no room for the scratch memory.
        """
        self._copier.check_open()
        check_span("copy out", offset, num_bytes, self.capacity_bytes)
        if self._scratch is None:
            self._scratch = HostMemory(self.capacity_bytes, owner="copy-out scratch")
        dst, src = self._scratch.address + offset, self._memory.address + offset
        return self._put(_Copy("copy out", dst, src, num_bytes))

    def wait(self, landing: Landing) -> None:
        """Block until a copy has landed.

        Raises
        ------
        ArenaError: it failed, was called off, or the copier died.
        """
        self._copier.wait(cast(_Copy, landing))

    def call_off(self, landings: Sequence[Landing]) -> int:
        """Call off copies, given in their order; return how many had begun, which complete."""
        return self._copier.call_off(cast(Sequence[_Copy], landings))

    def mark(self) -> Mark:
        """Nothing: what was computed is computed."""
        return

    def close(self) -> None:
        """End the copier behind its current copy and give the memory back; a second call does nothing.

        Tensors that still look at the arena keep its memory until they go.
        """
        self._copier.close()
        self._blobs.clear()
        self._arena = None
        self._memory.close()
        if self._scratch is not None:
            self._scratch.close()
        self._release()

    def _put(self, copy: _Copy) -> _Copy:
        self._copier.put(copy)
        return copy

    def _carry(self, job: Job) -> None:
        copy, rate = cast(_Copy, job), self.bytes_per_s
        began_s = time.perf_counter() if rate is None else max(copy.asked_s, self._free_s)
        self._move(copy)
        if rate is not None:
            self._free_s = began_s + copy.num_bytes / rate
            self._copier.closing.wait(max(0.0, self._free_s - time.perf_counter()))
        copy.landed = Landed(began_s, time.perf_counter())

    def _move(self, copy: _Copy) -> None:
        ctypes.memmove(copy.dst, copy.src, copy.num_bytes)

    def _release(self) -> None:
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            allocation.release()


def check_span(what: str, offset: int, num_bytes: int, size: int) -> None:
    """Check that a stretch lies inside.

    Raises
    ------
    ArenaError: it does not.
    """
    if offset < 0 or num_bytes <= 0 or offset + num_bytes > size:
        raise ArenaError(f"{what}: {num_bytes} bytes at {offset} lie beyond {size}; make the plan anew")
