"""Job runs written by hand, and a fleet on profiles' backends: what the fixtures of routed jobs are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fixtures.jobs import Ran, Routing
from fixtures.nodes import specs_of
from fixtures.pool import Pool
from harness.backends.base import Completion
from harness.routers.orchestration import Change, Computed, Decision, JobRun, StepRun, TaskRun
from harness.routers.orchestration.base import COMPUTED, FALLBACK
from harness.routers.planning import GreedyPlanner, Plan
from harness.routers.planning.base import Certificate
from harness.workflow.jobs import Grade, Job, render
from tests.orchestrated import job_of

GB = 10**9
SIZES = {"small": 2 * GB, "big": 6 * GB}
CHAIN = job_of(["extraction", "math", "code"], [(0, 1), (1, 2)], name="chain")
FORK = job_of(["code", "math", "summarize"], [(0, 1), (0, 2)], name="fork")


def task_run(
    name: str,
    model: str = "small",
    *,
    score: float | None = 1.0,
    at_s: tuple[float, float] = (0.0, 1.0),
    prompt: str | None = None,
    tokens: tuple[int | None, int | None] = (8, 2),
    token_cost: float | None = 0.5,
) -> TaskRun:
    """A task that was answered with its own name."""
    return TaskRun(
        task=name,
        model=model,
        began_s=at_s[0],
        done_s=at_s[1],
        prompt=prompt,
        completion=Completion(
            text=name, prompt_tokens=tokens[0], output_tokens=tokens[1], sent_s=at_s[0], done_s=at_s[1]
        ),
        answer=name,
        token_cost=token_cost,
        grade=None if score is None else Grade(score, score == 1.0),
    )


def decision(status: str = COMPUTED, **more: int | bool | None) -> Decision:
    """A plan that says nothing, and how it came about."""
    return Decision(Plan((0,), (frozenset({0}),), 0.0, Certificate("test")), 0.0, status=status, **more)


def step_run(
    at: int,
    tasks: Sequence[TaskRun],
    horizon: Sequence[str] | None = None,
    *,
    window: int | None = 1,
    over_bytes: int = 0,
    made: Decision | None = None,
    loaded: Sequence[str] = (),
) -> StepRun:
    """A step that planned its horizon, its own tasks alone by default."""
    ready = tuple(task.task for task in tasks)
    models = tuple(sorted({task.model for task in tasks}))
    return StepRun(
        step=at,
        window=window,
        horizon=tuple(horizon or ready),
        ready=ready,
        began_s=0.0,
        done_s=1.0,
        resident_before=(),
        budget_bytes=8 * GB,
        decision=made or decision(),
        violates=over_bytes > 0,
        over_bytes=over_bytes,
        replaced=over_bytes > 0,
        change=Change((), dict.fromkeys(loaded, 1.0), models, sum(SIZES[m] for m in models)),
        tasks=tuple(tasks),
    )


def job_run(
    job: Job,
    steps: Sequence[StepRun],
    *,
    parts: tuple[float, float, float, float] = (1.0, 2.0, 6.0, 1.0),
    planner: str | None = None,
    planner_token_cost: float | None = 0.0,
    error: str | None = None,
) -> JobRun:
    """A run of these steps; prompts that were not given are those that the earlier answers make."""
    done = [task for step in steps for task in step.tasks]
    answers = {task.task: task.task for task in done}
    for task in done:
        if task.prompt is None:
            task.prompt = render(job, job.task(task.task), answers)
    return JobRun(
        job=job,
        decider="by hand",
        is_flat=False,
        planner=planner,
        steps=tuple(steps),
        wall_s=sum(parts),
        parts=dict(zip(("plan_s", "load_s", "inference_s", "other_s"), parts, strict=True)),
        sizes=SIZES,
        planner_token_cost=planner_token_cost,
        error=error,
    )


def chain_run(
    models: Sequence[str] = ("small", "small", "small"),
    scores: Sequence[float | None] = (1.0, 1.0, 1.0),
    **more: object,
) -> JobRun:
    """The chain, a task per step."""
    steps = [
        step_run(i, [task_run(f"s{i}", model, score=score, at_s=(i, i + 1.0))])
        for i, (model, score) in enumerate(zip(models, scores, strict=True))
    ]
    return job_run(CHAIN, steps, **more)  # type: ignore[arg-type]


def ran(
    *runs: JobRun,
    peak_bytes: int = 8 * GB,
    left_bytes: int = 0,
    told: Mapping[str, tuple[float, ...]] | None = None,
) -> Ran:
    """A pass of these runs under 8 GB."""
    return Ran(
        runs=runs, told=told or {}, capacity_bytes=8 * GB, peak_bytes=peak_bytes, left_bytes=left_bytes
    )


def routing(window: int | None = 1, *, flat: bool = False, asks: bool = False) -> Routing:
    """A router by name alone."""
    return Routing(
        name="x",
        make=lambda: Computed(GreedyPlanner()),
        window=window,
        flat=flat,
        is_model=asks,
        solvers=frozenset({"test"}),
    )


def pool_of(profile: str, *given: str) -> Pool:
    """The pool of a profile, some of its roles given to others."""
    return Pool(specs_of(profile, None, given), profile)


__all__ = [
    "CHAIN", "FALLBACK", "FORK", "GB", "SIZES", "chain_run", "decision", "job_run", "pool_of", "ran",
    "routing", "step_run", "task_run",
]  # fmt: skip
