"""Lanes for the tests of the live arena: real bytes, and one whose copies happen when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from harness.errors import ArenaError
from harness.residency.device.base import Landed, Landing, Mark
from harness.residency.device.cpu import CpuLane
from harness.residency.layout import ModelLayout
from harness.residency.live import Pass
from harness.residency.policies.base import Load
from harness.residency.store.blob import HostBlob
from harness.residency.store.packing import HostTensor, pack


def blob_of(layout: ModelLayout, seed: int = 0) -> HostBlob:
    """A model of that layout, every chunk one tensor of random bytes that no other model has."""
    draw = Random(f"{layout.name} {seed}")
    tensors = [
        HostTensor(chunk.name, "uint8", (chunk.num_bytes,), draw.randbytes(chunk.num_bytes))
        for chunk in layout.chunks
    ]
    return pack(layout.name, [(tensor.name, [tensor]) for tensor in tensors])


def blobs_of(layouts: Mapping[str, ModelLayout]) -> dict[str, HostBlob]:
    """A blob for every layout."""
    return {name: blob_of(layout) for name, layout in layouts.items()}


class FailingLane(CpuLane):
    """The CPU's lane, its copies failing or its copier dying on command."""

    def __init__(self, capacity_bytes: int, **options: Any) -> None:
        super().__init__(capacity_bytes, **options)
        self.fails: set[int] = set()
        """Numbers of the copies that fail, counted from the first."""
        self.dies: set[int] = set()
        """Numbers of the copies at which the copier ends."""
        self.count = 0

    def _move(self, job: Any) -> None:
        number = self.count
        self.count += 1
        if number in self.dies:
            raise SystemExit("told to die")
        if number in self.fails:
            raise OSError(5, "Input/output error")
        super()._move(job)


class SteppedLanding:
    """A copy that lands when it is its turn."""

    def __init__(self, model: str, load: Load | None, num_bytes: int) -> None:
        self.model = model
        self.load = load
        self.num_bytes = num_bytes
        self.has_begun = False
        self.has_failed = False
        self.stalled_s = 0.0
        self.landed: Landed | None = None
        self.after: list[int] = []


class SteppedLane:
    """A lane without a thread: `step` begins a copy or ends the one that has begun.

    A copy that has begun has written half of its chunk. With `has_marks` it stands for a GPU: computing goes
    on behind the caller's back, `computed` says up to which mark, and waiting is the device's: what was
    waited for since the last mark is in `waited`.
    """

    def __init__(self, capacity_bytes: int, *, has_marks: bool = False) -> None:
        self.capacity_bytes = capacity_bytes
        self.arena = bytearray(b"\xee" * capacity_bytes)
        self.blobs: dict[str, HostBlob] = {}
        self.queue: deque[SteppedLanding] = deque()
        self.moved_bytes = 0
        self.out_bytes = 0
        self.num_marks = 0
        self.computed = 0
        self.has_marks = has_marks
        self.waited: list[SteppedLanding] = []
        self.fail_next = False

    def register(self, blob: HostBlob) -> None:
        """Keep it."""
        self.blobs[blob.name] = blob

    def copy_in(self, model: str, load: Load, *, after: Sequence[Mark] = ()) -> SteppedLanding:
        """Queue it."""
        assert load.arena_offset + load.num_bytes <= self.capacity_bytes
        landing = SteppedLanding(model, load, load.num_bytes)
        landing.after = list(after)
        self.queue.append(landing)
        return landing

    def copy_out(self, offset: int, num_bytes: int) -> SteppedLanding:
        """Queue it."""
        landing = SteppedLanding("out", None, num_bytes)
        self.queue.append(landing)
        return landing

    def step(self) -> bool:
        """Begin or end the first copy; return whether there was one that could."""
        if not self.queue:
            return False
        first = self.queue[0]
        if not first.has_begun:
            if any(mark > self.computed for mark in first.after):
                return False
            first.has_begun = True
            self._write(first, half=True)
            return True
        self.queue.popleft()
        if self.fail_next:
            self.fail_next, first.has_failed = False, True
        else:
            self._write(first, half=False)
            self.moved_bytes += first.num_bytes if first.load else 0
            self.out_bytes += 0 if first.load else first.num_bytes
            first.landed = Landed(0.0, 1.0)
        return True

    def wait(self, landing: Landing) -> None:
        """Step until it has landed, or leave that to the device."""
        assert isinstance(landing, SteppedLanding)
        if self.has_marks:
            self.waited.append(landing)
            return
        while landing.landed is None:
            if landing.has_failed:
                raise ArenaError(f"{landing.model}: told to fail")
            assert self.step(), "deadlock"

    def call_off(self, landings: Iterable[Landing]) -> int:
        """Take off the queue what has not begun."""
        listed = list(landings)
        gone = [one for one in listed if not one.has_begun]
        for one in gone:
            assert isinstance(one, SteppedLanding)
            one.has_failed = True
            self.queue.remove(one)
        return len(listed) - len(gone)

    def mark(self) -> Mark:
        """The next number, or nothing."""
        if not self.has_marks:
            return None
        self.num_marks += 1
        return self.num_marks

    def close(self) -> None:
        """Nothing to do."""

    def _write(self, one: SteppedLanding, *, half: bool) -> None:
        if one.load is not None:
            size = one.num_bytes // 2 if half else one.num_bytes
            host, at = one.load.host_offset, one.load.arena_offset
            self.arena[at : at + size] = self.blobs[one.model].view[host : host + size]


def holds(arena: Any, blob: HostBlob, running: Pass, chunk: int) -> bool:
    """Are the blob's own bytes where the pass says that the chunk is?"""
    layout = blob.manifest.layout
    start, end = layout.starts[chunk], layout.starts[chunk + 1]
    at = running.places[chunk]
    return bytes(arena[at : at + end - start]) == bytes(blob.view[start:end])
