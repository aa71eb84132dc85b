"""Agents over an arm, in virtual time: when they are due, what latency counts, and that none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agents.base import Phase, Script, Step
from harness.agents.load import AgentsRun, refused_bytes, run_agents
from harness.agents.saturation import Saturation, measure_saturation
from harness.clock import now_s, run_virtual
from harness.errors import BackendBroken, BackendTimeout, BudgetError, UsageError
from harness.hardware.budget import DeviceBudget


class Queue:
    """An arm that serves one step at a time, `step_s` each, and holds so many agents in a real budget."""

    name = "queue"

    def __init__(self, step_s: float = 1.0, num_slots: int = 100, dies_at_s: float | None = None) -> None:
        self.budget = DeviceBudget.create(num_slots)
        self.step_s = step_s
        self.dies_at_s = dies_at_s
        self.raises: Exception | None = None
        self.num_open = self.peak_open = 0
        self._turn = asyncio.Lock()

    async def open(self, max_tokens: int) -> Queued:
        return Queued(self)

    async def close(self) -> None:
        self.budget.remove()


class Queued:
    def __init__(self, arm: Queue) -> None:
        self._arm = arm
        self._allocation = arm.budget.allocate(1, owner="an agent")
        arm.num_open += 1
        arm.peak_open = max(arm.peak_open, arm.num_open)

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        arm, asked_s = self._arm, now_s()
        async with arm._turn:
            if arm.raises is not None:
                raise arm.raises
            if arm.dies_at_s is not None and now_s() >= arm.dies_at_s:
                raise BackendBroken("queue: the server ended with signal 9")
            await asyncio.sleep(arm.step_s)
        return Step(
            token_ids=tuple(new_ids[:1]) * max_new_tokens, asked_s=asked_s,
            first_token_s=now_s(), done_s=now_s(),
        )  # fmt: skip

    async def close(self) -> None:
        if self._allocation.num_bytes:
            self._allocation.release()
            self._arm.num_open -= 1


def script(sleep_s: float = 10.0) -> Script:
    return Script(prompt_ids=(1, 2), observation_ids=(3,), new_tokens=2, sleep_s=sleep_s)


def run(arm: Queue, due_s: Sequence[float], *, deadline_s: float = 1e4) -> AgentsRun:
    async def main() -> AgentsRun:
        scripts = [script()] * len(due_s)
        found = await run_agents(arm, scripts, due_s=due_s, deadline_s=deadline_s)
        assert arm.num_open == arm.budget.used_bytes == 0, "an agent was left open"
        return found

    try:
        return run_virtual(main())
    finally:
        arm.budget.remove()


def test_latency_counts_from_the_intended_start() -> None:
    """Two that are due at once: the second waits for the first, and that is in its latency."""
    found = run(Queue(step_s=1.0), [5.0, 5.0])
    reasons, reflects = found.of(Phase.REASON), found.of(Phase.REFLECT)
    assert [one.due_s - found.begin_s for one in reasons] == [5.0, 5.0]
    assert [one.ttft_s for one in reasons] == [1.0, 2.0]
    # Reflecting is due when the answer was there and the sleep over.
    assert [one.due_s - found.begin_s for one in reflects] == [16.0, 17.0]
    assert [one.total_s for one in reflects] == [1.0, 1.0]
    assert found.finished_agents == 2


def test_all_agents_are_resident_at_once() -> None:
    """Late arrivals hold their memory from the begin on."""
    arm = Queue()
    run(arm, [0.0, 100.0, 200.0])
    assert arm.peak_open == 3


def test_an_agent_without_room_is_a_finding_with_its_bytes() -> None:
    """The others run on; the allocator's numbers are told."""
    found = run(Queue(num_slots=3), [0.0] * 5)
    assert found.finished_agents == 3
    assert found.oom_at == 4
    assert [one.agent for one in found.refusals] == [3, 4]
    first = found.refusals[0]
    assert (first.phase, first.asked_bytes, first.free_bytes, first.capacity_bytes) == (None, 1, 0, 3)
    assert "an agent: 1 bytes asked" in first.cause
    assert found.failures == ()


def test_a_step_without_room_is_a_refusal_too() -> None:
    """It has the phase that it was refused in."""
    arm = Queue()
    arm.raises = BudgetError("an agent: 4 bytes asked, 1 of 3 are free")
    [refusal] = run(arm, [0.0]).refusals
    assert refusal.phase is Phase.REASON
    assert (refusal.asked_bytes, refusal.free_bytes, refusal.capacity_bytes) == (4, 1, 3)


def test_an_arm_that_dies_fails_its_agents_and_the_run_returns() -> None:
    """Each with the cause and the phase that it was at; what was done before stays."""
    found = run(Queue(dies_at_s=2.5), [0.0, 0.0, 20.0])
    assert len(found.steps) == 2
    assert {(one.agent, one.phase) for one in found.failures} == {
        (0, Phase.REFLECT), (1, Phase.REFLECT), (2, Phase.REASON)
    }  # fmt: skip
    assert all("signal 9" in one.cause for one in found.failures)


