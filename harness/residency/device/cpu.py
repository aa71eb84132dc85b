"""The CPU's lane: one thread that copies, and an arena whose pages have all been touched.

With a declared link, a copy lands no sooner than a link of so many bytes per second would have had it there.
Deadlines are absolute: a copy begins where the one before ended, or when it was asked for if that is later,
so that what a sleep or the machine is late by is not added up, and idle time is not saved up either. The link
can only be slower than the processor's own copying.

Traps: the copier needs the interpreter's lock for some microseconds per copy; whoever computes in long
stretches of Python delays it. The library's copy (`ctypes.memmove`) runs without the lock. A thread does not
survive a fork: make the lane in the process that uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from harness.errors import ArenaError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.device.base import Landed, Landing, Mark
from harness.residency.policies.base import Load
from harness.residency.store.blob import HostBlob
from harness.residency.store.memory import HostMemory

__all__ = ["CpuLane"]

_LOOK_S = 0.5
"""How often a waiting caller looks whether the copier is alive, should it ever end without a word."""


class _Job:
    """A copy, from being queued to its end. What changes does so under the lane's lock."""

    __slots__ = ("asked_s", "dst", "error", "has_begun", "landed", "num_bytes", "src", "what")

    def __init__(self, what: str, dst: int, src: int, num_bytes: int) -> None:
        self.what = what
        self.dst = dst
        self.src = src
        self.num_bytes = num_bytes
        self.asked_s = time.perf_counter()
        self.has_begun = False
        self.landed: Landed | None = None
        self.error: BaseException | str | None = None

    @property
    def has_failed(self) -> bool:
        return self.error is not None


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
        self._queue: deque[_Job] = deque()
        self._current: _Job | None = None
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._copier: threading.Thread | None = None
        self._free_s = 0.0

    @property
    def arena(self) -> Any:
        """The arena as a flat torch tensor of uint8.

        Raises
        ------
        ArenaError: the lane is closed.
        """
        self._check_open()
        return self._arena

    def register(self, blob: HostBlob) -> None:
        """Make a blob known under its model's name; it stays mapped as long as the lane is open.

        Raises
        ------
        ArenaError: another blob has that name, or the lane is closed.
        """
        self._check_open()
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
        self._check_open()
        if model not in self._blobs:
            raise ArenaError(f"{model}: unknown to the lane; register its blob first")
        blob, _ = self._blobs[model]
        self._check_span(f"{model}: {load}", load.host_offset, load.num_bytes, blob.num_bytes)
        self._check_span(f"{model}: {load}", load.arena_offset, load.num_bytes, self.capacity_bytes)
        dst, src = self._memory.address + load.arena_offset, blob.address + load.host_offset
        return self._put(_Job(f"{model}: chunk {load.chunk}", dst, src, load.num_bytes))

    def copy_out(self, offset: int, num_bytes: int) -> Landing:
        """Queue a copy from the arena to scratch memory as large as the arena, made for the first of them.

        Raises
        ------
        ArenaError: there are no such bytes in the arena, or the lane is closed.
        BudgetError: the host has no room for the scratch memory.
        """
        self._check_span("copy out", offset, num_bytes, self.capacity_bytes)
        if self._scratch is None:
            self._scratch = HostMemory(self.capacity_bytes, owner="copy-out scratch")
        dst, src = self._scratch.address + offset, self._memory.address + offset
        return self._put(_Job("copy out", dst, src, num_bytes))

    def wait(self, landing: Landing) -> None:
        """Block until a copy has landed.

        Raises
        ------
        ArenaError: it failed, was called off, or the copier died.
        """
        assert isinstance(landing, _Job)
        if landing.landed is not None:
            return
        with self._news:
            while landing.landed is None and landing.error is None:
                if not self._news.wait(_LOOK_S):
                    self._bury()
        if landing.error is not None:
            cause = landing.error if isinstance(landing.error, BaseException) else None
            why = f"{type(cause).__name__}: {cause}" if cause else landing.error
            raise ArenaError(f"{landing.what} did not land ({why}); ask for the model again") from cause

    def call_off(self, landings: Sequence[Landing]) -> int:
        """Call off copies, given in their order; return how many had begun, which complete."""
        with self._news:
            gone = {id(job) for job in landings if not job.has_begun}
            for job in self._queue:
                if id(job) in gone:
                    job.error = "called off"
            self._queue = deque(job for job in self._queue if id(job) not in gone)
            self._news.notify_all()
        return len(landings) - len(gone)

    def mark(self) -> Mark:
        """Nothing: what was computed is computed."""
        return

    def close(self) -> None:
        """End the copier behind its current copy and give the memory back; a second call does nothing.

        Tensors that still look at the arena keep its memory until they go.
        """
        if self._closing.is_set():
            return
        with self._news:
            self._closing.set()
            copier = self._copier
            self._news.notify_all()
        if copier is not None:
            copier.join()
        with self._news:
            self._fail("the lane was closed")
            self._news.notify_all()
        self._blobs.clear()
        self._arena = None
        self._memory.close()
        if self._scratch is not None:
            self._scratch.close()
        self._release()

    def _put(self, job: _Job) -> _Job:
        with self._news:
            self._check_open()
            self._bury()
            if self._copier is None:
                self._copier = threading.Thread(target=self._run, name="arena-copier", daemon=True)
                self._copier.start()
            self._queue.append(job)
            self._news.notify_all()
        return job

    def _run(self) -> None:
        """Copy what is queued; the thread's whole life."""
        try:
            while (job := self._next()) is not None:
                self._copy(job)
        except BaseException as exc:  # whatever ends this thread is the waiting caller's to raise
            with self._news:
                self._copier = None
                self._fail(exc)
                self._news.notify_all()

    def _next(self) -> _Job | None:
        with self._news:
            while not self._queue and not self._closing.is_set():
                self._news.wait()
            if self._closing.is_set():
                return None
            self._current = job = self._queue.popleft()
            job.has_begun = True
            return job

    def _copy(self, job: _Job) -> None:
        rate = self.bytes_per_s
        began_s = time.perf_counter() if rate is None else max(job.asked_s, self._free_s)
        error = None
        try:
            self._move(job)
            if rate is not None:
                self._free_s = began_s + job.num_bytes / rate
                self._closing.wait(max(0.0, self._free_s - time.perf_counter()))
        except Exception as exc:
            error = exc
        with self._news:
            job.error = error
            job.landed = None if error else Landed(began_s, time.perf_counter())
            self._current = None
            self._news.notify_all()

    def _move(self, job: _Job) -> None:
        ctypes.memmove(job.dst, job.src, job.num_bytes)

    def _bury(self) -> None:
        """Notice a copier that is gone without a word, as after a fork."""
        if self._copier is not None and not self._copier.is_alive():
            self._copier = None
            self._fail("the copier thread is gone")
            self._news.notify_all()

    def _fail(self, why: BaseException | str) -> None:
        """Nobody will copy what is queued, nor finish what had begun."""
        for job in (self._current, *self._queue):
            if job is not None:
                job.error = why
        self._current = None
        self._queue.clear()

    def _check_span(self, what: str, offset: int, num_bytes: int, size: int) -> None:
        if offset < 0 or num_bytes <= 0 or offset + num_bytes > size:
            raise ArenaError(f"{what}: {num_bytes} bytes at {offset} lie beyond {size}; make the plan anew")

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ArenaError("arena: the lane is closed; make another one")

    def _release(self) -> None:
        if self._allocation is not None:
            with contextlib.suppress(Exception):
                self._allocation.release()
            self._allocation = None
