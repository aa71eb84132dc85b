"""An actor per agent, alive from its first step to its last, with weights and keys and values of its own.

The reflecting step sends only what is new, and no process, model or history is made again. What that costs is
memory: W + kv per agent, held while it acts.

Physics: a device of C bytes holds ⌊C ÷ (W + kv)⌋ agents; who comes then is refused by the device budget's
allocator, or by the device's own. Ray's scheduler is asked for nothing, and so queues nobody.

Traps: an actor's process shares one machine's cores with all others. The first step of an agent does not hold
its start: that is `open`'s, and stands in `KeepAliveAgent.started`. Tokens cost a hop each (see `calls`).

Source: jaewan/Djinn, Evaluation/exp2_1, scripts/run_ray_keepalive_agents.py: one actor per agent, which pins
the model and the keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import Any, Self

from harness.agents.arms.calls import end_process, stream, value
from harness.agents.arms.worker import KeptAgent, Place, Started, Token
from harness.agents.base import Step
from harness.agents.cluster import RayCluster
from harness.errors import BackendBroken, UsageError
from harness.hardware.budget import DeviceBudget
from harness.hardware.processes import Process

__all__ = ["KeepAlive", "KeepAliveAgent", "step_of", "worker_env"]


class KeepAlive:
    """The arm, on a cluster that it does not own."""

    name = "ray-keepalive"

    def __init__(
        self,
        cluster: RayCluster,
        budget: DeviceBudget,
        *,
        model: str = "llama-34m",
        device: str = "cpu",
        dtype: str = "float32",
        threads: int = 1,
        prefill_chunk: int = 128,
        timeout_s: float = 300.0,
        needs: Callable[[int], int] | None = None,
    ) -> None:
        """Describe it; each `open` starts a process.

        Arguments: `threads`, of each agent's computing; `prefill_chunk`, prompt tokens of a step, the same as
        in the other arms; `timeout_s`, that starting or any one token may take; `needs`, tokens of a history
        → bytes of weights, keys and values: None where the first process of a size is to tell.
        """
        self.cluster = cluster
        self._place = Place(
            model=model,
            device=device,
            dtype=dtype,
            threads=threads,
            budget_path=str(budget.path),
            max_tokens=1,
            prefill_chunk=prefill_chunk,
        )
        self._timeout_s = timeout_s
        self._agents: list[KeepAliveAgent] = []
        self._numbers = count(1)
        self._needed: dict[int, int] = {}
        self._needs = self._needed.get if needs is None else needs
        self._actor = cluster.remote(KeptAgent, env=worker_env(threads), max_restarts=0, max_task_retries=0)

    @classmethod
    async def start(cls, cluster: RayCluster, budget: DeviceBudget, **settings: Any) -> Self:
        """As the constructor; there is nothing to wait for."""
        return cls(cluster, budget, **settings)

    async def open(self, max_tokens: int) -> KeepAliveAgent:
        """Start an agent's process, and wait until it has its model.

        Raises
        ------
        BudgetError: weights, keys and values find no room: out of memory.
        BackendError: the process died while it started, or Ray is gone.
        """
        self.cluster.require(self.name)
        agent = KeepAliveAgent(self.cluster, self._actor, next(self._numbers), self._timeout_s)
        self._agents.append(agent)
        place = replace(self._place, max_tokens=max_tokens, needed_bytes=self._needs(max_tokens))
        try:
            await agent.start(place)
        except BaseException:
            await agent.close()
            raise
        self._needed[max_tokens] = agent.started.needed_bytes
        return agent

    def needed_bytes(self, max_tokens: int) -> int | None:
        """Weights, keys and values of one agent; None before one of such a history has started."""
        return self._needed.get(max_tokens)

    async def close(self) -> None:
        """End every agent's process; the cluster stays."""
        agents, self._agents = self._agents, []
        for agent in agents:
            await agent.close()


class KeepAliveAgent:
    """One agent, whose history is in its actor."""

    def __init__(self, cluster: RayCluster, actor_class: Any, number: int, timeout_s: float) -> None:
        self._cluster = cluster
        self._who = f"ray-keepalive agent {number}"
        self._timeout_s = timeout_s
        self._trouble: str | None = None
        self._process: Process | None = None
        self._started: Started | None = None
        self.start_s: float | None = None
        """Seconds from asking for the process to its having the model."""
        self._actor = actor_class.remote()

    @property
    def started(self) -> Started:
        """What it took to start. Raises BackendBroken before it has."""
        if self._started is None:
            raise BackendBroken(f"{self._who} has not started")
        return self._started

    async def start(self, place: Place) -> None:
        """Have the actor bring its model in; the arm's `open` does."""
        asked_s = perf_counter()
        self._process = process = await self._value(self._actor.process.remote())
        self._who += f" (pid {process.pid})"
        self._started = await self._value(self._actor.start.remote(place))
        self.start_s = perf_counter() - asked_s

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        """Send the new ids; see `Agent.step`."""
        if self._trouble is not None:
            raise BackendBroken(f"{self._who}: {self._trouble}; open another")
        self._cluster.require(self._who)
        tokens: list[Token] = []
        came_s: list[float] = []
        self._trouble = "a step of it broke off"
        asked_s = perf_counter()
        refs = self._actor.step.options(num_returns="streaming").remote(tuple(new_ids), max_new_tokens)
        try:
            came = stream(self._cluster, refs, who=lambda: self._who, timeout_s=self._timeout_s)
            async for token in came:
                tokens.append(token)
                came_s.append(perf_counter())
        except UsageError:
            # It was refused before anything was done.
            self._trouble = None
            raise
        self._trouble = None
        return step_of(tokens, came_s, asked_s=asked_s, pid=self.started.process.pid)

    async def close(self) -> None:
        """End its process, and wait until that is gone."""
        if self._trouble == "it is closed":
            return
        self._trouble = "it is closed"
        if self._cluster.failure is None:
            import ray

            ray.kill(self._actor)
            await end_process(self._process)

    async def _value(self, ref: Any) -> Any:
        return await value(self._cluster, ref, who=self._who, timeout_s=self._timeout_s)


def step_of(tokens: Sequence[Token], came_s: Sequence[float], *, asked_s: float, pid: int) -> Step:
    """A step by its tokens. Processes of one machine share a clock: the way there is known, and is queueing.

    Arguments: `came_s`, when each token came here; `asked_s`, when they were asked for.
    """
    first = tokens[0]
    return Step(
        token_ids=tuple(token.token_id for token in tokens),
        asked_s=asked_s,
        first_token_s=came_s[0],
        done_s=came_s[-1],
        token_s=tuple(came_s),
        queue_s=max(0.0, first.given_s - first.compute_s - asked_s),
        prefill_s=first.compute_s,
        compute_s=sum(token.compute_s for token in tokens),
        reused_tokens=first.reused_tokens,
        prefilled_tokens=first.prefilled_tokens,
        pid=pid,
    )


def worker_env(threads: int) -> dict[str, str]:
    """As the session server has it, so that arms differ in nothing else."""
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1"}
