"""What breaks under a live arena breaks for its own model: said in one line, and the others keep serving."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import ArenaError, BudgetError, ModelError, UsageError
from harness.residency import policies as p
from harness.residency.device.cpu import CpuLane
from harness.residency.layout import ModelLayout
from harness.residency.live import LiveArena
from harness.residency.policies import Policy
from harness.residency.store.files import load, save
from harness.residency.store.memory import HostMemory
from tests.arena_lanes import FailingLane, SteppedLane, blob_of, blobs_of, holds
from tests.residency_cases import UNIT, layouts_of

LAYOUTS = layouts_of([1, 2, 2, 1], [2, 2, 3], [1, 1])
CAPACITY = 9 * UNIT


def home_slot() -> Policy:
    """The default."""
    return p.HomeSlot(LAYOUTS, CAPACITY)


POLICIES: dict[str, Callable[[], Policy]] = {
    "home-slot": home_slot,
    "chunk-slots": lambda: p.ChunkLFU(LAYOUTS, CAPACITY),
    "fifo-ring": lambda: p.FifoRing(LAYOUTS, CAPACITY),
    "keep-last": lambda: p.KeepLast(LAYOUTS, CAPACITY),
    "resident": lambda: p.Resident(LAYOUTS, 15 * UNIT),
}


@contextmanager
def opened(policy: Policy) -> Iterator[tuple[LiveArena, FailingLane]]:
    """An arena on a lane that fails when told to."""
    lane = FailingLane(policy.arena.capacity_bytes)
    arena = LiveArena(policy, lane, blobs_of(policy.arena.layouts))
    try:
        yield arena, lane
    finally:
        arena.close()
        for blob in arena.blobs.values():
            blob.verify()


def serve(arena: LiveArena, model: str) -> bool:
    """Serve a request, every chunk checked; return whether it was a hit."""
    running = arena.begin(model)
    for chunk in range(len(running.places)):
        running.wait(chunk)
        assert holds(arena.lane.arena, arena.blobs[model], running, chunk)
        running.done(chunk)
    return running.end().is_hit


@pytest.mark.parametrize("kind", ["fails", "dies"])
@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_a_copy_that_breaks_is_an_error_of_its_own_request_alone(
    make: Callable[[], Policy], kind: str
) -> None:
    """Whichever copy it is: the request says so, the next ones serve, and the model comes back whole."""
    cause = "told to die" if kind == "dies" else "Input/output error"
    for number, broken in enumerate(["m0"] * 4 + ["m1"] * 3):
        with opened(make()) as (arena, lane):
            getattr(lane, kind).add(number)
            for model in ["m0", "m1", "m2", "m0", "m1"]:
                if model == broken and lane.count <= number:
                    with pytest.raises(ArenaError, match=rf"^{model}: chunk \d did not land \(.*{cause}"):
                        serve(arena, model)
                    assert not arena.policy.arena.resident_bytes(model)
                    assert not serve(arena, model)
                else:
                    serve(arena, model)
            assert len([thread for thread in threading.enumerate() if thread.name == "arena-copier"]) == 1


@pytest.mark.parametrize("kind", ["fails", "dies"])
def test_a_guess_that_breaks_costs_no_more_than_its_copies(kind: str) -> None:
    """Copies made ahead that fail, right guess or wrong, are made again when they are asked for."""
    for number in range(2, 8):
        with opened(p.ChunkLFU(LAYOUTS, CAPACITY)) as (arena, lane):
            serve(arena, "m2")
            getattr(lane, kind).add(number)
            arena.look_ahead("m0")
            with pytest.raises(ArenaError) if number < 6 else _nothing():
                arena.drain()
            for model in ("m1", "m0", "m2"):
                try:
                    serve(arena, model)
                except ArenaError:
                    assert number >= 6
                    serve(arena, model)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_a_guess_that_failed_is_never_computed_on() -> None:
    """The right guess, its copy failed in silence: the request copies anew, and is no hit."""
    with opened(p.ChunkLFU(LAYOUTS, CAPACITY)) as (arena, lane):
        serve(arena, "m2")
        lane.fails = {3}
        arena.look_ahead("m0")
        with pytest.raises(ArenaError):
            arena.drain()
        assert not serve(arena, "m0")
        assert serve(arena, "m0")


@pytest.mark.parametrize("damage", ["truncated", "wrong shape"])
def test_a_damaged_model_is_refused_and_the_others_serve(tmp_path: Path, damage: str) -> None:
    """It never gets as far as the arena."""
    for name, layout in LAYOUTS.items():
        save(blob_of(layout), tmp_path / name)
    if damage == "truncated":
        os.truncate(tmp_path / "m1" / "model.blob", 3 * UNIT)
    else:
        path = tmp_path / "m1" / "manifest.json"
        path.write_text(path.read_text().replace("128\n", "129\n", 1))
    with pytest.raises(ModelError, match=r"m1/.*(save the model again|give the tensor whole)"):
        load(tmp_path / "m1")
    blobs = {name: load(tmp_path / name) for name in ("m0", "m2")}
    layouts = {name: blob.manifest.layout for name, blob in blobs.items()}
    arena = LiveArena(p.HomeSlot(layouts, CAPACITY), CpuLane(CAPACITY), blobs)
    try:
        assert [serve(arena, name) for name in ("m0", "m2", "m0")] == [False, False, True]
    finally:
        arena.close()


def test_a_model_larger_than_the_arena_streams_or_says_what_it_needs() -> None:
    """home-slot streams it; others name the bytes and the policy that would do; the small one serves on."""
    layouts = layouts_of([1] * 12, [2, 1])
    with opened(p.HomeSlot(layouts, 5 * UNIT)) as (arena, _):
        assert [serve(arena, name) for name in ("m1", "m0", "m1", "m0")] == [False] * 4
    for policy in (p.ChunkLFU(layouts, 5 * UNIT), p.FifoRing(layouts, 5 * UNIT)):
        with opened(policy) as (arena, _):
            serve(arena, "m1")
            with pytest.raises(BudgetError, match=r"m0: 768 bytes in an arena of 320; give the arena 768"):
                arena.begin("m0")
            assert serve(arena, "m1")
    with pytest.raises(BudgetError, match="m0: "):
        p.HomeSlot(layouts, 2 * UNIT)


@contextmanager
def short_of_memory(spare_bytes: int) -> Iterator[None]:
    """A process that may not map more than so many bytes besides what it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + spare_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_host_out_of_memory_refuses_what_is_new_and_serves_what_is_there(tmp_path: Path) -> None:
    """A blob, a saved model and another arena each say whose memory is missing; the arena serves on."""
    size = 256 << 20
    folder = save(blob_of(ModelLayout.packed("m9", [("embed", 64)])), tmp_path)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("64\n", f"{size}\n").replace(": 64,", f": {size},"))
    os.truncate(folder / "model.blob", size)
    with opened(home_slot()) as (arena, _):
        serve(arena, "m0")
        with short_of_memory(64 << 20):
            for make, owner in (
                (lambda: HostMemory(size, owner="m8"), "m8"),
                (lambda: load(folder), "m9"),
                (lambda: CpuLane(size), "arena"),
            ):
                with pytest.raises(BudgetError, match=f"{owner}: no {size} bytes .*Cannot allocate"):
                    make()
            assert serve(arena, "m0")
            assert not serve(arena, "m1")


