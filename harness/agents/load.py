"""N agents over an arm: each arrives when it is due, reasons, acts by sleeping, and reflects.

Latency counts from the intended start. REASON's is the agent's due time; REFLECT's is when the answer before
it was whole and the sleep over. So what an arm keeps an agent waiting for is in its latency, whoever waits.

All agents are opened before the first reasons and closed after the last has reflected: what they hold is
held at once, and the number that fits is a number of residents. An agent that the device has no room for is
*refused*: a finding, with the bytes, and no failure. Whatever else goes wrong is a failure of one agent, with
its cause. Nothing is dropped: finished, refused and failed agents together are all agents.

On a `VirtualTimeLoop` the same program runs in virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.agents.base import Agent, Arm, Phase, Script, Step
from harness.clock import now_s
from harness.errors import BudgetError, HarnessError, UsageError

__all__ = ["AgentsRun", "Failure", "Refusal", "StepRun", "refused_bytes", "run_agents"]

_CLOSE_S = 10.0
"""That an arm may take to give an agent up."""
_ASKED = re.compile(r"(?:growth from \d+ to )?(\d+) bytes asked, (-?\d+) of (\d+) are free")
"""How the budget refuses; see `harness.hardware.allocation.refusal`."""


class StepRun(NamedTuple):
    """One step of one agent, from when it was due."""

    agent: int
    phase: Phase
    due_s: float
    """The intended start, on the clock of the step's times."""
    step: Step

    @property
    def ttft_s(self) -> float:
        """From the intended start to the first token."""
        return self.step.first_token_s - self.due_s

    @property
    def total_s(self) -> float:
        """From the intended start to the last token."""
        return self.step.done_s - self.due_s


class Refusal(NamedTuple):
    """An agent that the device had no room for: out of memory."""

    agent: int
    phase: Phase | None
    """None when it was opened."""
    at_s: float
    """Since the run's begin, which opening comes before."""
    cause: str
    asked_bytes: int | None
    free_bytes: int | None
    capacity_bytes: int | None
    """As the allocator says; None where it does not."""


