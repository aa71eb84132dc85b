"""Answering a step's tasks: each when what it needs is there, on the model that the plan gave it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from harness.backends.base import Completion, Message, Request
from harness.errors import BackendBroken, BackendTimeout, BackendUnreachable, HarnessError
from harness.routers.orchestration.record import TaskRun
from harness.routers.orchestration.residency import Residency
from harness.workflow.jobs.job import Job, answer_of, render

__all__ = ["answer_tasks", "busy_s"]

_LOST = (BackendUnreachable, BackendTimeout, BackendBroken)
"""What a request meets where its engine is gone, hangs or is broken; one that was refused finds it well."""


async def answer_tasks(
    job: Job,
    models: Mapping[str, str],
    answers: Mapping[str, str],
    residency: Residency,
    *,
    gate: asyncio.Semaphore,
    clock: Callable[[], float],
) -> tuple[TaskRun, ...]:
    """Answer some tasks of a job at once, each after those of them that it needs.

    A task that fails is a result with its error; those that need it are left out, the others end.

    Parameters
    ----------
    models: task → model that answers it, loaded. answers: of earlier tasks.
    gate: requests outstanding at once, over all models. clock: seconds since the job began.
    """
    known = dict(answers)
    runs: dict[str, TaskRun] = {}
    done = {name: asyncio.Event() for name in models}

    async def one(name: str) -> None:
        needs = job.needs(name)
        try:
            for need in needs:
                if need in done:
                    await done[need].wait()
            if all(need in known for need in needs):
                runs[name] = run = await _answer(job, name, models[name], known, residency, gate, clock)
                if run.answer is not None:
                    known[name] = run.answer
        finally:
            done[name].set()

    # A group, so that on a cancellation no request is left behind at an engine that is about to go.
    async with asyncio.TaskGroup() as group:
        for name in models:
            group.create_task(one(name))
    return tuple(sorted(runs.values(), key=lambda run: (run.began_s, run.task)))


def busy_s(runs: Iterable[TaskRun]) -> float:
    """Seconds during which at least one of them was being answered."""
    total, until_s = 0.0, float("-inf")
    for run in sorted(runs, key=lambda run: run.began_s):
        total += max(0.0, run.done_s - max(run.began_s, until_s))
        until_s = max(until_s, run.done_s)
    return total


async def _answer(
    job: Job,
    name: str,
    model: str,
    answers: Mapping[str, str],
    residency: Residency,
    gate: asyncio.Semaphore,
    clock: Callable[[], float],
) -> TaskRun:
    task = job.task(name)
    prompt = render(job, task, answers)
    request = Request(messages=(Message("user", prompt),), max_tokens=task.max_tokens, seed=0)
    async with residency.slot(model) as backend, gate:
        began_s = clock()
        completion: Completion | None = None
        error, is_lost = None, False
        try:
            completion = await backend.generate(request)
        except HarnessError as exc:
            error, is_lost = f"{type(exc).__name__}: {exc}", isinstance(exc, _LOST)
        done_s = clock()
    return TaskRun(
        task=name,
        model=model,
        began_s=began_s,
        done_s=done_s,
        prompt=prompt,
        completion=completion,
        answer=None if completion is None else answer_of(task, completion.text),
        error=error,
        is_lost=is_lost,
    )
