"""What running a job left behind: every task, every step, and where the seconds went.

    wall_s = plan_s + load_s + inference_s + other_s

    plan_s        deciding: the planner or the model that is asked, and the greedy plan that stands in for it
    load_s        evicting and loading, the planning model too
    inference_s   at least one task is being answered
    other_s       the rest: writing prompts and problems, reading answers
    grading       stands outside: the clock is stopped, since no server waits for it

All times are seconds since the job began, on that clock. `critical_path_s` is the longest chain of answers
over the job's edges: what no planner and no memory could shorten.

Memory counts the planning model: while it decides, it is what executes (`harness.routers.planning.memory`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from harness.backends.base import Completion
from harness.clock import now_s
from harness.routers.orchestration.base import Decision
from harness.routers.orchestration.residency import Change
from harness.routers.planning.base import Fleet
from harness.routers.planning.memory import Memory, memory_of
from harness.workflow.jobs.grade import Grade
from harness.workflow.jobs.job import Job

__all__ = ["PARTS", "JobRun", "Laps", "StepRun", "TaskRun", "critical_path"]

PARTS = ("plan_s", "load_s", "inference_s", "other_s")
N = TypeVar("N", int, float)


class Laps:
    """A clock whose every second belongs to one part, or to none while it is stopped."""

    def __init__(self) -> None:
        self.parts = dict.fromkeys(PARTS, 0.0)
        self._began_s = self._mark_s = now_s()
        self._stopped_s = 0.0

    def now_s(self) -> float:
        """Seconds since it was started, without those while it was stopped."""
        return now_s() - self._began_s - self._stopped_s

    def lap(self, part: str) -> float:
        """Count the time since the last call to a part, and return it."""
        at_s = now_s()
        lap_s, self._mark_s = at_s - self._mark_s, at_s
        self.parts[part] += lap_s
        return lap_s

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count seconds to another part than they were."""
        self.parts[source] -= seconds
        self.parts[target] += seconds

    def skip(self) -> None:
        """Count the time since the last call to nothing."""
        at_s = now_s()
        self._stopped_s += at_s - self._mark_s
        self._mark_s = at_s


@dataclass(slots=True, kw_only=True)
class TaskRun:
    """One task on one model."""

    task: str
    model: str
    began_s: float
    """When it had a slot of its model."""
    done_s: float
    prompt: str | None = None
    completion: Completion | None = None
    answer: str | None = None
    """What travels along the edges."""
    token_cost: float | None = None
    """In units of quality, before `lambda_token`."""
    grade: Grade | None = None
    error: str | None = None
    is_lost: bool = False
    """Whether the engine went away or broke, so that it is not to be asked again as it is."""

    @property
    def text(self) -> str | None:
        """As the model wrote it."""
        return None if self.completion is None else self.completion.text