class Failure(NamedTuple):
    """An agent that did not come to its end, and why."""

    agent: int
    phase: Phase | None
    at_s: float
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsRun:
    """What became of every agent."""

    arm: str
    num_agents: int
    begin_s: float
    """When the first could be due, on `now_s`'s clock; all were open then."""
    done_s: float
    steps: tuple[StepRun, ...]
    """In order of agents, reason before reflect; those of failed agents too, as far as they came."""
    refusals: tuple[Refusal, ...] = ()
    failures: tuple[Failure, ...] = ()
    _by_phase: dict[Phase, tuple[StepRun, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_phase = {phase: tuple(one for one in self.steps if one.phase is phase) for phase in Phase}
        object.__setattr__(self, "_by_phase", by_phase)

    @property
    def finished_agents(self) -> int:
        """Agents that took both steps."""
        return len(self.of(Phase.REFLECT))

    @property
    def oom_at(self) -> int | None:
        """The number of agents at which memory ran out: one more than were there before the first refusal."""
        return min((one.agent + 1 for one in self.refusals), default=None)

    @property
    def wall_s(self) -> float:
        """From the begin to the end of the last agent."""
        return self.done_s - self.begin_s

    def of(self, phase: Phase) -> tuple[StepRun, ...]:
        """All steps of a phase."""
        return self._by_phase[phase]


async def run_agents(
    arm: Arm,
    scripts: Sequence[Script],
    *,
    due_s: Sequence[float],
    deadline_s: float,
) -> AgentsRun:
    """Run an agent per script.

    Arguments: `due_s`, when each arrives, in seconds from the begin; `deadline_s`, from the begin: who has
    not finished then has failed.

    Returns when every agent has finished, was refused or has failed, an arm that dies included. When it is
    cancelled, agents are closed first.

    Raises
    ------
    UsageError: no agents, or other numbers of scripts and due times.
    """
    if not scripts or len(scripts) != len(due_s) or not deadline_s > 0:
        raise UsageError(
            f"{len(scripts)} scripts, {len(due_s)} due times, deadline_s {deadline_s:g}: give a due time "
            "for each script, at least one of them, and a positive deadline"
        )
    return await _Run(arm, scripts, due_s, deadline_s).run()


def refused_bytes(cause: str) -> tuple[int | None, int | None, int | None]:
    """Bytes asked, free and in all, of a budget's refusal, wherever it comes from; None without them."""
    found = _ASKED.search(cause)
    if found is None:
        return None, None, None
    asked, free, capacity = map(int, found.groups())
    return asked, free, capacity


class _Run:
    """One run under way."""

    def __init__(
        self, arm: Arm, scripts: Sequence[Script], due_s: Sequence[float], deadline_s: float
    ) -> None:
        self._arm = arm
        self._scripts = scripts
        self._due_s = due_s
        self._deadline_s = deadline_s
        self._begin_s = now_s()
        self._agents: dict[int, Agent] = {}
        self._steps: list[StepRun] = []
        self._refusals: list[Refusal] = []
        self._failures: list[Failure] = []
        self._phases: dict[int, Phase] = {}
        """What each agent is at."""

    async def run(self) -> AgentsRun:
        """All of it."""
        try:
            await self._within_deadline(self._open_all())
            self._begin_s = now_s()
            await self._serve()
            done_s = now_s()
        finally:
            await self._close_all()
        return self._found(done_s)

    async def _within_deadline(self, opening: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._deadline_s) as limit:
                await opening
        except TimeoutError:
            if not limit.expired():
                raise
            for number in set(range(len(self._scripts))) - set(self._agents):
                if number not in self._ended():
                    self._fail(number, f"not open within {self._deadline_s:g} s")

    async def _open_all(self) -> None:
        # One after the other: who is refused is then the last, and the number before it what fits.
        for number in range(len(self._scripts)):
            await self._noting(number, self._open(number))

    async def _serve(self) -> None:
        """Run the agents that are open, until they have ended, or the deadline."""
        tasks = {asyncio.create_task(self._noting(one, self._live(one))): one for one in self._agents}
        left: set[asyncio.Task[None]] = set()
        try:
            if tasks:
                _, left = await asyncio.wait(tasks, timeout=self._begin_s + self._deadline_s - now_s())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in left:
            self._fail(tasks[task], f"not done within {self._deadline_s:g} s")

    async def _noting(self, number: int, work: Coroutine[Any, Any, object]) -> None:
        """Await an agent's work; what it raises is noted, whatever it is."""
        try:
            await work
        except BudgetError as exc:
            refusal = refused_bytes(str(exc))
            at_s = now_s() - self._begin_s
            self._refusals.append(Refusal(number, self._phases.get(number), at_s, str(exc), *refusal))
        except HarnessError as exc:
            self._fail(number, str(exc))
        except Exception as exc:
            self._fail(number, f"{type(exc).__name__}: {exc}")

    async def _open(self, number: int) -> None:
        self._agents[number] = await self._arm.open(self._scripts[number].max_tokens)

    async def _live(self, number: int) -> None:
        """An agent's life, from when it is due."""
        script, due_s = self._scripts[number], self._begin_s + self._due_s[number]
        await _sleep_until(due_s)
        agent = self._agents[number]
        reason = await self._step(number, agent, Phase.REASON, due_s, script.prompt_ids)
        due_s = reason.done_s + script.sleep_s
        await _sleep_until(due_s)
        await self._step(number, agent, Phase.REFLECT, due_s, script.observation_ids)

    async def _step(
        self, number: int, agent: Agent, phase: Phase, due_s: float, new_ids: Sequence[int]
    ) -> Step:
        self._phases[number] = phase
        step = await agent.step(new_ids, self._scripts[number].new_tokens)
        self._steps.append(StepRun(number, phase, due_s, step))
        return step

    def _fail(self, number: int, cause: str) -> None:
        self._failures.append(Failure(number, self._phases.get(number), now_s() - self._begin_s, cause))

    async def _close(self, number: int) -> None:
        agent = self._agents.pop(number, None)
        if agent is not None:
            # An arm that is gone holds nothing; one that hangs is ended by whoever started it.
            with contextlib.suppress(HarnessError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await agent.close()

    async def _close_all(self) -> None:
        await asyncio.gather(*(self._close(number) for number in list(self._agents)))

    def _ended(self) -> set[int]:
        """Agents that were refused, have failed or finished."""
        finished = {one.agent for one in self._steps if one.phase is Phase.REFLECT}
        return finished | {one.agent for one in self._refusals} | {one.agent for one in self._failures}

    def _found(self, done_s: float) -> AgentsRun:
        return AgentsRun(
            arm=self._arm.name,
            num_agents=len(self._scripts),
            begin_s=self._begin_s,
            done_s=done_s,
            steps=tuple(sorted(self._steps, key=lambda one: (one.agent, one.due_s))),
            refusals=tuple(sorted(self._refusals, key=lambda one: one.agent)),
            failures=tuple(sorted(self._failures, key=lambda one: one.agent)),
        )


async def _sleep_until(due_s: float) -> None:
    await asyncio.sleep(max(0.0, due_s - now_s()))
