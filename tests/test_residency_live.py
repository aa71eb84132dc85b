"""The live arena: whoever waited for a chunk computes on the blob's own bytes, whenever copies land."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ArenaError, UsageError
from harness.residency import policies as p
from harness.residency.arms import ARMS, Setting, arm
from harness.residency.catalogue import SimModel
from harness.residency.device.cpu import CpuLane
from harness.residency.layout import ModelLayout
from harness.residency.live import LiveArena, Pass
from harness.residency.policies import Policy
from harness.residency.simulator import Link, Simulator
from harness.residency.traces import Request
from tests.arena_lanes import SteppedLanding, SteppedLane, blobs_of, holds
from tests.residency_cases import POLICIES, UNIT, Make, cases, layout, layouts_of

Case = tuple[dict[str, ModelLayout], int, list[str]]

every_policy = pytest.mark.parametrize("make", POLICIES.values(), ids=POLICIES)


class Driver:
    """Serves requests on a stepped lane and checks every chunk that is computed on.

    Copies begin, land and fail when `random` says; on a lane with marks, computing is checked only when the
    device comes to it.
    """

    def __init__(
        self, policy: Policy, random: Random, *, has_marks: bool = False, fails: bool = False
    ) -> None:
        self.lane = SteppedLane(policy.arena.capacity_bytes, has_marks=has_marks)
        self.blobs = blobs_of(policy.arena.layouts)
        self.arena = LiveArena(policy, self.lane, self.blobs)
        self.random = random
        self.fails = fails
        self.computing: deque[tuple[Pass, int, list[SteppedLanding]]] = deque()

    def serve(self, model: str, *, guess: str | None = None, passes: int = 1, stops: bool = False) -> bool:
        """Serve one request; return whether it came to its end."""
        running = self.arena.begin(model, upcoming=guess)
        self.check_map()
        try:
            for number in range(passes):
                if number:
                    running.again()
                if guess is not None and self.random.random() < 0.7:
                    self.arena.look_ahead(guess)
                    self.check_map()
                for chunk in range(len(running.places)):
                    self.step()
                    if stops and self.random.random() < 0.2:
                        running.end()
                        return False
                    running.wait(chunk)
                    self.step(computing=True)
                    self.compute(running, chunk)
        except ArenaError:
            with pytest.raises(UsageError, match="its pass has ended"):
                running.wait(0)
            assert not self.arena.policy.arena.resident_bytes(model)
            return False
        finally:
            self.check_map()
            running.end()
        return True

    def compute(self, running: Pass, chunk: int) -> None:
        """Compute on a chunk, now or when the device comes to it."""
        if not self.lane.has_marks:
            assert holds(self.lane.arena, self.blobs[running.model], running, chunk)
            running.done(chunk)
            return
        running.done(chunk)
        self.computing.append((running, chunk, self.lane.waited))
        self.lane.waited = []

    def step(self, *, computing: bool = False) -> None:
        """Let the lane, and the device, go on for a while."""
        for _ in range(self.random.choice([0, 0, 1, 2, 7])):
            if self.fails and self.random.random() < 0.05:
                self.lane.fail_next = True
            if self.random.random() < 0.5 or not self.device():
                self.lane.step()

    def device(self) -> bool:
        """Compute on what is next on the device: its bytes have come, and no others over them."""
        if not self.computing or any(landing.landed is None for landing in self.computing[0][2]):
            return False
        running, chunk, _ = self.computing.popleft()
        assert holds(self.lane.arena, self.blobs[running.model], running, chunk)
        self.lane.computed += 1
        return True

    def check_map(self) -> None:
        """No two live chunks overlap, and none lies beyond the arena."""
        arena, at = self.arena.policy.arena, 0
        for placed in arena.live:
            assert at <= placed.start < placed.end <= arena.capacity_bytes
            at = placed.end
        assert sum(placed.num_bytes for placed in arena.live) <= self.arena.policy.capacity_bytes

    def finish(self) -> None:
        """Everything on the map is there at last, and the blobs are as they were."""
        for model in self.blobs:
            if model in self.arena.policy.arena.models and not isinstance(self.arena.policy, p.Belady):
                self.fails, self.lane.fail_next = False, False
                assert self.serve(model)
        while self.computing:
            assert self.lane.step() or self.device(), "deadlock"
        for blob in self.blobs.values():
            blob.verify()


@every_policy
@given(case=cases(), random=st.randoms(use_true_random=False), fails=st.booleans(), stops=st.booleans())
@settings(max_examples=12, deadline=None)
def test_whatever_lands_when_a_request_computes_on_its_own_bytes(
    make: Make, case: Case, random: Random, fails: bool, stops: bool
) -> None:
    """Right and wrong guesses, copies that fail, requests that break off: waited for means there."""
    layouts, capacity_bytes, models = case
    driver = Driver(make(layouts, capacity_bytes, models), random, fails=fails)
    for model in models:
        guess = random.choice([None, *sorted(layouts)])
        driver.serve(model, guess=guess, passes=random.choice([1, 2]), stops=stops)
    driver.finish()


@pytest.mark.parametrize("name", ["home-slot", "chunk-slots", "chunk-lru", "fifo-ring-copy-out", "lru"])
@given(case=cases(), random=st.randoms(use_true_random=False), stops=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_copy_waits_for_what_the_device_still_computes_on(
    name: str, case: Case, random: Random, stops: bool
) -> None:
    """Where computing goes on behind the caller's back, no copy comes over a chunk before its last use."""
    layouts, capacity_bytes, models = case
    driver = Driver(POLICIES[name](layouts, capacity_bytes, models), random, has_marks=True)
    for model in models:
        driver.serve(
            model, guess=random.choice([None, *sorted(layouts)]), passes=random.choice([1, 2]), stops=stops
        )
    driver.finish()


