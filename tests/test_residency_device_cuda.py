"""The GPU's lane: pinned blobs cross on a stream of their own, and both streams wait where they must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from random import Random

import pytest
import torch

from harness.errors import ArenaError, BudgetError, UnavailableError
from harness.residency import policies as p
from harness.residency.device import cuda
from harness.residency.device.copier import Copier
from harness.residency.device.cuda import CudaLane
from harness.residency.layout import ModelLayout
from harness.residency.live import LiveArena
from harness.residency.policies.base import Load
from tests.arena_lanes import blob_of, blobs_of

has_gpu = torch.cuda.is_available()
on_gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not has_gpu, reason="no NVIDIA GPU here")
MB = 1 << 20
LAYOUTS = {
    name: ModelLayout.packed(name, [(f"layer.{i}", size * MB) for i in range(12)])
    for name, size in (("a", 12), ("b", 13), ("c", 5))
}


@pytest.fixture
def lane() -> Iterator[CudaLane]:
    """An arena that holds two of three models."""
    one = CudaLane(300 * MB)
    yield one
    one.close()


@pytest.mark.skipif(has_gpu, reason="this machine has a GPU")
def test_without_a_gpu_the_lane_says_so() -> None:
    """Before it takes anything."""
    with pytest.raises(UnavailableError, match="arena: no NVIDIA GPU for 'cuda'; run on one that has"):
        CudaLane(64)


class Runtime:
    """CUDA's, as far as pinning goes: it remembers a call that failed until a kernel was told."""

    def __init__(self, error: int) -> None:
        self.error = error
        self.pending = 0
        self.calls: list[tuple[object, ...]] = []

    def cudart(self) -> Runtime:
        return self

    def device(self, _: object) -> nullcontext[None]:
        return nullcontext()

    def cudaHostRegister(self, *given: object) -> int:
        self.calls.append(given)
        self.pending = self.error
        return self.error

    def cudaHostUnregister(self, *given: object) -> int:
        self.calls.append(given)
        return 0

    def fill_(self, _: float) -> None:
        """A kernel, on what is there: there is no memory for anything new."""
        pending, self.pending = self.pending, 0
        if pending:
            raise RuntimeError(f"CUDA error {pending}")


def bare_lane(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> CudaLane:
    """What pins, without a device."""
    lane = CudaLane.__new__(CudaLane)
    lane._blobs, lane._pinned, lane.device = {}, [], torch.device("cpu")
    lane._copier = Copier(lambda _: None)
    lane._one = runtime
    monkeypatch.setattr(cuda, "_cuda", runtime)
    return lane


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (2, BudgetError, "no 64 bytes can be pinned"),
        (712, ArenaError, r"cannot be pinned \(CUDA error 712\)"),
    ],
)
def test_pinning_that_fails_is_told_to_its_caller_and_to_no_kernel_behind_it(
    code: int, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime would tell the next one, of whatever test, and PyTorch raise it there."""
    runtime = Runtime(code)
    lane = bare_lane(monkeypatch, runtime)
    with pytest.raises(error, match=says):
        lane.register(blob_of(ModelLayout.packed("a", [("layer", 64)])))
    assert (runtime.pending, lane._pinned, lane._blobs) == (0, [], {})


def test_a_blob_is_pinned_where_it_lies_for_reading_alone_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address, its bytes, portable and read-only; let go of by its address."""
    runtime = Runtime(0)
    lane, blob = bare_lane(monkeypatch, runtime), blob_of(ModelLayout.packed("a", [("layer", 64)]))
    lane.register(blob)
    lane.register(blob)
    lane._unpin()
    assert runtime.calls == [(blob.address, 64, 1 | 8), (blob.address,)]


@on_gpu
@needs_gpu
def test_what_was_waited_for_is_there_on_the_device(lane: CudaLane) -> None:
    """Computing on the stream that waited sees the blob's bytes; when they crossed is known then."""
    blob = blob_of(LAYOUTS["c"])
    lane.register(blob)
    loads = [
        Load(i, c.offset_bytes, c.offset_bytes, c.num_bytes, None) for i, c in enumerate(LAYOUTS["c"].chunks)
    ]
    landings = [lane.copy_in("c", load) for load in loads]
    for load, landing in zip(loads, landings, strict=True):
        lane.wait(landing)
        found = lane.arena[load.arena_offset : load.arena_offset + load.num_bytes].clone()
        torch.cuda.synchronize()
        assert bytes(found.cpu().numpy()) == bytes(blob.view[load.host_offset :][: load.num_bytes])
    times = [landing.landed for landing in landings]
    assert all(one is not None and one.began_s < one.ended_s for one in times)
    assert [one.ended_s for one in times if one] == sorted(one.ended_s for one in times if one)
    blob.verify()


@on_gpu
@needs_gpu
@pytest.mark.parametrize("name", ["home-slot", "chunk-slots", "fifo-ring-copy-out"])
def test_models_take_turns_on_the_device_and_every_chunk_is_its_own(lane: CudaLane, name: str) -> None:
    """Slow computing on every chunk, guesses right and wrong, the caller far ahead of the device."""
    policy = {
        "home-slot": p.HomeSlot(LAYOUTS, 300 * MB),
        "chunk-slots": p.ChunkLFU(LAYOUTS, 300 * MB),
        "fifo-ring-copy-out": p.FifoRingCopyOut(LAYOUTS, 300 * MB),
    }[name]
    blobs = blobs_of(LAYOUTS)
    sums = {
        model: [
            int(
                torch.frombuffer(
                    bytearray(blob.view[c.offset_bytes :][: c.num_bytes]), dtype=torch.uint8
                ).sum()
            )
            for c in LAYOUTS[model].chunks
        ]
        for model, blob in blobs.items()
    }
    arena, random = LiveArena(policy, lane, blobs), Random(0)
    busy = torch.randn(2048, 2048, device="cuda")
    found = []
    for _ in range(20):
        model, guess = random.choice("aabbc"), random.choice("abc")
        running = arena.begin(model, upcoming=guess)
        arena.look_ahead(guess)
        for chunk, at in enumerate(running.places):
            running.wait(chunk)
            for _ in range(4):
                busy = busy @ busy / busy.norm()
            size = LAYOUTS[model].chunks[chunk].num_bytes
            found.append((sums[model][chunk], lane.arena[at : at + size].sum(dtype=torch.int64)))
            running.done(chunk)
        running.end()
    assert [want for want, _ in found] == [int(have) for _, have in found]
    for blob in blobs.values():
        blob.verify()


@on_gpu
@needs_gpu
def test_what_the_stream_does_not_have_yet_can_be_called_off(lane: CudaLane) -> None:
    """At most two of twelve are beyond recall as long as the first one waits for a mark."""
    blob = blob_of(LAYOUTS["b"])
    lane.register(blob)
    busy = torch.randn(4096, 4096, device="cuda")
    for _ in range(200):
        busy = busy @ busy / busy.norm()
    mark = lane.mark()
    landings = [
        lane.copy_in("b", Load(i, c.offset_bytes, c.offset_bytes, c.num_bytes, None), after=[mark])
        for i, c in enumerate(LAYOUTS["b"].chunks)
    ]
    num_begun = lane.call_off(landings)
    assert num_begun <= 3  # two on the stream, one in the copier's hand
    with pytest.raises(ArenaError, match="called off"):
        lane.wait(landings[-1])
    for landing in landings[:num_begun]:
        lane.wait(landing)
