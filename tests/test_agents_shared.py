"""Agents on a real session server: what is reused, what is refused, and how a server's end is told."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

pytest.importorskip("msgspec")

from harness.agents.arms.shared import Shared
from harness.agents.arms.shared_recompute import SharedRecompute
from harness.agents.base import Agent, Phase, Script, Step
from harness.agents.load import AgentsRun, run_agents
from harness.errors import BackendBroken, BudgetError, LaunchError
from harness.hardware.budget import DeviceBudget
from harness.sessions.counting import continuation

TOKEN_BYTES = 64
"""Of the counting engine, which is quick to start and knows its own next token."""
T = TypeVar("T")
PROMPT, OBSERVATION, NEW_TOKENS = tuple(range(40)), (7, 8, 9), 5
SCRIPT = Script(prompt_ids=PROMPT, observation_ids=OBSERVATION, new_tokens=NEW_TOKENS, sleep_s=0.05)


async def with_arm(kind: type[Shared], num_bytes: int, use: Callable[[Shared], Awaitable[T]]) -> T:
    """Use an arm over a counting server, and see that nothing is left."""
    budget = DeviceBudget.create(num_bytes)
    arm = await kind.start(budget, model="counting", timeout_s=30)
    pid = arm.server.pid
    try:
        return await use(arm)
    finally:
        await arm.close()
        await arm.close()
        assert arm.server.exit_status is not None
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.killpg(pid, 0)
        assert budget.used_bytes == 0
        budget.remove()


async def both_steps(agent: Agent) -> tuple[Step, Step]:
    reason = await agent.step(PROMPT, NEW_TOKENS)
    reflect = await agent.step(OBSERVATION, NEW_TOKENS)
    await agent.close()
    await agent.close()
    return reason, reflect


def expected() -> tuple[list[int], list[int]]:
    """What the counting engine says to the prompt, and to all of it with the observation."""
    first = continuation(list(PROMPT), NEW_TOKENS)
    return first, continuation([*PROMPT, *first, *OBSERVATION], NEW_TOKENS)


@pytest.mark.parametrize("kind", [Shared, SharedRecompute])
def test_an_agent_reuses_its_history_or_computes_it_again(kind: type[Shared]) -> None:
    """As the server counts; with the same tokens in both arms, the observation appended."""

    async def use(arm: Shared) -> tuple[Step, Step]:
        steps = await both_steps(await arm.open(SCRIPT.max_tokens))
        assert {one.pid for one in steps} == {arm.server.pid}
        lines = [line for line in arm.server.log.splitlines() if re.search(", reusing [1-9]", line)]
        if kind is Shared:
            [line] = lines
            assert f"{NEW_TOKENS} tokens, reusing 44, computing 4 before the first" in line
        else:
            assert lines == []
        return steps

    reason, reflect = asyncio.run(with_arm(kind, 10**6, use))
    assert (list(reason.token_ids), list(reflect.token_ids)) == expected()
    assert (reason.reused_tokens, reason.prefilled_tokens) == (0, 40)
    # The last token of an answer is computed with what follows it.
    counts = (44, 4) if kind is Shared else (0, 48)
    assert (reflect.reused_tokens, reflect.prefilled_tokens) == counts
    for step in (reason, reflect):
        assert step.asked_s < step.first_token_s <= step.done_s
        assert len(step.token_s) == NEW_TOKENS
        assert step.queue_s is not None
        assert step.prefill_s is not None
        assert step.compute_s is not None
        assert 0 <= step.prefill_s <= step.compute_s
        assert step.queue_s + step.prefill_s <= step.ttft_s + 1e-3


def test_a_slab_without_room_is_refused_with_its_bytes() -> None:
    """All residents count; the agents that fit take their steps."""
    slab_bytes = SCRIPT.max_tokens * TOKEN_BYTES

    async def use(arm: Shared) -> AgentsRun:
        return await run_agents(arm, [SCRIPT] * 5, due_s=[0.0] * 5, deadline_s=30)

    found = asyncio.run(with_arm(Shared, 3 * slab_bytes + 10, use))
    assert (found.finished_agents, found.oom_at) == (3, 4)
    assert found.failures == ()
    first = found.refusals[0]
    assert (first.asked_bytes, first.free_bytes) == (slab_bytes, 10)
    assert first.capacity_bytes == 3 * slab_bytes + 10


def test_recomputing_agents_wait_for_memory_and_hold_none() -> None:
    """In the room of one session, five take their steps; one that alone does not fit is refused."""

    async def use(arm: Shared) -> AgentsRun:
        found = await run_agents(arm, [SCRIPT] * 5, due_s=[0.0] * 5, deadline_s=30)
        large = await arm.open(10**4)
        with pytest.raises(BudgetError):
            await large.step([1] * 200, 5)
        assert [list(one.token_ids) for one in await both_steps(await arm.open(60))] == list(expected())
        return found

    found = asyncio.run(with_arm(SharedRecompute, SCRIPT.max_tokens * TOKEN_BYTES, use))
    assert found.finished_agents == 5
    assert {one.step.reused_tokens for one in found.steps} == {0}


@pytest.mark.parametrize("kind", [Shared, SharedRecompute])
def test_a_killed_server_fails_its_agents_with_how_it_ended(kind: type[Shared]) -> None:
    """In the middle of their lives; the run returns, and later steps say the same."""
    # The second reflects after the kill.
    scripts = [SCRIPT, Script(prompt_ids=PROMPT, observation_ids=(1,), new_tokens=5, sleep_s=1.5)]

    async def use(arm: Shared) -> AgentsRun:
        assert arm.server.pid is not None
        asyncio.get_running_loop().call_later(1.0, os.kill, arm.server.pid, signal.SIGKILL)
        return await run_agents(arm, scripts, due_s=[0.0, 0.0], deadline_s=30)

    found = asyncio.run(with_arm(kind, 10**6, use))
    assert found.finished_agents == 1
    [failure] = found.failures
    assert (failure.agent, failure.phase) == (1, Phase.REFLECT)
    assert "ended with signal 9" in failure.cause


def test_a_cancelled_step_leaves_no_session() -> None:
    """Nor does an agent that is closed step again."""

    async def use(arm: Shared) -> None:
        for kind_of_open in (arm.open, SharedRecompute(arm.server).open):
            agent = await kind_of_open(4000)
            task = asyncio.ensure_future(agent.step(PROMPT, 3900))
            await asyncio.sleep(0.004)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await agent.close()
            with pytest.raises(BackendBroken, match="closed"):
                await agent.step([1], 1)
        for _ in range(100):
            stats = await arm.stats()
            if not stats["server_turns_running"] and not stats["server_sessions"]:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(stats)

    asyncio.run(with_arm(Shared, 10**6, use))


def test_a_cancelled_opening_leaves_no_session() -> None:
    """Wherever on its way: the server may have opened it by then."""

    async def use(arm: Shared) -> None:
        other = SharedRecompute(arm.server)
        await (await arm.open(10)).close()
        agent = await other.open(100)
        await agent.step([1], 1)
        for num_turns in range(12):
            for work in (arm.session(100), other.hold(100)):
                task = asyncio.ensure_future(work)
                for _ in range(num_turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait((task,))
                if not task.cancelled():
                    await task.result().close()
        assert (await arm.stats())["server_sessions"] == 0
        await other.close()

    asyncio.run(with_arm(Shared, 10**6, use))


def test_more_agents_than_one_connection_may_have() -> None:
    """They are spread over several."""

    async def use(arm: Shared) -> None:
        agents = [await arm.open(10) for _ in range(260)]
        steps = [await agent.step([number], 2) for number, agent in enumerate(agents[::50])]
        assert [list(one.token_ids) for one in steps] == [continuation([n], 2) for n in range(len(steps))]

    asyncio.run(with_arm(Shared, 10**6, use))


def test_a_server_that_does_not_start_says_why() -> None:
    """With the last words of its log."""
    budget = DeviceBudget.create(1000)
    with pytest.raises(LaunchError, match=r"error: .*no-such-model"):
        asyncio.run(Shared.start(budget, model="no-such-model"))
    assert budget.used_bytes == 0
    budget.remove()


DRIVER = """
import asyncio, signal, sys
from harness.agents.arms.shared import Shared
from harness.agents.base import Script
from harness.agents.load import run_agents
from harness.hardware.budget import DeviceBudget

