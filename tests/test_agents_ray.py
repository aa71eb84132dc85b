"""Agents by Ray actors and by Ray tasks: the work of the engine itself, memory that is refused, and faults.

One cluster and two actors serve all tests here, in their order: the last ones kill.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("ray")
pytest.importorskip("torch")

from tiny_llama import save_tiny_llama

from harness.agents.arms.keepalive import KeepAlive, KeepAliveAgent
from harness.agents.arms.serverless import Serverless
from harness.agents.arms.worker import Started
from harness.agents.base import Agent, Script, Step
from harness.agents.cluster import RayCluster
from harness.errors import BackendBroken, BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.hardware.processes import is_alive
from harness.sessions import core

T = TypeVar("T")

SCRIPT = Script(
    prompt_ids=tuple(range(2, 42)), observation_ids=(250, 251, 252, 7, 8), new_tokens=6, sleep_s=0.0
)

ROOM = 2000
"""Tokens that an agent may hold: enough for a step that lasts."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """What the engine gives in this process, and the bytes it takes."""
    budget = DeviceBudget.create(10**9)
    with core.Engine(core.load(str(checkpoint)).model, budget, max_session_tokens=ROOM) as engine:
        engine.open("a", ROOM)
        answers = []
        for ids in (SCRIPT.prompt_ids, SCRIPT.observation_ids):
            engine.submit(core.Turn("a", ids, SCRIPT.new_tokens))
            events = []
            while not engine.is_idle:
                events += engine.step()
            answers.append(tuple(event.token_id for event in events))
        used = budget.used_bytes
    budget.remove()
    return answers[0], answers[1], used


@pytest.fixture(scope="module")
def loop() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with RayCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def budget(expected: tuple[Any, ...]) -> Iterator[DeviceBudget]:
    """Two agents fit, and half of a third."""
    budget = DeviceBudget.create(expected[2] * 5 // 2)
    yield budget
    budget.remove()


@pytest.fixture(scope="module")
def arm(cluster: RayCluster, budget: DeviceBudget, checkpoint: Path) -> KeepAlive:
    return KeepAlive(cluster, budget, model=str(checkpoint), timeout_s=100)


@pytest.fixture(scope="module")
def agents(arm: KeepAlive, loop: Any) -> Iterator[Sequence[KeepAliveAgent]]:
    async def both() -> Sequence[KeepAliveAgent]:
        return await asyncio.gather(arm.open(ROOM), arm.open(ROOM))

    yield loop(both())
    loop(arm.close())


async def play(agent: Agent) -> tuple[Step, Step]:
    reason = await agent.step(SCRIPT.prompt_ids, SCRIPT.new_tokens)
    return reason, await agent.step(SCRIPT.observation_ids, SCRIPT.new_tokens)


def test_an_actor_gives_the_engines_tokens_and_keeps_its_history(
    agents: Sequence[KeepAliveAgent], expected: tuple[Any, ...], loop: Any
) -> None:
    """The second step computes what is new and the last token before it, in the same process."""
    reason, reflect = loop(play(agents[0]))
    assert (reason.token_ids, reflect.token_ids) == expected[:2]
    assert (reason.reused_tokens, reason.prefilled_tokens) == (0, 40)
    assert (reflect.reused_tokens, reflect.prefilled_tokens) == (40 + 6 - 1, 5 + 1)
    assert reason.pid == reflect.pid == agents[0].started.process.pid != os.getpid()
    assert agents[0].started.process != agents[1].started.process


def test_tokens_of_an_actor_come_one_by_one(agents: Sequence[KeepAliveAgent], loop: Any) -> None:
    """Each has its time, within those of its step, and the parts of the first do not exceed it."""
    with pytest.raises(UsageError, match="token id 300 is not in 0 to 299"):
        loop(agents[1].step([300], 3))
    step = loop(agents[1].step(SCRIPT.prompt_ids, SCRIPT.new_tokens))
    assert len(set(step.token_s)) == SCRIPT.new_tokens
    assert sorted(step.token_s) == list(step.token_s)
    assert step.asked_s < step.first_token_s == step.token_s[0] < step.done_s == step.token_s[-1]
    assert step.queue_s + step.prefill_s <= step.ttft_s
    assert step.prefill_s <= step.compute_s <= step.total_s


def test_an_agent_that_does_not_fit_is_refused_by_the_allocator(
    arm: KeepAlive,
    agents: Sequence[KeepAliveAgent],
    budget: DeviceBudget,
    expected: tuple[Any, ...],
    loop: Any,
) -> None:
    """It says what was asked, what is free and who holds the rest; the others keep what they have."""
    used = budget.used_bytes
    assert used == 2 * expected[2]
    free, capacity = budget.capacity_bytes - used, budget.capacity_bytes
    with pytest.raises(BudgetError, match=rf"{expected[2]} bytes asked, {free} of {capacity} are free"):
        loop(arm.open(ROOM))
    assert budget.used_bytes == used
    assert {holder.pid for holder in budget.holders()} == {agent.started.process.pid for agent in agents}


def test_a_killed_actor_is_named_and_the_others_go_on(
    agents: Sequence[KeepAliveAgent], budget: DeviceBudget, expected: tuple[Any, ...], loop: Any
) -> None:
    """In the middle of a step: it fails with its cause, and its bytes come back."""
    doomed, other = agents
    pid = doomed.started.process.pid

    async def kill_one() -> None:
        step = asyncio.create_task(doomed.step([5], ROOM // 2))
        await asyncio.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BackendBroken, match=rf"agent 1 \(pid {pid}\): its process is gone"):
            await step
        with pytest.raises(BackendBroken, match="a step of it broke off; open another"):
            await doomed.step([5], 5)
        await doomed.close()

    loop(kill_one())
    assert {holder.pid for holder in budget.holders()} == {other.started.process.pid}
    assert loop(other.step(SCRIPT.observation_ids, SCRIPT.new_tokens)).reused_tokens == 45


def test_a_task_waits_for_room_and_gives_the_engines_tokens(
    cluster: RayCluster, budget: DeviceBudget, checkpoint: Path, expected: tuple[Any, ...], loop: Any
) -> None:
    """In a process that is new, and gone after; the parts of its time stand apart."""
    arm = Serverless(cluster, budget, model=str(checkpoint), wait_s=100)
    used, refusals = budget.used_bytes, budget.num_refusals
    others = budget.allocate(budget.free_bytes, owner="others")

    async def free_when_refused() -> tuple[Step, Started]:
        agent = await arm.open(ROOM)
        step = asyncio.create_task(agent.step(SCRIPT.prompt_ids, SCRIPT.new_tokens))
        while budget.num_refusals == refusals and not step.done():
            await asyncio.sleep(0.05)
        others.release()
        return await step, agent.started[0]

    step, started = loop(free_when_refused())
    loop(arm.close())
    assert step.token_ids == expected[0]
    assert (step.reused_tokens, step.prefilled_tokens) == (0, 40)
    assert started.is_new
    assert not is_alive(started.process)
    assert step.import_s > started.import_s > 0 < step.load_s
    assert step.queue_s > started.wait_s > 0
    assert step.queue_s + step.import_s + step.load_s + step.prefill_s <= step.ttft_s
    assert budget.used_bytes == used