@dataclass(slots=True, kw_only=True)
class StepRun:
    """One step: decided, loaded, answered. Filled in as it happens; after a failure the rest is absent."""

    step: int
    window: int | None
    horizon: tuple[str, ...]
    """Tasks that were planned, those of the ready layer first."""
    ready: tuple[str, ...]
    """Tasks that the step answers."""
    began_s: float
    done_s: float
    resident_before: tuple[str, ...]
    budget_bytes: int
    planning: tuple[str, ...] | None = None
    """Loaded while a model decides; None where none does."""
    planner_change: Change | None = None
    """What loading the planning model did; None where it was loaded already, or there is none."""
    decision: Decision | None = None
    assignment: Mapping[str, str] = field(default_factory=dict)
    """Task → model as decided, for the whole horizon."""
    violates: bool = False
    """Whether the allocator refused what the plan's first step needs."""
    over_bytes: int = 0
    """What the refused step needs beyond the budget."""
    replaced: bool = False
    """Whether the greedy plan ran in its place."""
    change: Change | None = None
    step_bytes: int | None = None
    """Of the models that answer."""
    plan_s: float = 0.0
    load_s: float = 0.0
    tasks: tuple[TaskRun, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was evicted and loaded, in order."""
        return tuple(change for change in (self.planner_change, self.change) if change is not None)

    @property
    def used(self) -> frozenset[str]:
        """Models that answered."""
        return frozenset(run.model for run in self.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One job under one decider."""

    job: Job
    decider: str
    is_flat: bool
    planner: str | None
    """The model that is asked to plan; None where none is."""
    steps: tuple[StepRun, ...]
    wall_s: float
    parts: Mapping[str, float]
    sizes: Mapping[str, int]
    """Bytes by model, as known at the end."""
    planner_token_cost: float | None = 0.0
    """Of the planning model's tokens; None where they were not counted, or have no cost."""
    error: str | None = None
    """Why it ended before its last task: "where: what happened"."""

    @property
    def tasks(self) -> dict[str, TaskRun]:
        """By id, in the order in which they were answered."""
        return {run.task: run for step in self.steps for run in step.tasks}

    @property
    def models(self) -> dict[str, str]:
        """Task → model that answered it."""
        return {name: run.model for name, run in self.tasks.items() if run.error is None}

    @property
    def scores(self) -> dict[str, float | None]:
        """Task → score, of every task of the job; None where it was not answered or not graded."""
        grades = {name: run.grade for name, run in self.tasks.items()}
        found = {task.id: grades.get(task.id) for task in self.job.tasks}
        return {name: None if grade is None else grade.score for name, grade in found.items()}

    @property
    def score(self) -> float | None:
        """Mean over the tasks; None unless each was graded."""
        total = _total(self.scores.values())
        return None if total is None else total / len(self.job.tasks)

    @property
    def num_loads(self) -> int:
        """Models loaded, the planning one among them, as often as it was."""
        return sum(len(change.loaded) for step in self.steps for change in step.changes)

    @property
    def planner_load_s(self) -> float | None:
        """Seconds of loading the planning model; None where it was not loaded, or stays up."""
        loads = [step.planner_change.load_s for step in self.steps if step.planner_change is not None]
        known = [s for load_s in loads for s in load_s.values() if s is not None]
        return sum(known) if known else None

    @property
    def prompt_tokens(self) -> int | None:
        """As counted by the servers, the planning model's among them; None where one did not count."""
        answers = [None if c is None else c.prompt_tokens for c in self._completions]
        return _total([*answers, *(decision.prompt_tokens for decision in self._decisions)])

    @property
    def output_tokens(self) -> int | None:
        """Likewise."""
        answers = [None if c is None else c.output_tokens for c in self._completions]
        return _total([*answers, *(decision.output_tokens for decision in self._decisions)])

    @property
    def token_cost(self) -> float | None:
        """Σ cost per token × tokens, the planning model's too, in units of quality; None where unknown."""
        return _total([*(run.token_cost for run in self.tasks.values()), self.planner_token_cost])

    @property
    def num_violations(self) -> int:
        """Steps whose plan was refused."""
        return sum(step.violates for step in self.steps)

    @property
    def statuses(self) -> dict[str, int]:
        """Planner status → steps."""
        return dict(Counter(decision.status for decision in self._decisions))

    @property
    def critical_path_s(self) -> float | None:
        """Seconds along the critical path; None where a task was not answered."""
        path = critical_path(self)
        return (
            None if path is None else sum(self.tasks[name].done_s - self.tasks[name].began_s for name in path)
        )

    @property
    def memory(self) -> Memory | None:
        """The four peaks; None where nothing was executed."""
        executed, residents = [], []
        names = list(self.sizes)
        for step in self.steps:
            if step.planning is not None and self.planner is not None:
                executed.append(frozenset({names.index(self.planner)}))
                residents.append(frozenset(map(names.index, step.planning)))
            if step.tasks and step.change is not None:
                executed.append(frozenset(map(names.index, step.used)))
                residents.append(frozenset(map(names.index, step.change.resident)))
        if not executed:
            return None
        before = frozenset(map(names.index, self.steps[0].resident_before))
        budget_bytes = max(step.budget_bytes for step in self.steps)
        fleet = Fleet(models=tuple(names), size_bytes=tuple(self.sizes.values()), budget_bytes=budget_bytes)
        return memory_of(fleet, executed, residents, before=before)._replace(
            num_steps=len(self.steps),
            num_violations=self.num_violations,
            over_bytes=max(step.over_bytes for step in self.steps),
        )

    @property
    def _completions(self) -> list[Completion | None]:
        return [run.completion for run in self.tasks.values()]

    @property
    def _decisions(self) -> list[Decision]:
        return [step.decision for step in self.steps if step.decision is not None]


def critical_path(run: JobRun) -> tuple[str, ...] | None:
    """The chain of tasks over the job's edges that takes longest; None where a task was not answered."""
    tasks = run.tasks
    if any(task.id not in tasks or tasks[task.id].error for task in run.job.tasks):
        return None
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for layer in run.job.graph.layers():
        for name in (run.job.tasks[at].id for at in layer):
            before = max((best[need] for need in run.job.needs(name)), default=(0.0, ()))
            best[name] = (before[0] + tasks[name].done_s - tasks[name].began_s, (*before[1], name))
    return max(best.values())[1]


def _total(values: Iterable[N | None]) -> N | None:
    known = list(values)
    return None if any(value is None for value in known) else sum(v for v in known if v is not None)
