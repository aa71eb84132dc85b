"""Which lane runs what: blocks stay together, nothing runs twice, a crash costs one test."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.session.scheduling import BlockScheduling

BLOCKS = [("a::1", "a::2", "a::3"), ("b::1", "b::2"), ("c::1",), ("c::2",)]
ALL = [test for block in BLOCKS for test in block]


class Worker:
    """A worker as the scheduler sees it: begins a test when it knows the next, or that none follows."""

    def __init__(self, lane: str, collected: list[str]) -> None:
        self.lane, self.collected = lane, collected
        self.queue: list[str] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += [self.collected[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def running(self) -> str | None:
        """What it would be in the middle of now."""
        return self.queue[0] if len(self.queue) > 1 or (self.queue and self.shutting_down) else None


class Run:
    """pytest-xdist's controller, as far as the scheduler is concerned."""

    def __init__(self, lanes: list[str], blocks: list[tuple[str, ...]], *, is_replaced: bool = True) -> None:
        self.tests = [test for block in blocks for test in block]
        self.scheduling = BlockScheduling(
            blocks, lane_of=lambda node: node.lane, num_lanes=len(lanes), is_replaced=is_replaced
        )
        self.is_replaced = is_replaced
        self.workers: list[Worker] = []
        self.ran: list[tuple[str, str]] = []
        self.crashed: list[str] = []
        for lane in lanes:
            self.start(lane)

    def start(self, lane: str) -> None:
        worker = Worker(lane, ["other::x", *self.tests])
        self.workers.append(worker)
        self.scheduling.add_node(worker)
        self.scheduling.add_node_collection(worker, worker.collected)
        if self.scheduling.collection_is_completed:
            self.scheduling.schedule()

    def step(self, worker: Worker, *, crashes: bool) -> None:
        test = worker.running
        assert test is not None
        if crashes:
            self.workers.remove(worker)
            assert self.scheduling.remove_node(worker) == test
            self.crashed.append(test)
            if self.is_replaced:
                self.start(worker.lane)
            else:
                for other in self.workers:
                    other.shutdown()
            return
        worker.queue.pop(0)
        self.ran.append((test, worker.lane))
        self.scheduling.mark_test_complete(worker, worker.collected.index(test))

    def able(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.running]


def run_all(run: Run, draw: list[tuple[int, bool]]) -> None:
    for pick, crashes in [*draw, *[(0, False)] * 3 * len(run.tests)]:
        if not (able := run.able()):
            break
        run.step(able[pick % len(able)], crashes=crashes)


steps = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12)
lanes = st.integers(1, 3).map(lambda n: [f"gpu {i}" for i in range(n)])


@given(lanes, steps)
@settings(max_examples=150, deadline=None)
def test_every_test_runs_once_or_crashes_once(names: list[str], draw: list[tuple[int, bool]]) -> None:
    """However workers take turns and crash, nothing is rerun and nothing is left."""
    run = Run(names, BLOCKS)
    run_all(run, draw)
    assert Counter([test for test, _ in run.ran] + run.crashed) == Counter(ALL)
    assert run.scheduling.tests_finished
    assert not run.scheduling.left


@given(lanes, st.lists(st.integers(0, 5), max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_block_stays_on_one_lane(names: list[str], picks: list[int]) -> None:
    """Whatever the order in which workers finish."""
    run = Run(names, BLOCKS)
    run_all(run, [(pick, False) for pick in picks])
    for block in BLOCKS:
        assert len({lane for test, lane in run.ran if test in block}) == 1


def test_after_a_crash_the_block_goes_on_in_the_next_worker_of_its_lane() -> None:
    """The worker that replaces the crashed one takes what that one had not begun."""
    run = Run(["gpu 0", "gpu 1"], BLOCKS)
    run.step(run.workers[0], crashes=True)
    run_all(run, [])
    assert run.crashed == ["a::1"]
    assert [lane for test, lane in run.ran if test in ("a::2", "a::3")] == ["gpu 0", "gpu 0"]


def test_a_lane_that_crashes_all_the_time_gets_no_more_tests() -> None:
    """After two crashes in a row, the others take what is left; a lost device does not eat the run."""
    blocks = [tuple(f"m::{block}{i}" for i in range(4)) for block in "abcd"]
    run = Run(["gpu 0", "gpu 1"], blocks)
    while broken := [worker for worker in run.able() if worker.lane == "gpu 0"]:
        run.step(broken[0], crashes=True)
    run_all(run, [])
    assert len(run.crashed) == 2
    assert {lane for _, lane in run.ran} == {"gpu 1"}
    assert len(run.ran) == 14


def test_where_no_worker_is_replaced_the_others_take_its_tests() -> None:
    """--max-worker-restart=0: the controller ends the others after a crash, so they are told all at once."""
    run = Run(["gpu 0", "gpu 1"], BLOCKS, is_replaced=False)
    run.step(run.workers[0], crashes=True)
    run_all(run, [])
    assert run.crashed == ["a::1"]
    assert sorted(test for test, _ in run.ran) == sorted(set(ALL) - {"a::1"})


def test_a_lane_prefers_the_module_whose_fixtures_are_up() -> None:
    """Servers and models of a module are not started anew for each of its blocks."""
    blocks = [("a::1", "a::2"), ("b::1", "b::2"), ("a::3",), ("b::3",)]
    run = Run(["gpu 0"], blocks)
    run_all(run, [])
    assert [test for test, _ in run.ran] == ["a::1", "a::2", "a::3", "b::1", "b::2", "b::3"]


def test_at_most_two_tests_are_told_at_a_time() -> None:
    """So that -x and Ctrl-C leave little to run."""
    run = Run(["gpu 0"], BLOCKS)
    assert run.workers[0].queue == ["a::1", "a::2"]


def test_a_worker_that_collected_other_tests_stops_the_run() -> None:
    """A test file that was changed while the run went on is named."""
    scheduling = BlockScheduling(BLOCKS, lane_of=lambda node: "gpu 0")
    worker = Worker("gpu 0", [])
    scheduling.add_node(worker)
    with pytest.raises(pytest.UsageError, match=r"gpu 0 did not collect a::1 \(7 missing\)"):
        scheduling.add_node_collection(worker, ["a::9"])