def test_an_arm_that_hangs_fails_at_the_deadline() -> None:
    """Also one that would never answer."""
    found = run(Queue(step_s=1e6), [0.0, 1.0], deadline_s=30.0)
    assert [one.cause for one in found.failures] == ["not done within 30 s"] * 2
    assert found.wall_s == pytest.approx(30.0)


def test_an_arm_that_does_not_open_fails_at_the_deadline() -> None:
    """Agents that were open by then take their steps."""

    class Slow(Queue):
        async def open(self, max_tokens: int) -> Queued:
            if self.num_open == 1:
                await asyncio.sleep(1e6)
            return await super().open(max_tokens)

    found = run(Slow(), [0.0] * 3, deadline_s=30.0)
    assert [one.agent for one in found.failures] == [1, 2]
    assert found.finished_agents == 1


def test_what_nobody_foresaw_is_a_failure_with_its_kind() -> None:
    """It is not lost."""
    arm = Queue()
    arm.raises = ZeroDivisionError("a bug")
    assert [one.cause for one in run(arm, [0.0]).failures] == ["ZeroDivisionError: a bug"]


def test_a_cancelled_run_leaves_nothing() -> None:
    """As Ctrl-C does: while agents are open, step, sleep, whatever they are at."""
    for after_s in (0.0, 0.5, 3.0, 12.5):
        arm = Queue()

        async def main(arm: Queue = arm, after_s: float = after_s) -> None:
            task = asyncio.ensure_future(
                run_agents(arm, [script()] * 3, due_s=[0.0, 1.0, 50.0], deadline_s=1e4)
            )
            await asyncio.sleep(after_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert arm.num_open == arm.budget.used_bytes == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_virtual(main())
        arm.budget.remove()


def test_arguments_that_make_no_sense_are_refused() -> None:
    """Before anything is opened."""
    for scripts, due_s, deadline_s in [([], [], 1.0), ([script()], [], 1.0), ([script()], [0.0], 0.0)]:
        with pytest.raises(UsageError, match="due time"):
            run_virtual(run_agents(Queue(), scripts, due_s=due_s, deadline_s=deadline_s))


@settings(max_examples=60, deadline=None)
@given(
    due_s=st.lists(st.floats(0, 30), min_size=1, max_size=8),
    num_slots=st.integers(1, 8),
    dies_at_s=st.one_of(st.none(), st.floats(0, 60)),
    deadline_s=st.floats(1, 80),
)
def test_no_agent_is_lost(
    due_s: list[float], num_slots: int, dies_at_s: float | None, deadline_s: float
) -> None:
    """Whatever happens, every agent has finished, was refused or has failed, and just one."""
    found = run(Queue(num_slots=num_slots, dies_at_s=dies_at_s), due_s, deadline_s=deadline_s)
    told = [one.agent for one in (*found.of(Phase.REFLECT), *found.refusals, *found.failures)]
    assert sorted(told) == list(range(len(due_s)))
    assert all(one.ttft_s > 0.999 for one in found.steps)


def test_refusals_are_read_wherever_they_come_from() -> None:
    """Of the budget itself, of a growth, through a server; of anybody else, None."""
    budget = DeviceBudget.create(10)
    with budget.allocate(7, owner="a 3 of 4") as held:
        with pytest.raises(BudgetError) as grown:
            held.resize(12)
        with pytest.raises(BudgetError) as asked:
            budget.allocate(5, owner="b")
    budget.remove()
    assert refused_bytes(str(grown.value)) == (12, 3, 10)
    assert refused_bytes(f"unix:/x: budget: {asked.value}") == (5, 3, 10)
    assert refused_bytes("too many sessions") == (None, None, None)


def test_saturation_is_what_an_arm_finishes_per_second() -> None:
    """One at a time, two steps of a second each, no sleep: half an agent per second."""
    arm = Queue(step_s=1.0)
    found = run_virtual(measure_saturation(arm, [script(1e5)] * 8, concurrency=4, deadline_s=100))
    assert found == Saturation(0.5, 8, 4, 16.0)
    assert arm.peak_open == 4
    assert arm.num_open == 0
    assert found.rate(0.5) == 0.25
    with pytest.raises(UsageError, match="below 1"):
        found.rate(1.0)


def test_saturation_that_cannot_be_measured_says_why() -> None:
    """Too little memory, too little time, an arm that dies, too few scripts; nothing is left open."""
    for arm, kind in [
        (Queue(num_slots=2), BudgetError),
        (Queue(dies_at_s=3.0), BackendBroken),
        (Queue(step_s=100.0), BackendTimeout),
    ]:
        with pytest.raises(kind):
            run_virtual(measure_saturation(arm, [script()] * 8, concurrency=4, deadline_s=50))
        assert arm.num_open == 0
    with pytest.raises(UsageError, match="4 users and 3 scripts"):
        run_virtual(measure_saturation(Queue(), [script()] * 3, concurrency=4, deadline_s=50))
