"""The GPU's lane: blobs pinned where they lie, a stream of copies, and events both ways.

The compute stream waits for the chunk that comes next, and the copy stream for the last computing on what it
writes over. A copy that was handed to the stream cannot be called off, so a thread hands over few at a time:
one that crosses, and one behind it so that the link is never idle.

Physics: pinned memory crosses at the link's rate (PCIe 4: 24.8 GB/s, 5: about 55) and beside computing.
torch's own pinned allocator rounds up to a power of two (31.3 to 40 GB for the published models), so the
blobs' mappings are registered as they are; read-only ones need a flag of CUDA 11.1.

Traps: `wait` returns before the copy has landed, since it is the stream that waits; `landed` and what a chunk
held computing up are known once its events are over. Times are the device's, anchored to the host's clock
whenever the copy stream begins anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch

from harness.errors import ArenaError, BudgetError, UnavailableError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.device.base import Landed, Landing, Mark
from harness.residency.device.copier import Copier, Job
from harness.residency.device.cpu import check_span
from harness.residency.policies.base import Load
from harness.residency.store.blob import HostBlob
from harness.residency.store.memory import HostMemory

__all__ = ["CudaLane"]

_PORTABLE, _READ_ONLY = 1, 8
"""cudaHostRegisterPortable, cudaHostRegisterReadOnly."""
_cuda: Any = torch.cuda
_NO_MEMORY = 2
"""cudaErrorMemoryAllocation."""
_DEPTH = 2
"""Copies that the stream has at once."""


class _Anchor(NamedTuple):
    """An event, and when it was, by the host's clock."""

    event: Any
    at_s: float


class _Copy(Job):
    """A copy between two tensors of bytes."""

    __slots__ = ("after", "anchor", "asked", "begun", "dst", "ended", "src")

    def __init__(self, what: str, dst: Any, src: Any, after: Sequence[Mark]) -> None:
        super().__init__(what, src.numel())
        self.dst = dst
        self.src = src
        self.after = after
        self.anchor: _Anchor | None = None
        self.begun: Any = _cuda.Event(enable_timing=True)
        self.ended: Any = _cuda.Event(enable_timing=True, blocking=True)
        self.asked: Any = None
        """Where the compute stream began to wait for it."""

    @property
    def landed(self) -> Landed | None:
        """When it crossed, if it has."""
        if self.anchor is None or not self.is_carried or not self.ended.query():
            return None
        event, at_s = self.anchor
        return Landed(
            at_s + event.elapsed_time(self.begun) / 1e3, at_s + event.elapsed_time(self.ended) / 1e3
        )

    @property
    def stalled_s(self) -> float:
        """How long the compute stream stood still for it, as far as is known."""
        if self.asked is None or not self.ended.query() or not self.asked.query():
            return 0.0
        return max(0.0, float(self.asked.elapsed_time(self.ended)) / 1e3)


