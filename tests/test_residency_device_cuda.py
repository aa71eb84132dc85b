"""The GPU's lane: pinned blobs cross on a stream of their own, and both streams wait where they must."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
import torch

from harness.errors import ArenaError, UnavailableError
from harness.residency import policies as p
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
