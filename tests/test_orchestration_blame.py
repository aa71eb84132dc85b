"""A violation is the plan's own: what engines take beyond what they declared, or others take, is an error."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.backends import Backend
from harness.clock import run_virtual
from harness.errors import BackendTimeout, OversizeError
from harness.hardware import Allocation, DeviceBudget
from harness.routers.orchestration import (
    Computed,
    Decision,
    Estimates,
    JobRun,
    Residency,
    priors_of,
    run_job,
    run_jobs,
    weights_of,
)
from harness.routers.orchestration.loadable import SimulatedModel
from harness.routers.orchestration.telemetry import plan_step
from harness.routers.planning import ExactPlanner, GreedyPlanner, Planner, Problem, SequentialPlanner
from harness.routers.planning.published import fleet
from harness.workflow.jobs import TaskNode
from harness.workflow.jobs.file import published
from tests.orchestrated import WEIGHTS, Always, job_of, prior, simulated

GB = 10**9
ONE = job_of(("code",), [])


class Bigger(SimulatedModel):
    """An engine that takes 1.35 times what was declared, as one with a long context does."""

    fails_unload = False

    @property
    def taken_bytes(self) -> int:
        return round(1.35 * self.num_bytes)

    async def unload(self) -> None:
        if self.fails_unload:
            raise BackendTimeout(f"{self.name}: still there")
        await super().unload()


def bigger(name: str, num_bytes: int) -> Bigger:
    return Bigger(name, num_bytes, load_s=1.0, timing=simulated("x", 1).timing)


def estimates() -> Estimates:
    """`alpha` is the better one."""
    return Estimates((prior("alpha", code=0.9), prior("beta")), WEIGHTS)


@pytest.mark.parametrize("planner", [ExactPlanner(), SequentialPlanner()], ids=lambda planner: planner.name)
def test_an_engine_that_takes_more_than_declared_is_no_violation(planner: Planner) -> None:
    """The job ends with both sizes; plans after that know, and with the sizes kept none fails again."""
    row, rows = fleet("agents_heavy")
    sizes: dict[str, int] = {}

    async def passed() -> list[JobRun]:
        budget = DeviceBudget.create(8 * GB)
        try:
            models = [Bigger.published(each) for each in rows]
            async with Residency(models, budget, sizes=sizes) as residency:
                told = Estimates(priors_of(rows), weights_of(row))
                return await run_jobs(published().jobs, Computed(planner), residency, told)
        finally:
            budget.remove()

    first, again = run_virtual(passed()), run_virtual(passed())
    assert [run.job.id for run in first if run.error] == ["wb1", "wb2"]
    assert "OversizeError: qwen2.5-coder:7b takes 8775000000 bytes and was declared with 65" in first[0].error
    assert "OversizeError: llama3.1:8b takes 10800000000 bytes" in first[1].error
    assert [run.error for run in again] == [None] * 3
    assert [run.num_violations for run in (*first, *again)] == [0] * 6
    assert not any(step.replaced for run in (*first, *again) for step in run.steps)


def test_what_an_engine_takes_is_remembered_where_sizes_are_kept() -> None:
    """Across residencies, of what is ours, and never less than declared."""
    sizes = {"beta": 1, "other": 7}

    async def main() -> None:
        async with Residency([bigger("alpha", 4), simulated("beta", 2)], budget, sizes=sizes) as residency:
            await residency.change([], ["alpha", "beta"])
        assert sizes == {"alpha": 5, "beta": 1, "other": 7}
        residency = Residency([bigger("alpha", 4), simulated("beta", 2)], budget, sizes=sizes)
        assert (residency.size_bytes("alpha"), residency.size_bytes("beta")) == (5, 2)
        assert Residency([bigger("alpha", 4)], budget).size_bytes("alpha") == 4

    budget = DeviceBudget.create(8)
    run_virtual(main())


def test_a_model_that_outgrew_its_room_and_does_not_go_counts_for_what_it_holds() -> None:
    """No room is invented from the bytes that it was refused."""

    async def main() -> None:
        model = bigger("alpha", 20)
        residency = Residency([model, simulated("beta", 10)], budget)
        model.fails_unload = True
        with pytest.raises(OversizeError, match="alpha takes 27 bytes and was declared with 20"):
            await residency.change([], ["alpha"])
        assert (budget.used_bytes, residency.room_bytes) == (20, 24)
        model.fails_unload = False
        await residency.change([], ["beta"])
        assert (budget.used_bytes, residency.room_bytes) == (10, 24)
        await residency.aclose()

    budget = DeviceBudget.create(24)
    run_virtual(main())


class Meanwhile(Always):
    """While it decides, others take room or give it back."""

    def __init__(self, model: str, budget: DeviceBudget, *, takes: int = 0, gives: int = 0) -> None:
        super().__init__(model)
        self.budget, self.takes = budget, takes
        self.others: list[Allocation] = [budget.allocate(gives, owner="other")] if gives else []

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        while self.others:
            self.others.pop().release()
        if self.takes:
            self.others.append(self.budget.allocate(self.takes, owner="other"))
        return await super().decide(problem, tasks, backend)


def met(takes: int = 0, gives: int = 0, *, beta: int = 4) -> JobRun:
    """One task on `alpha`, which takes 6 of 8 bytes."""

    async def main() -> JobRun:
        async with Residency([simulated("alpha", 6), simulated("beta", beta)], budget) as residency:
            decider = Meanwhile("alpha", budget, takes=takes, gives=gives)
            return await run_job(ONE, decider, residency, estimates())

    budget = DeviceBudget.create(8)
    return run_virtual(main())


def test_room_that_another_takes_after_planning_is_no_violation() -> None:
    """The plan fitted what it was told; the job ends, and says who holds the room."""
    run = met(takes=3)
    (step,) = run.steps
    assert run.error.startswith("job, step 0, loading alpha: BudgetError: alpha: 6 bytes asked, 5 of 8 are")
    assert "held by other 3" in run.error
    assert (step.violates, step.over_bytes, step.replaced, step.budget_bytes) == (False, 0, False, 8)


def test_a_plan_beyond_the_room_it_was_told_of_violates_whatever_others_do_then() -> None:
    """By the room as it was: less of it later adds nothing, and more of it lets the plan run after all."""
    over = met(gives=3, takes=4)
    (step,) = over.steps
    assert (step.violates, step.over_bytes, step.replaced, step.budget_bytes) == (True, 1, True, 5)
    assert over.models == {"s0": "beta"}
    eased = met(gives=3)
    (step,) = eased.steps
    assert (step.violates, step.over_bytes, step.replaced) == (True, 1, False)
    assert eased.models == {"s0": "alpha"}


def test_a_greedy_plan_that_finds_no_room_breaks_the_job() -> None:
    """The violation stays counted; the error is of the room that went."""
    run = met(gives=3, takes=4, beta=5)
    assert run.num_violations == 1
    assert run.error.startswith("job, step 0, planning: BudgetError: ")


def test_a_steps_event_tells_its_memory_from_the_beginning() -> None:
    """What was there before, what it was while a model planned (none did), and after the load."""

    async def main() -> list[JobRun]:
        async with Residency([simulated("alpha", 6), simulated("beta", 4)], budget) as residency:
            jobs = [job_of(("code",), [], name=name) for name in ("one", "two")]
            return await run_jobs(jobs, Computed(GreedyPlanner()), residency, estimates())

    budget = DeviceBudget.create(8)
    first, second = (plan_step(run, run.steps[0]) for run in run_virtual(main()))
    memory = ("resident_before_bytes", "planning_resident_bytes", "resident_bytes")
    assert [first[name] for name in memory] == [0, None, 6]
    assert [second[name] for name in memory] == [6, None, 6]
    assert first["planning_began_s"] == 0.0