def test_a_host_out_of_memory_for_writing_back_leaves_nothing_to_be_computed_on() -> None:
    """The request is refused before its copies are asked for, so its next one has all of them to make."""
    size = 16 << 20
    layouts = {name: ModelLayout.packed(name, [("all", size)]) for name in ("m0", "m1")}
    with opened(p.FifoRingCopyOut(layouts, size)) as (arena, _):
        arena.begin("m0").wait(0)
        with short_of_memory(size // 2), pytest.raises(BudgetError, match=f"scratch: no {size} bytes"):
            arena.begin("m1")
        again = arena.begin("m1")
        assert (again.is_hit, again.plan.num_bytes) == (False, size)


def test_a_host_out_of_memory_for_the_copier_says_so_and_serves_when_there_is_some() -> None:
    """A thread needs a stack."""
    with opened(home_slot()) as (arena, _):
        before = threading.stack_size(256 << 20)
        try:
            with short_of_memory(64 << 20), pytest.raises(ArenaError, match="no thread that copies"):
                arena.begin("m0")
        finally:
            threading.stack_size(before)
        assert not serve(arena, "m0")


def test_a_lane_that_was_closed_says_so() -> None:
    """To whoever begins, and to whoever waits."""
    with opened(home_slot()) as (arena, _):
        running = arena.begin("m0")
        arena.close()
        with pytest.raises(ArenaError, match="closed"):
            arena.begin("m1")
        with pytest.raises(UsageError, match="has ended"):
            running.wait(3)


def test_a_pass_ends_with_the_next_one() -> None:
    """Two who each believe the arena theirs are told, in place of computing on each other's bytes."""
    with opened(home_slot()) as (arena, _):
        first = arena.begin("m0")
        second = arena.begin("m1")
        for act in (lambda: first.wait(0), lambda: first.done(0), first.again):
            with pytest.raises(UsageError, match="m0: its pass has ended; begin another request"):
                act()
        assert first.end() == first.end()
        second.wait(0)


def test_an_arena_is_made_of_what_fits_together() -> None:
    """A missing blob, one of another layout, a small arena, a map that is not empty, nothing that runs."""
    blobs = blobs_of(LAYOUTS)
    cases: list[tuple[Policy, int, dict[str, ModelLayout], str]] = [
        (home_slot(), CAPACITY, layouts_of([1, 2, 2, 1]), "m1: no blob of the policy's layout"),
        (
            home_slot(),
            CAPACITY,
            layouts_of([1, 2, 3], [2, 2, 3], [1, 1]),
            "m0: no blob of the policy's layout",
        ),
        (home_slot(), CAPACITY - UNIT, LAYOUTS, "home-slot: plans for 576 bytes, the lane's arena has 512"),
    ]
    for policy, capacity_bytes, layouts, words in cases:
        with pytest.raises(UsageError, match=words):
            LiveArena(policy, SteppedLane(capacity_bytes), blobs_of(layouts))
    warm = home_slot()
    warm.request("m0")
    with pytest.raises(UsageError, match="is on the map; give it cold"):
        LiveArena(warm, SteppedLane(CAPACITY), blobs)
    arena = LiveArena(home_slot(), SteppedLane(CAPACITY), blobs)
    with pytest.raises(UsageError, match="nothing runs that could be looked ahead from"):
        arena.look_ahead("m0")
    with pytest.raises(UsageError, match="model 'm7': not in the arena"):
        arena.begin("m7")


@pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)
def test_an_arena_begins_anew_with_nothing_in_it(make: Callable[[], Policy]) -> None:
    """`reset` in the midst of copies, then another policy; `fill` copies what its plans say, and waits."""
    with opened(make()) as (arena, lane):
        serve(arena, "m0")
        arena.begin("m1")
        arena.look_ahead("m2")
        arena.reset(make())
        assert not arena.policy.arena.live
        arena.fill(["m2", "m0"])
        for model in arena.policy.arena.models:
            if arena.policy.arena.is_whole(model):
                assert serve(arena, model)
                break
        assert not lane.fails
