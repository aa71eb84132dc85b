"""The CPU's lane: bytes cross in order, at the declared rate, and whatever breaks is said at once."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import ArenaError, BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.device.base import Landing
from harness.residency.device.cpu import CpuLane
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Load
from harness.residency.store.blob import HostBlob
from tests.arena_lanes import FailingLane, blob_of
from tests.residency_cases import UNIT, layout


@contextmanager
def opened(lane: CpuLane, *blobs: HostBlob) -> Iterator[CpuLane]:
    """The lane with its blobs known, closed at the end."""
    try:
        for blob in blobs:
            lane.register(blob)
        yield lane
    finally:
        lane.close()


def loads(one: ModelLayout, at: int = 0) -> list[Load]:
    """Every chunk of a model, to lie side by side from there on."""
    return [
        Load(i, chunk.offset_bytes, at + chunk.offset_bytes, chunk.num_bytes, None)
        for i, chunk in enumerate(one.chunks)
    ]


def bring(lane: CpuLane, one: ModelLayout, at: int = 0) -> list[Landing]:
    """Ask for every chunk."""
    return [lane.copy_in(one.name, load) for load in loads(one, at)]


def copiers() -> list[threading.Thread]:
    """The copiers of this process that live."""
    return [thread for thread in threading.enumerate() if thread.name == "arena-copier"]


def test_what_was_waited_for_is_there() -> None:
    """Chunk by chunk, and nothing beside it is touched."""
    one = layout("m", 1, 3, 2)
    blob = blob_of(one)
    with opened(CpuLane(8 * UNIT), blob) as lane:
        assert not lane.arena.any()
        for chunk, landing in enumerate(bring(lane, one, UNIT)):
            lane.wait(landing)
            assert landing.has_begun
            assert not landing.has_failed
            start, end = one.starts[chunk], one.starts[chunk + 1]
            assert bytes(lane.arena[UNIT + start : UNIT + end]) == bytes(blob.view[start:end])
        assert not lane.arena[:UNIT].any()
        assert not lane.arena[7 * UNIT :].any()
    assert not copiers()


def test_a_copy_over_another_comes_behind_it() -> None:
    """The one asked for last is the one that stays."""
    one, other = layout("one", 4), layout("other", 4)
    blobs = [blob_of(one), blob_of(other)]
    with opened(CpuLane(4 * UNIT), *blobs) as lane:
        landings = [bring(lane, name)[0] for _ in range(50) for name in (one, other)]
        lane.wait(landings[-1])
        assert bytes(lane.arena) == bytes(blobs[1].view)
        assert all(landing.landed for landing in landings)


def test_a_declared_link_is_kept_to_over_many_chunks() -> None:
    """What a sleep is late by is not added up: a hundred chunks take their bytes ÷ rate, not more."""
    rate = 64e3 * 8
    one = layout("m", 2400, *[8] * 100)  # while the first one crosses, all the others are asked for
    with opened(CpuLane(one.num_bytes, bytes_per_s=rate), blob_of(one)) as lane:
        landings = bring(lane, one)
        lane.wait(landings[-1])
        landed = [landing.landed for landing in landings]
        first, last = landed[0], landed[-1]
        assert first is not None
        assert last is not None
        # Each copy is due at a time that does not depend on how late the others were.
        due_s = first.began_s + one.num_bytes / rate
        assert last.began_s == pytest.approx(due_s - 8 * UNIT / rate, abs=1e-6)
        assert last.ended_s >= due_s - 1e-6
        assert all(later is not None for later in landed)


def test_idle_time_of_a_link_is_not_saved_up() -> None:
    """A copy that is asked for late begins then, and takes as long as any other."""
    one = layout("m", 10, 10)
    with opened(CpuLane(one.num_bytes, bytes_per_s=640e2), blob_of(one)) as lane:
        first, second = loads(one)
        lane.wait(lane.copy_in("m", first))
        time.sleep(0.05)
        asked_s = time.perf_counter()
        landing = lane.copy_in("m", second)
        lane.wait(landing)
        assert landing.landed is not None
        assert landing.landed.began_s >= asked_s
        assert landing.landed.ended_s >= asked_s + 0.01


def test_what_has_not_begun_can_be_called_off() -> None:
    """Those that have begun complete, and are counted; the others fail whoever waits for them."""
    one = layout("m", 100, 100, 100)
    blob = blob_of(one)
    with opened(CpuLane(one.num_bytes, bytes_per_s=64e4), blob) as lane:
        landings = bring(lane, one)
        while not landings[0].has_begun:
            time.sleep(0)
        num_begun = lane.call_off(landings)
        assert 1 <= num_begun < 3
        for landing in landings[:num_begun]:
            lane.wait(landing)
        for landing in landings[num_begun:]:
            assert landing.has_failed
            with pytest.raises(ArenaError, match=r"m: chunk 2 did not land \(called off\)"):
                lane.wait(landings[2])
        assert not lane.arena[200 * UNIT :].any()
        assert lane.call_off(landings) == num_begun
        lane.wait(bring(lane, one)[-1])
        assert bytes(lane.arena) == bytes(blob.view)


def test_a_copy_that_fails_is_said_to_who_waits_and_the_next_goes_on() -> None:
    """One line: what, why, and what to do."""
    one = layout("m", 1, 1, 1)
    lane = FailingLane(one.num_bytes)
    lane.fails = {1}
    with opened(lane, blob_of(one)):
        landings = bring(lane, one)
        lane.wait(landings[2])
        with pytest.raises(
            ArenaError, match=r"^m: chunk 1 did not land \(OSError: .*\); ask for the model again$"
        ):
            lane.wait(landings[1])
        assert landings[1].has_failed
        assert landings[1].landed is None


def test_a_copier_that_dies_fails_all_that_it_had_and_is_replaced_by_the_next_copy() -> None:
    """Whoever waits is told at once and why; nobody hangs."""
    one = layout("m", 1, 1, 1, 1)
    blob = blob_of(one)
    lane = FailingLane(one.num_bytes)
    lane.dies = {1}
    with opened(lane, blob):
        landings = bring(lane, one)
        for landing in landings[1:]:
            with pytest.raises(ArenaError, match=r"did not land \(SystemExit: told to die\)") as caught:
                lane.wait(landing)
            assert isinstance(caught.value.__cause__, SystemExit)
        lane.wait(landings[0])
        again = bring(lane, one)
        lane.wait(again[-1])
        assert bytes(lane.arena) == bytes(blob.view)
        assert len(copiers()) == 1


def _wait_in_child(lane: CpuLane, landing: Landing, said: Sequence[str]) -> None:
    try:
        lane.wait(landing)
    except ArenaError as exc:
        print(exc)
        raise SystemExit(0 if said[0] in str(exc) else 3) from exc
    raise SystemExit(4)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_copier_that_is_gone_without_a_word_is_noticed() -> None:
    """Threads do not survive a fork: a child that waits is told, in place of waiting for ever."""
    one = layout("m", 100, 100)
    with opened(CpuLane(one.num_bytes, bytes_per_s=16e3), blob_of(one)) as lane:
        landings = bring(lane, one)
        child = multiprocessing.get_context("fork").Process(
            target=_wait_in_child, args=(lane, landings[1], ["the copier thread is gone"])
        )
        while not landings[0].has_begun:
            time.sleep(0.001)  # the copier sleeps on its link now, and holds no lock for the child to inherit
        try:
            child.start()
            child.join(30)
            assert child.exitcode == 0
        finally:
            child.kill()
            child.join()


def test_closing_ends_the_copier_and_fails_what_is_queued() -> None:
    """Promptly, also behind a slow link; twice is once; what comes later is refused with a reason."""
    one = layout("m", 10, 10)
    lane = CpuLane(one.num_bytes, bytes_per_s=64.0)
    lane.register(blob_of(one))
    landings = bring(lane, one)
    while not landings[0].has_begun:
        time.sleep(0)
    lane.close()
    lane.close()
    first = landings[0].landed
    assert first is not None
    assert first.ended_s < first.began_s + 10.0  # what the link alone would take
    assert not copiers()
    with pytest.raises(ArenaError, match="the lane was closed"):
        lane.wait(landings[1])
    for late in (
        lambda: lane.arena,
        lambda: lane.copy_in("m", loads(one)[0]),
        lambda: lane.register(blob_of(one)),
    ):
        with pytest.raises(ArenaError, match="closed"):
            late()


def test_closing_gives_the_memory_and_the_budget_back(tmp_path: Path) -> None:
    """The budget sees the arena as long as it is open."""
    with budget_at(tmp_path, 1000) as budget:
        lane = CpuLane(640, budget=budget)
        assert [(one.owner, one.num_bytes) for one in budget.holders()] == [("arena", 640)]
        with pytest.raises(BudgetError, match="arena"):
            CpuLane(640, budget=budget)
        lane.close()
        assert budget.used_bytes == 0
        with pytest.raises(BudgetError, match="arena: no 70368744177664 bytes of host memory"):
            CpuLane(1 << 46)
        with budget_at(tmp_path / "large", 1 << 47) as large:
            with pytest.raises(BudgetError, match="host memory"):
                CpuLane(1 << 46, budget=large)
            assert large.used_bytes == 0


@contextmanager
def budget_at(folder: Path, capacity_bytes: int) -> Iterator[DeviceBudget]:
    """A budget in a folder of its own."""
    folder.mkdir(exist_ok=True)
    budget = DeviceBudget.create(capacity_bytes, path=folder / "budget")
    yield budget
    budget.remove()


def test_tensors_of_the_arena_outlive_it_and_blobs_outlive_their_owner() -> None:
    """No view ever looks at memory that is gone."""
    one = layout("m", 100)
    blob = blob_of(one)
    whole = bytes(blob.view)
    lane = CpuLane(one.num_bytes)
    lane.register(blob)
    blob.close()
    gc.collect()
    lane.wait(bring(lane, one)[0])
    view = lane.arena[10:20]
    lane.close()
    gc.collect()
    assert bytes(view) == whole[10:20]


def test_scratch_of_copy_out_leaves_the_arena_as_it_is() -> None:
    """What is written back changes nothing."""
    one = layout("m", 3)
    blob = blob_of(one)
    with opened(CpuLane(one.num_bytes), blob) as lane:
        bring(lane, one)
        lane.wait(lane.copy_out(UNIT, 2 * UNIT))
        assert bytes(lane.arena) == bytes(blob.view)
        with pytest.raises(ArenaError, match="copy out: 128 bytes at 128 lie beyond 192"):
            lane.copy_out(2 * UNIT, 2 * UNIT)


@pytest.mark.parametrize(
    "load",
    [Load(0, 0, UNIT, 2 * UNIT, None), Load(0, UNIT, 0, 2 * UNIT, None), Load(0, 0, -UNIT, UNIT, None)],
    ids=["beyond the arena", "beyond the blob", "before the arena"],
)
def test_a_copy_to_where_there_is_nothing_is_refused(load: Load) -> None:
    """Before it could write over anything."""
    one = layout("m", 2)
    with opened(CpuLane(2 * UNIT), blob_of(one)) as lane, pytest.raises(ArenaError, match="lie beyond"):
        lane.copy_in("m", load)


def test_models_have_names_of_their_own() -> None:
    """Another blob of a known name, or a name that is not known."""
    one = layout("m", 2)
    with opened(CpuLane(2 * UNIT), blob_of(one)) as lane:
        with pytest.raises(ArenaError, match="m: registered already"):
            lane.register(blob_of(one, seed=1))
        with pytest.raises(ArenaError, match="n: unknown to the lane"):
            lane.copy_in("n", loads(one)[0])


@pytest.mark.parametrize(
    ("capacity", "rate"), [(0, None), (-1, None), (64, 0.0), (64, -1.0), (64, float("nan"))]
)
def test_sizes_and_rates_are_positive(capacity: int, rate: float | None) -> None:
    """Anything else is a misunderstanding."""
    with pytest.raises(UsageError, match="give positive numbers"):
        CpuLane(capacity, bytes_per_s=rate)
