"""Runs a task through the stages of a workflow, with data on the edges.

A stage starts when the stages it needs have ended, and its prompt holds their outputs. Stages that do not
need each other run side by side. A stage that fails ends its task: the failure is part of the result, never
an exception, and what came before it is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.backends.base import Completion, Message, Request
from harness.clock import now_s
from harness.errors import HarnessError
from harness.workflow.endpoints import Endpoint
from harness.workflow.workload import StageSpec, Task, Workload, extract_code, render

__all__ = ["Attempt", "StageRouter", "StageRun", "TaskRun", "run_task", "run_tasks"]


class StageRouter(Protocol):
    """What the executor asks of a router."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def wants_logprobs(self) -> bool:
        """Whether `review` needs the log-probabilities of the output tokens."""

    def route(self, task: Task, stage: StageSpec) -> str:
        """The role that runs the stage first."""

    def review(
        self, task: Task, stage: StageSpec, role: str, completion: Completion, output: str
    ) -> str | None:
        """The role that redoes the stage, or `None` when the answer is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request of a stage."""

    role: str
    request: Request
    queued_s: float
    """When it began to wait for a slot."""
    started_s: float
    """When it had one."""
    returned_s: float
    """When the backend handed the answer over."""
    completion: Completion
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One stage of one task, from the moment its inputs were there."""

    stage: str
    ready_s: float
    done_s: float
    attempts: tuple[Attempt, ...]
    output: str
    route_s: float
    """Deciding who answers."""
    review_s: float
    """Deciding whether the answer is good enough."""
    render_s: float
    """Writing the prompt and reading the answer."""
    wait_s: float
    """Until the event loop came to it, its inputs ready."""
    error: str | None = None

    @property
    def wall_s(self) -> float:
        """From inputs ready to output ready."""
        return self.done_s - self.ready_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One task, from its intended start to the end of its last stage."""

    task_id: str
    intended_s: float
    started_s: float
    done_s: float
    stages: Mapping[str, StageRun] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """The first failure, as "stage: what happened"."""
        return next((f"{run.stage}: {run.error}" for run in self.stages.values() if run.error), None)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every request of the task, in stage order."""
        return tuple(a for run in self.stages.values() for a in run.attempts)

    @property
    def wall_s(self) -> float:
        """From the intended start: what waited in front of a busy system counts."""
        return self.done_s - self.intended_s

    def output(self, stage: str) -> str | None:
        """A stage's output; `None` when it did not come about."""
        run = self.stages.get(stage)
        return None if run is None or run.error else run.output


async def run_tasks(
    workload: Workload,
    tasks: Iterable[Task],
    router: StageRouter,
    endpoints: Mapping[str, Endpoint],
    *,
    max_concurrency: int = 1,
    on_done: Callable[[TaskRun], None] | None = None,
) -> list[TaskRun]:
    """Run tasks, at most `max_concurrency` of them in flight; results in the order of `tasks`."""
    gate = asyncio.Semaphore(max_concurrency)

    async def one(task: Task) -> TaskRun:
        async with gate:
            run = await run_task(workload, task, router, endpoints)
        if on_done is not None:
            on_done(run)
        return run

    return list(await asyncio.gather(*(one(task) for task in tasks)))


async def run_task(
    workload: Workload,
    task: Task,
    router: StageRouter,
    endpoints: Mapping[str, Endpoint],
    *,
    intended_s: float | None = None,
) -> TaskRun:
    """Run one task through every stage.

    `intended_s` is when it was due (seconds of `clock.now_s`); its latency counts from there.
    """
    started_s = now_s()
    done: dict[str, asyncio.Task[StageRun]] = {}

    async def stage_after_needs(stage: StageSpec) -> StageRun:
        before = [await done[name] for name in stage.needs]
        ready_s = max((run.done_s for run in before), default=started_s)
        if any(run.error for run in before):
            return _failed(stage, ready_s, "not run, since a stage it needs failed")
        outputs = {run.stage: run.output for run in before}
        return await _run_stage(stage, task, router, endpoints, outputs, ready_s)

    for stage in workload.stages:
        done[stage.name] = asyncio.create_task(stage_after_needs(stage))
    runs = await _all_or_none(list(done.values()))
    return TaskRun(
        task_id=task.id,
        intended_s=started_s if intended_s is None else intended_s,
        started_s=started_s,
        done_s=max(run.done_s for run in runs),
        stages={run.stage: run for run in runs},
    )


async def _all_or_none(tasks: Sequence[asyncio.Task[StageRun]]) -> list[StageRun]:
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _run_stage(
    stage: StageSpec,
    task: Task,
    router: StageRouter,
    endpoints: Mapping[str, Endpoint],
    outputs: Mapping[str, str],
    ready_s: float,
) -> StageRun:
    attempts: list[Attempt] = []
    begin = now_s()
    role: str | None = router.route(task, stage)
    routed = now_s()
    request = _request(stage, render(stage, task, outputs), logprobs=router.wants_logprobs)
    render_s, review_s, output = now_s() - routed, 0.0, ""
    try:
        while role is not None:
            attempts.append(await _attempt(role, request, endpoints[role]))
            answered = attempts[-1].returned_s
            text = attempts[-1].completion.text
            output = extract_code(text) if stage.grade == "code" else text.strip()
            read = now_s()
            role = router.review(task, stage, role, attempts[-1].completion, output)
            render_s, review_s = render_s + read - answered, review_s + now_s() - read
        error = None
    except HarnessError as exc:
        error = f"{type(exc).__name__}: {exc}"
    return StageRun(
        stage=stage.name,
        ready_s=ready_s,
        done_s=now_s(),
        attempts=tuple(attempts),
        output=output,
        route_s=routed - begin,
        review_s=review_s,
        render_s=render_s,
        wait_s=begin - ready_s,
        error=error,
    )


async def _attempt(role: str, request: Request, endpoint: Endpoint) -> Attempt:
    queued_s = now_s()
    async with endpoint.slot() as backend:
        started_s = now_s()
        completion = await backend.generate(request)
        returned_s = now_s()
    return Attempt(
        role=role,
        request=request,
        queued_s=queued_s,
        started_s=started_s,
        returned_s=returned_s,
        completion=completion,
        usd=endpoint.price.usd(completion),
    )


def _request(stage: StageSpec, prompt: str, *, logprobs: bool) -> Request:
    return Request(
        messages=(Message("user", prompt),),
        max_tokens=stage.max_tokens,
        temperature=0.0,
        seed=0,
        logprobs=logprobs,
    )


def _failed(stage: StageSpec, at_s: float, error: str) -> StageRun:
    return StageRun(
        stage=stage.name, ready_s=at_s, done_s=at_s, attempts=(), output="",
        route_s=0.0, review_s=0.0, render_s=0.0, wait_s=0.0, error=error,
    )  # fmt: skip