@given(
    units=st.lists(st.integers(1, 4), min_size=4, max_size=9),
    other=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    spare=st.integers(0, 6),
    models=st.lists(st.sampled_from(["m0", "m1"]), min_size=1, max_size=8),
    random=st.randoms(use_true_random=False),
    has_marks=st.booleans(),
    stops=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_a_model_larger_than_the_arena_streams_through_it_in_every_pass(
    units: list[int],
    other: list[int],
    spare: int,
    models: list[str],
    random: Random,
    has_marks: bool,
    stops: bool,
) -> None:
    """Each of its chunks is there when it is computed on, however often; others keep serving."""
    layouts = layouts_of(units, other)
    capacity_bytes = max(3 * max(*units, *other), sum(other)) * UNIT + spare * UNIT
    driver = Driver(p.HomeSlot(layouts, capacity_bytes), random, has_marks=has_marks)
    for model in models:
        guess = random.choice([None, "m0", "m1"])
        driver.serve(model, guess=guess, passes=random.choice([1, 2, 3]), stops=stops)
    driver.finish()


def test_a_guess_that_is_called_off_gives_back_what_its_copy_waited_for() -> None:
    """The copy that comes in its place waits for the same computing, which still goes on."""
    layouts = layouts_of([2], [2], [2])
    lane = SteppedLane(4 * UNIT, has_marks=True)
    arena = LiveArena(p.ChunkLFU(layouts, 4 * UNIT), lane, blobs_of(layouts))
    for model in ("m0", "m1"):
        running = arena.begin(model)
        running.wait(0)
        running.done(0)
        running.end()
    arena.look_ahead("m2")
    assert [one.after for one in lane.queue if one.model == "m2"] == [[1]]
    arena.begin("m2")
    assert [one.after for one in lane.queue if one.model == "m2"] == [[1]]


def test_what_is_written_back_is_what_goes() -> None:
    """Neighbours as one copy, before the first copy in; the arena's bytes are as they were."""
    layouts = layouts_of([1, 2], [2, 1], [3])
    lane = SteppedLane(6 * UNIT)
    arena = LiveArena(p.FifoRingCopyOut(layouts, 6 * UNIT), lane, blobs_of(layouts))
    for model in ("m0", "m1"):
        arena.begin(model).wait(1)
    running = arena.begin("m2")
    assert [(one.model, one.num_bytes) for one in lane.queue] == [("out", 3 * UNIT), ("m2", 3 * UNIT)]
    running.wait(0)
    assert running.end().bytes_out == lane.out_bytes == 3 * UNIT


def break_off(seed: int) -> None:
    """Stream two models on a device that lags, some requests breaking off."""
    random = Random(seed)
    units = [random.randint(1, 4) for _ in range(random.randint(4, 9))]
    other = [random.randint(1, 4) for _ in range(random.randint(1, 4))]
    layouts = layouts_of(units, other)
    capacity_bytes = (max(3 * max(*units, *other), sum(other)) + random.randint(0, 6)) * UNIT
    driver = Driver(p.HomeSlot(layouts, capacity_bytes), random, has_marks=True)
    for _ in range(random.randint(1, 8)):
        guess = random.choice([None, "m0", "m1"])
        passes, stops = random.choice([1, 2, 3]), random.random() < 0.5
        driver.serve(random.choice(["m0", "m1"]), guess=guess, passes=passes, stops=stops)
    driver.finish()


@pytest.mark.parametrize("seeds", [range(300), range(1400, 1450)], ids=str)
def test_a_request_that_breaks_off_takes_no_wait_away_from_those_behind_it(seeds: range) -> None:
    """Its copies that wait for the device keep their turn: what was asked for later relies on it."""
    for seed in seeds:
        break_off(seed)


@pytest.mark.nightly
def test_requests_that_break_off_take_no_wait_away_for_many_seeds() -> None:
    """The same, longer."""
    for seed in range(10_000):
        break_off(seed)


def test_a_streamed_model_copies_its_window_anew_in_every_pass() -> None:
    """What stays is copied once; bytes say so, and so does what waiting for them cost later."""
    layouts = layouts_of([1] * 8)
    driver = Driver(p.HomeSlot(layouts, 5 * UNIT), Random(0))
    home = driver.arena.policy.homes["m0"].num_fixed  # type: ignore[attr-defined]
    running = driver.arena.begin("m0")
    for number in range(3):
        if number:
            running.again()
        for chunk in range(8):
            running.wait(chunk)
            driver.compute(running, chunk)
    stats = running.end()
    assert not stats.is_hit
    assert stats.bytes_in == (8 + 2 * (8 - home)) * UNIT
    assert driver.lane.moved_bytes == stats.bytes_in


def test_a_streamed_chunk_that_is_asked_for_too_early_is_an_error_and_no_hang() -> None:
    """It comes only when another one was computed, which who waits has left out."""
    arena = LiveArena(
        p.HomeSlot(layouts_of([1] * 8), 4 * UNIT), SteppedLane(4 * UNIT), blobs_of(layouts_of([1] * 8))
    )
    running = arena.begin("m0")
    with pytest.raises(UsageError, match=r"m0: chunk 7 comes only after chunk \d"):
        running.wait(7)
    with pytest.raises(UsageError, match="compute the whole pass first"):
        running.again()


# The simulator and the arena agree.


def both(name: str, seed: int, capacity_share: float) -> None:
    """Serve a trace on the real lane and in the simulator; hits and bytes are the same."""
    rng = Random(seed)
    units = {"a": 12, "b": 13, "c": 5}
    layouts = {m: layout(m, *[rng.randint(1, 2 * count) for _ in range(12)]) for m, count in units.items()}
    total = sum(one.num_bytes for one in layouts.values())
    trace = rng.choices(list(layouts), [0.4, 0.4, 0.2], k=25)
    capacity_bytes = max(int(total * capacity_share), max(one.num_bytes for one in layouts.values()))
    setting = Setting(
        layouts=layouts,
        capacity_bytes=capacity_bytes,
        popularity={"a": 0.4, "b": 0.4, "c": 0.2},
        future=trace,
    )
    one = arm(name)
    sim = {m: SimModel(layout=x, prefill_s=1.0, token_s=1.0) for m, x in layouts.items()}
    served = Simulator(sim, Link(bytes_per_s=1e15)).run(
        one.make(setting),
        [Request(0.0, m, 1, 1) for m in trace],
        streaming=one.streaming,
        lookahead=one.lookahead,
    )
    policy, blobs = one.make(setting), blobs_of(layouts)
    lane = CpuLane(policy.arena.capacity_bytes)
    arena = LiveArena(policy, lane, blobs, streaming=one.streaming)
    try:
        for i, (model, simulated) in enumerate(zip(trace, served, strict=True)):
            following = trace[i + 1] if one.lookahead and i + 1 < len(trace) else None
            running = arena.begin(model, upcoming=following)
            if following is not None:
                arena.look_ahead(following)
            for chunk in range(layouts[model].num_chunks):
                running.wait(chunk)
                assert holds(lane.arena, blobs[model], running, chunk)
                running.done(chunk)
            arena.drain()  # the simulated link is as good as infinitely fast
            stats = running.end()
            found = (stats.is_hit, stats.bytes_in, stats.ahead_bytes, stats.bytes_out)
            assert found == (
                simulated.is_hit, simulated.bytes_in, simulated.ahead_bytes, simulated.bytes_out,
            )  # fmt: skip
            assert (stats.evicted_bytes, stats.needed_bytes) == (
                simulated.evicted_bytes, simulated.needed_bytes,
            )  # fmt: skip
            assert (stats.copied_s is None) == (stats.bytes_in == 0)
            assert (stats.ahead_s is None) == (stats.ahead_bytes == 0)
    finally:
        arena.close()
    for blob in blobs.values():
        blob.verify()


@pytest.mark.parametrize("name", ARMS)
def test_hits_and_bytes_are_those_of_the_simulator(name: str) -> None:
    """The same policy objects in both, so every request of every arm agrees, evictions included."""
    both(name, 7, 0.8)


@pytest.mark.nightly
@pytest.mark.parametrize("capacity_share", [0.4, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ARMS)
def test_hits_and_bytes_are_those_of_the_simulator_for_many_traces(
    name: str, seed: int, capacity_share: float
) -> None:
    """More sizes, more seeds."""
    both(name, seed, capacity_share)