class CudaLane:
    """An arena on a GPU. One thread asks, waits and computes, on torch's current stream of the device."""

    def __init__(
        self, capacity_bytes: int, *, device: str = "cuda", budget: DeviceBudget | None = None
    ) -> None:
        """Take the memory; the copier starts with the first copy.

        budget: drawn on for the arena, in the name of "arena".

        Raises
        ------
        BudgetError: the budget, or the device, has no room for the arena.
        UnavailableError: there is no such GPU.
        UsageError: the capacity is not positive.
        """
        if capacity_bytes <= 0:
            raise UsageError(f"arena: {capacity_bytes} bytes; give a positive number")
        if not _cuda.is_available():
            raise UnavailableError(f"arena: no NVIDIA GPU for {device!r}; run on one that has, or on the cpu")
        self.capacity_bytes = capacity_bytes
        index = torch.device(device).index
        # A thread has a current device of its own, so the copier has to be told which one is meant.
        self.device = torch.device("cuda", _cuda.current_device() if index is None else index)
        self._allocation = budget.allocate(capacity_bytes, owner="arena") if budget else None
        try:
            self._one: Any = torch.ones(1, device=self.device)
            self._arena: Any = torch.zeros(capacity_bytes, dtype=torch.uint8, device=self.device)
        except _cuda.OutOfMemoryError as exc:
            self._release()
            raise BudgetError(
                f"arena: no {capacity_bytes} bytes on {device}; give it less, or stop what else runs there"
            ) from exc
        except BaseException:
            self._release()
            raise
        _cuda.synchronize(self.device)
        self._stream: Any = _cuda.Stream(self.device)
        self._blobs: dict[str, tuple[HostBlob, memoryview, Any]] = {}
        self._pinned: list[int] = []
        self._scratch: tuple[HostMemory, Any] | None = None
        self._crossing: deque[_Copy] = deque()
        self._anchor: _Anchor | None = None
        self._copier = Copier(self._carry)

    @property
    def arena(self) -> Any:
        """The arena as a flat torch tensor of uint8 on the device.

        Raises
        ------
        ArenaError: the lane is closed.
        """
        self._copier.check_open()
        return self._arena

    def register(self, blob: HostBlob) -> None:
        """Pin a blob where it lies, until the lane is closed.

        Raises
        ------
        BudgetError: the host has no memory to pin.
        ArenaError: another blob has that name, it cannot be pinned, or the lane is closed.
        """
        self._copier.check_open()
        known = self._blobs.get(blob.name)
        if known is None:
            view = blob.view
            self._pin(blob.name, blob.address, blob.num_bytes, _PORTABLE | _READ_ONLY)
            self._blobs[blob.name] = (blob, view, _tensor(blob.address, blob.num_bytes))
        elif known[0] is not blob:
            raise ArenaError(f"{blob.name}: registered already; give another model another name")

    def copy_in(self, model: str, load: Load, *, after: Sequence[Mark] = ()) -> Landing:
        """Queue a copy of a chunk, behind the marks.

        Raises
        ------
        ArenaError: the model is not registered, the chunk lies beyond the blob or the arena, or the lane is
            closed.
        """
        self._copier.check_open()
        if model not in self._blobs:
            raise ArenaError(f"{model}: unknown to the lane; register its blob first")
        blob, _, host = self._blobs[model]
        size, at, to = load.num_bytes, load.host_offset, load.arena_offset
        check_span(f"{model}: {load}", at, size, blob.num_bytes)
        check_span(f"{model}: {load}", to, size, self.capacity_bytes)
        what = f"{model}: chunk {load.chunk}"
        return self._put(_Copy(what, self._arena[to : to + size], host[at : at + size], tuple(after)))

    def copy_out(self, offset: int, num_bytes: int) -> Landing:
        """Queue a copy from the arena to pinned memory as large as the arena, made for the first of them.

        Raises
        ------
        ArenaError: there are no such bytes in the arena, or the lane is closed.
        BudgetError: the host has no room for the scratch memory.
        """
        self._copier.check_open()
        check_span("copy out", offset, num_bytes, self.capacity_bytes)
        if self._scratch is None:
            memory = HostMemory(self.capacity_bytes, owner="copy-out scratch")
            self._pin("copy-out scratch", memory.address, memory.num_bytes, _PORTABLE)
            self._scratch = memory, _tensor(memory.address, memory.num_bytes)
        end = offset + num_bytes
        return self._put(_Copy("copy out", self._scratch[1][offset:end], self._arena[offset:end], ()))

    def wait(self, landing: Landing) -> None:
        """Have the current stream wait for a copy; block only until the copy stream has it.

        Raises
        ------
        ArenaError: it failed, was called off, or the copier died.
        """
        copy = cast(_Copy, landing)
        self._copier.wait(copy)
        stream = _cuda.current_stream(self.device)
        copy.asked = _cuda.Event(enable_timing=True)
        copy.asked.record(stream)
        stream.wait_event(copy.ended)

    def call_off(self, landings: Sequence[Landing]) -> int:
        """Call off copies, given in their order; return how many the stream had, which complete."""
        return self._copier.call_off(cast(Sequence[_Copy], landings))

    def mark(self) -> Mark:
        """An event behind all that the current stream was asked for."""
        event = _cuda.Event()
        event.record(_cuda.current_stream(self.device))
        return event

    def close(self) -> None:
        """End the copier, let the stream finish and give the memory back; a second call does nothing."""
        self._copier.close()
        if self._arena is None:
            return
        try:
            _cuda.synchronize(self.device)
        finally:
            self._unpin()
            self._crossing.clear()
            self._blobs.clear()
            if self._scratch is not None:
                self._scratch[0].close()
            self._scratch = self._arena = self._one = None
            self._release()
            with contextlib.suppress(RuntimeError):  # a device that broke has nothing to give
                _cuda.empty_cache()

    def _put(self, copy: _Copy) -> _Copy:
        self._copier.put(copy)
        return copy

    def _carry(self, job: Job) -> None:
        """Hand a copy to the stream, as soon as it has fewer than it may have."""
        copy, stream = cast(_Copy, job), self._stream
        while len(self._crossing) >= _DEPTH:
            self._crossing.popleft().ended.synchronize()
        with _cuda.device(self.device), _cuda.stream(stream):
            if self._anchor is None or all(one.ended.query() for one in self._crossing):
                event = _cuda.Event(enable_timing=True)
                event.record(stream)
                self._anchor = _Anchor(event, time.perf_counter())
            copy.anchor = self._anchor
            for mark in copy.after:
                stream.wait_event(mark)
            copy.begun.record(stream)
            copy.dst.copy_(copy.src, non_blocking=True)
            copy.ended.record(stream)
        self._crossing.append(copy)

    def _pin(self, owner: str, address: int, num_bytes: int, flags: int) -> None:
        """Pin memory; a page more or less is the driver's affair."""
        with _cuda.device(self.device):
            error = int(_cuda.cudart().cudaHostRegister(address, num_bytes, flags))
        if error:
            _forget_error(self._one)
        if error == _NO_MEMORY:
            raise BudgetError(
                f"{owner}: no {num_bytes} bytes can be pinned; raise `ulimit -l`, or serve fewer"
            )
        if error:
            raise ArenaError(
                f"{owner}: {num_bytes} bytes cannot be pinned (CUDA error {error}); use device cpu"
            )
        self._pinned.append(address)

    def _unpin(self) -> None:
        """Let go of what is pinned; what a device that broke refuses goes with the process."""
        pinned, self._pinned = self._pinned, []
        errors = [int(_cuda.cudart().cudaHostUnregister(address)) for address in pinned]
        if any(errors):
            _forget_error(self._one)

    def _release(self) -> None:
        if self._allocation is not None:  # a second time nothing happens
            self._allocation.release()


def _forget_error(one: torch.Tensor) -> None:
    """Have a kernel of no use, which needs no memory, be told of a call that failed.

    The runtime tells the next kernel that this thread starts, whoever asks for that, and only then forgets.
    PyTorch's binding reads the error and leaves it there, and has no way to clear it (pytorch#165990).
    """
    with contextlib.suppress(RuntimeError):
        one.fill_(1)


def _tensor(address: int, num_bytes: int) -> Any:
    """Bytes at an address; whoever owns them has to outlive the tensor."""
    return torch.frombuffer((ctypes.c_ubyte * num_bytes).from_address(address), dtype=torch.uint8)
