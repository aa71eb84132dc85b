"""A process per step: it starts, imports, brings the weights in, computes the whole history, and is gone.

Nothing of an agent is on the device while it acts: what it said and heard is kept here, as token ids, and
sent along with every step. Each part of the price stands apart: `queue_s` (until Ray has forked a process,
and waiting for room), `import_s` (interpreter, Ray's worker, torch, engine), `load_s`, `prefill_s`.

Physics: W + kv are drawn from the device budget while a step runs, so that ⌊C ÷ (W + kv)⌋ steps run at once.
One that finds no room waits for it up to `wait_s`, and that is in its `queue_s`; then it is refused. Ray's
scheduler is asked for nothing, and so queues nobody; its processes are none that waited for work beforehand.

Traps: a step that waits for room has its process already, and, where no earlier step told how much is needed,
the weights too. The default model is made from a seed instead of being read.

Source: jaewan/Djinn, Evaluation/exp2_1, scripts/run_ray_serverless_agents.py: a task per step, which reloads
the weights and recomputes the prompt.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import Any, Self

from harness.agents.arms.calls import end_process, stream
from harness.agents.arms.keepalive import step_of, worker_env
from harness.agents.arms.worker import Place, Started, Token, serve_step
from harness.agents.base import Step
from harness.agents.cluster import RayCluster
from harness.errors import BackendBroken
from harness.hardware.budget import DeviceBudget
from harness.hardware.processes import Process

__all__ = ["Serverless", "ServerlessAgent"]

_TICK_S = 0.02
"""When a process began is known to hundredths."""


class Serverless:
    """The arm, on a cluster that it does not own."""

    name = "ray-serverless"

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
        wait_s: float = 60.0,
        timeout_s: float = 300.0,
        needs: Callable[[int], int] | None = None,
    ) -> None:
        """Describe it.

        Arguments: `threads`, of each step's computing; `prefill_chunk`, prompt tokens of a step, the same as
        in the other arms; `wait_s`, that a step may wait for room, 0 for not at all; `timeout_s`, that
        starting or any one token may take; `needs`, tokens of a history → bytes of weights, keys and
        values: None where the first process of a size is to tell.
        """
        self.cluster = cluster
        self.timeout_s = timeout_s
        self._place = Place(
            model=model,
            device=device,
            dtype=dtype,
            threads=threads,
            budget_path=str(budget.path),
            max_tokens=1,
            prefill_chunk=prefill_chunk,
            wait_s=wait_s,
        )
        self._numbers, self._steps = count(1), count(1)
        self._id = uuid.uuid4().hex
        """Of this arm: one before it on the cluster may have left a process for a step of that number."""
        self._needed: dict[int, int] = {}
        self._needs = self._needed.get if needs is None else needs
        self._processes: set[Process] = set()
        # Streamed tasks are tried again after a failure unless told otherwise.
        self._task = cluster.remote(serve_step, env={}, max_calls=1, max_retries=0)

    @classmethod
    async def start(cls, cluster: RayCluster, budget: DeviceBudget, **settings: Any) -> Self:
        """As the constructor; there is nothing to wait for."""
        return cls(cluster, budget, **settings)

    async def open(self, max_tokens: int) -> ServerlessAgent:
        """Make an agent; it takes nothing of the device between its steps, so this is never refused."""
        return ServerlessAgent(self, max_tokens, next(self._numbers))

    def ask(self, token_ids: Sequence[int], max_new_tokens: int, max_tokens: int) -> Any:
        """Have Ray run a step: what it will yield, one `Started` and then tokens."""
        place = replace(self._place, max_tokens=max_tokens, needed_bytes=self._needs(max_tokens))
        # Ray may start two processes for one task and keep the other; none but this step can have such a one.
        env = {**worker_env(self._place.threads), "ASSAY_STEP": f"{self._id}-{next(self._steps)}"}
        task = self._task.options(num_returns="streaming", runtime_env=self.cluster.runtime_env(env))
        return task.remote(place, tuple(token_ids), max_new_tokens)

    def see(self, started: Started, max_tokens: int, asked_s: float) -> None:
        """Note a step's process.

        Raises
        ------
        BackendBroken: it is not a fresh one.
        """
        is_younger = started.started_s > asked_s - _TICK_S
        if started.process in self._processes or not started.is_new or not is_younger:
            pid = started.process.pid
            raise BackendBroken(
                f"{self.name}: process {pid} is not a fresh one; Ray was to end it after a step"
            )
        self._processes.add(started.process)
        self._needed[max_tokens] = started.needed_bytes

    async def close(self) -> None:
        """Wait until the processes of all steps are gone; the cluster stays."""
        processes, self._processes = self._processes, set()
        if self.cluster.failure is None:
            for process in processes:
                await end_process(process)


class ServerlessAgent:
    """One agent, whose history is here."""

    def __init__(self, arm: Serverless, max_tokens: int, number: int) -> None:
        self._arm = arm
        self._max_tokens = max_tokens
        self._who = f"{arm.name} agent {number}"
        self._history: list[int] = []
        self._is_open = True
        self.started: list[Started] = []
        """What each of its steps took to start."""

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        """Run a process on the whole history; see `Agent.step`. One that failed has not happened."""
        if not self._is_open:
            raise BackendBroken(f"{self._who} is closed; open another")
        self._arm.cluster.require(self._who)
        history = [*self._history, *new_ids]
        tokens: list[Token] = []
        came_s: list[float] = []
        started: Started | None = None
        asked_s = perf_counter()
        refs = self._arm.ask(history, max_new_tokens, self._max_tokens)
        try:
            came = stream(
                self._arm.cluster, refs, who=lambda: self._named(started), timeout_s=self._arm.timeout_s
            )
            async for item in came:
                if isinstance(item, Started):
                    started = item
                    self._arm.see(item, self._max_tokens, asked_s)
                else:
                    tokens.append(item)
                    came_s.append(perf_counter())
        except BaseException:
            self._give_up(refs)
            raise
        assert started is not None
        self.started.append(started)
        self._history = [*history, *(token.token_id for token in tokens)]
        return _step(started, tokens, came_s, asked_s)

    async def close(self) -> None:
        """Nothing is held; its steps' processes have ended or are ending."""
        self._is_open = False

    def _named(self, started: Started | None) -> str:
        return self._who if started is None else f"{self._who} (pid {started.process.pid})"

    def _give_up(self, refs: Any) -> None:
        """End the process of a step that nobody waits for any more."""
        if self._arm.cluster.failure is None:
            import ray

            ray.cancel(refs, force=True)


def _step(started: Started, tokens: Sequence[Token], came_s: Sequence[float], asked_s: float) -> Step:
    step = step_of(tokens, came_s, asked_s=asked_s, pid=started.process.pid)
    born_s = max(started.started_s, asked_s)
    return replace(
        step,
        queue_s=(born_s - asked_s) + started.wait_s + tokens[0].queue_s,
        import_s=started.entered_s + started.import_s - born_s,
        load_s=started.load_s,
    )
