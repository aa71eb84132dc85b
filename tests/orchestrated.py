"""Small fleets and jobs for the tests of the orchestrator, and deciders that do what no planner should."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.backends import Backend, Message, Request
from harness.clock import now_s, run_virtual
from harness.hardware import DeviceBudget
from harness.models.simulated import Timing
from harness.routers.orchestration import (
    Decider,
    Decision,
    Estimates,
    JobRun,
    ModelPrior,
    Residency,
    Weights,
    run_jobs,
)
from harness.routers.orchestration.loadable import Loadable, SimulatedModel
from harness.routers.planning import GreedyPlanner, Plan, Problem
from harness.routers.planning.base import Certificate, lazy_residents
from harness.workflow.jobs import Job, JobTask, TaskNode
from harness.workflow.jobs.job import LabelKey

WEIGHTS = Weights(lambda_token=0.5, lambda_switch=0.2, difficulty_slope=0.06, switch_s=1.5)
TYPES = ("code", "extraction", "math", "reasoning", "summarize")
TOKEN_S = 0.01


def prior(
    name: str, *, cost: float = 0.1, load_s: float | None = 1.0, other: float = 0.5, **quality: float
) -> ModelPrior:
    """A model whose quality is `other` at what is not named."""
    qualities = {kind: quality.get(kind, other) for kind in TYPES}
    return ModelPrior(name=name, quality=qualities, cost_per_ktoken=cost, load_s=load_s)


def simulated(name: str, num_bytes: int, *, load_s: float = 1.0, slots: int = 1) -> SimulatedModel:
    """A model that takes 10 ms per token."""
    return SimulatedModel(name, num_bytes, load_s=load_s, timing=Timing(read_s=TOKEN_S), slots=slots)


def job_of(
    types: Sequence[str], edges: Iterable[tuple[int, int]], *, name: str = "job", max_tokens: int = 8
) -> Job:
    """Tasks s0, s1, … of these types, each asked with the answers that it needs."""
    edges = list(edges)
    tasks = []
    for at, kind in enumerate(types):
        needs = " ".join(f"{{s{before}}}" for before, after in edges if after == at)
        tasks.append(
            JobTask(
                id=f"s{at}",
                type=kind,
                difficulty=1.0,
                num_tokens=100,
                prompt=f"task {at} of {name}, given: {needs}",
                max_tokens=max_tokens,
                key=LabelKey(value="yes", labels=("yes", "no")),
            )
        )
    pairs = tuple((f"s{before}", f"s{after}") for before, after in edges)
    return Job(id=name, shape="test", tasks=tuple(tasks), edges=pairs, source="a test")


class Spread:
    """Gives each task of the ready layer a model of its own, whether they fit together or not."""

    name = "spread"
    window: int | None = 1
    is_model = False

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        models = tuple(range(len(problem.fleet.models)))
        assignment = tuple(models[i % len(models)] for i in range(problem.num_tasks))
        return Decision(_plan(problem, assignment), 0.0)


class Always:
    """Gives every task to one model, whether it fits or not."""

    window: int | None = 1
    is_model = False

    def __init__(self, model: str) -> None:
        self.name = self.model = model

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        at = problem.fleet.models.index(self.model)
        return Decision(_plan(problem, (at,) * problem.num_tasks), 0.0)


class Asking:
    """Asks its model something, and takes the greedy plan whatever it says."""

    name = "asking"
    window: int | None = 1
    is_model = True

    def __init__(self) -> None:
        self.resident: list[frozenset[str]] = []
        """What was loaded each time it was asked."""

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        assert backend is not None
        began_s = now_s()
        self.resident.append(frozenset(problem.fleet.models[m] for m in problem.resident))
        answer = await backend.generate(Request(messages=(Message("user", "Plan!"),), max_tokens=4))
        return Decision(
            GreedyPlanner().plan(problem),
            now_s() - began_s,
            status="valid",
            num_requests=1,
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
        )


def run_simulated(
    jobs: Iterable[Job],
    decider: Decider,
    models: Sequence[Loadable],
    estimates: Estimates,
    budget: DeviceBudget,
    **options: Any,
) -> list[JobRun]:
    """Run jobs in virtual time; everything is unloaded at the end."""

    async def main() -> list[JobRun]:
        async with Residency(models, budget) as residency:
            return await run_jobs(jobs, decider, residency, estimates, **options)

    return run_virtual(main())


def _plan(problem: Problem, assignment: tuple[int, ...]) -> Plan:
    residents = lazy_residents(problem, assignment)
    return Plan(assignment, residents, problem.value_of(assignment), Certificate("test"))
