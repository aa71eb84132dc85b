"""One job under way: its steps, one after the other, each filled in as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.backends.base import Backend
from harness.errors import BackendError, BudgetError, LaunchError, UsageError
from harness.routers.orchestration.answering import answer_tasks, busy_s
from harness.routers.orchestration.base import Decider
from harness.routers.orchestration.estimates import Estimates
from harness.routers.orchestration.grades import Grader
from harness.routers.orchestration.record import Laps, StepRun
from harness.routers.orchestration.residency import Change, Residency
from harness.routers.orchestration.seen import First, Seen, beside, first_of, seen
from harness.routers.planning.base import Plan, Problem
from harness.routers.planning.controls import GreedyPlanner
from harness.workflow.jobs.job import Job

__all__ = ["Broke", "Setup", "Stepping"]


class Broke(Exception):
    """Something broke on the way; the message says where and what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What jobs are run with; see `run_job`."""

    decider: Decider
    residency: Residency
    estimates: Estimates
    planner: str | None = None
    planner_cost_per_ktoken: float | None = None
    flat: bool = False
    max_concurrency: int = 8
    grade: Grader | None = None
    more_follows: bool = False

    def check(self, job: Job) -> None:
        """Refuse what makes no sense while nothing is loaded."""
        name, window = self.decider.name, self.decider.window
        if window is not None and window < 1:
            raise UsageError(f"{name}: window {window}; it counts the ready layer, so give ≥ 1")
        if self.max_concurrency < 1:
            raise UsageError(f"{name}: {self.max_concurrency} requests at once; give ≥ 1")
        if self.decider.is_model and self.planner is None:
            raise UsageError(f"{name} asks a model; name one of {', '.join(self.residency.names)} as planner")
        if self.planner is not None:
            size, room = self.residency.size_bytes(self.planner), self.residency.room_bytes
            if size > room:
                raise BudgetError(
                    f"{self.planner}, which is to plan, takes {size} bytes of {room}; use a smaller model"
                )
        whole = seen(job, (), window=None, is_flat=self.flat)
        whole.problem(self.estimates, self.residency)


class Stepping:
    """A job under way."""

    def __init__(self, job: Job, setup: Setup) -> None:
        self.job, self.setup = job, setup
        self.residency, self.estimates = setup.residency, setup.estimates
        self.planner = setup.planner if setup.decider.is_model else None
        self.laps = Laps()
        self.steps: list[StepRun] = []
        self.answers: dict[str, str] = {}

    @property
    def is_done(self) -> bool:
        """Whether every task was answered."""
        return len(self.answers) == len(self.job.tasks)

    async def step(self) -> None:
        """Plan, load, answer, learn.

        Raises
        ------
        Broke: an engine, a load or the room; what was done until then stands in `steps`.
        """
        ahead, began_s = self._seen(), self.laps.now_s()
        step = StepRun(
            step=len(self.steps),
            window=self.setup.decider.window,
            horizon=ahead.names,
            ready=tuple(ahead.names[i] for i in ahead.layers[0]),
            began_s=began_s,
            done_s=began_s,
            resident_before=self.residency.resident,
            budget_bytes=self.residency.room_bytes,
        )
        self.steps.append(step)
        try:
            backend = await self._planner_backend(step)
            problem = self._problem(step, ahead)
            plan = await self._decided(step, ahead, problem, backend)
            models = await self._made_ready(step, ahead, problem, plan)
            await self._answered(step, models)
        finally:
            step.done_s = self.laps.now_s()
        self._graded(step)
        failed = next((run for run in step.tasks if run.error), None)
        if failed is not None:
            await self._dropped({run.model for run in step.tasks if run.is_lost})
            raise Broke(f"{self.job.id}.{failed.task} on {failed.model}: {failed.error}")

    async def _planner_backend(self, step: StepRun) -> Backend | None:
        """A client of the planning model, which is loaded first, evicting what is in its way."""
        if self.planner is None:
            return None
        if self.planner not in self.residency.resident:
            keep = beside(self.planner, self.residency, self.estimates)
            try:
                step.planner_change = await self._changed(step, keep, [self.planner])
            except BudgetError as exc:
                raise self._broke(step, f"loading {self.planner}", exc) from exc
        step.planning = self.residency.resident
        return self.residency.backend(self.planner)

    def _problem(self, step: StepRun, ahead: Seen) -> Problem:
        try:
            has_more = self.setup.more_follows or len(self.answers) + len(ahead.nodes) < len(self.job.tasks)
            return ahead.problem(self.estimates, self.residency, has_more=has_more)
        except BudgetError as exc:
            raise self._broke(step, "planning", exc) from exc

    async def _decided(self, step: StepRun, ahead: Seen, problem: Problem, backend: Backend | None) -> Plan:
        self.laps.lap("other_s")
        try:
            step.decision = await self.setup.decider.decide(problem, ahead.nodes, backend)
        except BackendError as exc:
            raise self._broke(step, "planning", exc) from exc
        finally:
            step.plan_s += self.laps.lap("plan_s")
        plan = step.decision.plan
        models = problem.fleet.models
        step.assignment = {task: models[m] for task, m in zip(ahead.names, plan.assignment, strict=True)}
        return plan

    async def _made_ready(self, step: StepRun, ahead: Seen, problem: Problem, plan: Plan) -> dict[str, str]:
        """Load what the plan's first step needs, or the greedy plan's where that is refused."""
        first = first_of(plan, problem, ahead.names, is_flat=self.setup.flat)
        try:
            return await self._loaded(step, first)
        except BudgetError:
            needed = self.residency.bytes_of(first.models.values())
            step.violates = step.replaced = True
            step.over_bytes = max(0, needed - self.residency.room_bytes)
        problem = self._problem(step, ahead)
        plan = GreedyPlanner().plan(problem)
        step.plan_s += self.laps.lap("plan_s")
        try:
            return await self._loaded(step, first_of(plan, problem, ahead.names))  # greedy has no order
        except BudgetError as exc:
            raise self._broke(step, "loading the greedy plan", exc) from exc

    async def _loaded(self, step: StepRun, first: First) -> dict[str, str]:
        keep = list(first.keep)
        if self.planner is not None:
            together = self.residency.bytes_of({*first.wanted, *keep, self.planner})
            if together <= self.residency.room_bytes:
                keep.append(self.planner)
        step.change = await self._changed(step, keep, first.wanted)
        step.ready = tuple(first.models)
        step.step_bytes = self.residency.bytes_of(first.models.values())
        return first.models

    async def _changed(self, step: StepRun, keep: Sequence[str], wanted: Sequence[str]) -> Change:
        """Change what is resident, and learn what loading takes; a refusal is the caller's to handle."""
        self.laps.lap("other_s")
        try:
            change = await self.residency.change(keep, wanted)
        except (BackendError, LaunchError) as exc:
            raise self._broke(step, f"loading {', '.join(wanted)}", exc) from exc
        finally:
            step.load_s += self.laps.lap("load_s")
        for name, load_s in change.load_s.items():
            self.estimates.learn_load(name, load_s)
        return change

    async def _answered(self, step: StepRun, models: dict[str, str]) -> None:
        self.laps.lap("other_s")
        step.tasks = await answer_tasks(
            self.job,
            models,
            self.answers,
            self.residency,
            gate=asyncio.Semaphore(self.setup.max_concurrency),
            clock=self.laps.now_s,
        )
        lap_s, busy = self.laps.lap("inference_s"), busy_s(step.tasks)
        self.laps.move(max(0.0, lap_s - busy), "inference_s", "other_s")
        for run in step.tasks:
            if run.answer is not None:
                self.answers[run.task] = run.answer

    async def _dropped(self, lost: set[str]) -> None:
        """Take lost engines down, so that the next job loads them anew."""
        with suppress(BackendError):  # what broke the job says more
            await self.residency.change([name for name in self.residency.resident if name not in lost], [])
        self.laps.lap("load_s")

    def _graded(self, step: StepRun) -> None:
        """Price and grade the step's answers while the clock stands still, and learn from the grades."""
        self.laps.lap("other_s")
        for run in step.tasks:
            if run.completion is None:
                continue
            tokens = _sum(run.completion.prompt_tokens, run.completion.output_tokens)
            run.token_cost = self.estimates.token_cost(run.model, tokens)
            if self.setup.grade is not None:
                task = self.job.task(run.task)
                run.grade = self.setup.grade(self.job, task, run.model, run.completion.text)
                self.estimates.learn_grade(run.model, task.node, run.grade.score)
        self.laps.skip()

    def _seen(self) -> Seen:
        return seen(self.job, self.answers, window=self.setup.decider.window, is_flat=self.setup.flat)

    def _broke(self, step: StepRun, doing: str, exc: Exception) -> Broke:
        return Broke(f"{self.job.id}, step {step.step}, {doing}: {type(exc).__name__}: {exc}")


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b