async def main():
    budget = DeviceBudget.create(10**6)
    arm = await Shared.start(budget, model="counting")
    try:
        print(arm.server.pid, arm.server.address.path, budget.path, flush=True)
        script = Script(prompt_ids=(1, 2), observation_ids=(3,), new_tokens=2, sleep_s=60.0)
        await run_agents(arm, [script] * 3, due_s=[0.0] * 3, deadline_s=100)
    finally:
        await arm.close()
        budget.remove()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
asyncio.run(main())
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_in_the_middle_leaves_nothing(sign: signal.Signals) -> None:
    """Killed, or by Ctrl-C: neither the server nor its socket; the next budget removes the ledger."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        assert driver.stdout is not None
        server, socket, ledger = driver.stdout.readline().split()
        time.sleep(0.3)
        driver.send_signal(sign)
        assert driver.wait(20) != 0
    ends_s = time.monotonic() + 10
    while time.monotonic() < ends_s and (Path(f"/proc/{server}").exists() or Path(socket).exists()):
        time.sleep(0.05)
    assert not Path(f"/proc/{server}").exists()
    assert not Path(socket).exists()
    DeviceBudget.create(1).remove()
    assert not Path(ledger).exists()


@pytest.mark.nightly
@pytest.mark.parametrize("policy", ["drop", "offload", "least-waste", "ttl:0.2"])
def test_agents_beyond_memory_say_the_same_under_every_policy(policy: str) -> None:
    """Eight of the default model in the room of three, against the room of eight."""
    draw = random.Random(6)
    scripts = [
        Script(
            prompt_ids=tuple(draw.randrange(8192) for _ in range(60)), observation_ids=(1, 2, 3),
            new_tokens=4, sleep_s=0.1,
        )
        for _ in range(8)
    ]  # fmt: skip
    slab_bytes = scripts[0].max_tokens * 32768
    found = {}
    for name, num in (("keep", 8), (policy, 3)):
        budget = DeviceBudget.create(135_000_000 + num * slab_bytes)

        async def use(name: str = name, budget: DeviceBudget = budget) -> AgentsRun:
            arm = await Shared.start(budget, policy=name)
            try:
                return await run_agents(arm, scripts, due_s=[0.0] * 8, deadline_s=120)
            finally:
                await arm.close()

        run = asyncio.run(use())
        assert run.finished_agents == 8, (run.failures, run.refusals)
        found[name] = [(one.agent, one.phase, one.step.token_ids) for one in run.steps]
        budget.remove()
    assert found["keep"] == found[policy]
