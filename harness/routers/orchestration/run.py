"""Running jobs: plan what the window shows, make room, load, answer the first step, plan again.

A step of a job, in order:

1. Where a model plans, it is loaded, evicting what is in its way; its seconds, tokens and bytes count.
2. The decider plans the layers that its window shows; answered tasks are never in it.
3. What the plan's first step needs is loaded, room being made first. A plan that does not fit is refused by
   the allocator, which is a violation; the greedy plan, which fits, then runs in its place.
4. The first step's tasks are answered at once, with earlier answers in their prompts.
5. Load times are learned always, quality from grades where the estimates are not frozen.

What is resident stays so between steps and jobs. The first step is the ready layer, or, of a plan that orders
tasks itself (`Plan.order`), the tasks that it names first.

`flat` plans once, for all tasks as if nothing depended on anything, and loads all that the plan needs at
once; the tasks are then answered as their edges allow. (The origin's flat run ignored the edges there too.)

What makes no sense is refused with a `UsageError` or `BudgetError` before anything is loaded. What breaks on
the way (an engine, a load, the room being gone) ends the job: it has an `error`; what was answered is kept. A
lost engine is taken down, so that the next job loads it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.routers.orchestration.base import Decider
from harness.routers.orchestration.estimates import Estimates
from harness.routers.orchestration.grades import Grader
from harness.routers.orchestration.record import JobRun, StepRun
from harness.routers.orchestration.residency import Residency
from harness.routers.orchestration.stepping import Broke, Setup, Stepping
from harness.workflow.jobs.job import Job

__all__ = ["run_job", "run_jobs"]


async def run_jobs(
    jobs: Iterable[Job],
    decider: Decider,
    residency: Residency,
    estimates: Estimates,
    *,
    planner: str | None = None,
    planner_cost_per_ktoken: float | None = None,
    flat: bool = False,
    max_concurrency: int = 8,
    grade: Grader | None = None,
    more_follows: bool = False,
    on_done: Callable[[JobRun], None] | None = None,
) -> list[JobRun]:
    """Run jobs one after the other; what is resident stays between them. See `run_job`."""
    runs, every = [], list(jobs)
    for number, job in enumerate(every, start=1):
        run = await run_job(
            job,
            decider,
            residency,
            estimates,
            planner=planner,
            planner_cost_per_ktoken=planner_cost_per_ktoken,
            flat=flat,
            max_concurrency=max_concurrency,
            grade=grade,
            more_follows=more_follows or number < len(every),
        )
        if on_done is not None:
            on_done(run)
        runs.append(run)
    return runs


async def run_job(
    job: Job,
    decider: Decider,
    residency: Residency,
    estimates: Estimates,
    *,
    planner: str | None = None,
    planner_cost_per_ktoken: float | None = None,
    flat: bool = False,
    max_concurrency: int = 8,
    grade: Grader | None = None,
    more_follows: bool = False,
) -> JobRun:
    """Run one job to its end.

    Parameters
    ----------
    residency: holds every model of the estimates, and the planner.
    planner: the model that is asked, by name, where the decider is one that asks.
    planner_cost_per_ktoken: of its tokens, in units of quality; its prior's where it is routed to as well.
    flat: plan once, without edges.
    max_concurrency: requests outstanding at once, over all models.
    grade: called after each step, while the job's clock stands still.
    more_follows: whether other work comes after the job, for which what is loaded may be of use.

    Raises
    ------
    UsageError: something makes no sense; WorkloadError: a model has no prior for a task.
    BudgetError: no model fits, or the planner does not. Nothing is loaded then.
    """
    setup = Setup(
        decider=decider,
        residency=residency,
        estimates=estimates,
        planner=planner,
        planner_cost_per_ktoken=planner_cost_per_ktoken,
        flat=flat,
        max_concurrency=max_concurrency,
        grade=grade,
        more_follows=more_follows,
    )
    setup.check(job)
    return await _to_end(Stepping(job, setup))


async def _to_end(stepping: Stepping) -> JobRun:
    """Step by step; what breaks ends it."""
    setup, error = stepping.setup, None
    try:
        while not stepping.is_done:
            await stepping.step()
    except Broke as exc:
        error = str(exc)
    stepping.laps.lap("other_s")
    return JobRun(
        job=stepping.job,
        decider=setup.decider.name,
        is_flat=setup.flat,
        planner=stepping.planner,
        steps=tuple(stepping.steps),
        wall_s=stepping.laps.now_s(),
        parts=dict(stepping.laps.parts),
        sizes={name: setup.residency.size_bytes(name) for name in setup.residency.names},
        planner_token_cost=_planner_token_cost(setup, stepping.steps) if stepping.planner else 0.0,
        error=error,
    )


def _planner_token_cost(setup: Setup, steps: Iterable[StepRun]) -> float | None:
    per_ktoken = setup.planner_cost_per_ktoken
    if per_ktoken is None and setup.planner in setup.estimates.models:
        per_ktoken = setup.estimates.priors[setup.planner].cost_per_ktoken
    total = 0
    for step in steps:
        if step.decision is None:
            continue
        tokens = step.decision.prompt_tokens, step.decision.output_tokens
        if per_ktoken is None or None in tokens:
            return None
        total += sum(num for num in tokens if num is not None)
    return total * (per_ktoken or 0.0) / 1000
