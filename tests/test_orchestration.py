"""What running jobs promises: it stays in the budget and in order, and accounts for every second."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from time import perf_counter, sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import Backend
from harness.backends.fake import FakeBackend
from harness.clock import run_virtual
from harness.errors import BackendBroken, BackendRejected, BudgetError, LaunchError, UsageError, WorkloadError
from harness.hardware import DeviceBudget
from harness.routers.orchestration import (
    Computed,
    Decider,
    Decision,
    Estimates,
    JobRun,
    Residency,
    TaskRun,
    run_job,
)
from harness.routers.orchestration.answering import busy_s
from harness.routers.orchestration.loadable import DrawnOutcomes, KeptModel, SimulatedModel
from harness.routers.orchestration.record import critical_path
from harness.routers.orchestration.telemetry import artifact, events
from harness.routers.planning import (
    BestSinglePlanner,
    ExactPlanner,
    GreedyPlanner,
    LPPlanner,
    OrderFreePlanner,
    Problem,
    RandomPlanner,
    SequentialPlanner,
)
from harness.workflow.jobs import Grade, Job, JobTask, TaskNode
from tests.orchestrated import (
    TOKEN_S,
    TYPES,
    WEIGHTS,
    Always,
    Asking,
    Spread,
    job_of,
    prior,
    run_simulated,
    simulated,
)

DECIDERS = (
    Spread(),
    Computed(GreedyPlanner()),
    Computed(ExactPlanner()),
    Computed(SequentialPlanner()),
    Computed(OrderFreePlanner()),
    Computed(RandomPlanner(seed=3)),
    Computed(BestSinglePlanner()),
)
CHAIN = job_of(("extraction", "math", "code"), [(0, 1), (1, 2)])
FORK = job_of(("code", "math", "summarize"), [(0, 1), (0, 2)], name="fork")


def two(*, is_frozen: bool = True) -> Estimates:
    """Two models that are each the better one at something."""
    priors = (prior("alpha", code=0.9, summarize=0.9), prior("beta", math=0.9, extraction=0.9))
    return Estimates(priors, WEIGHTS, is_frozen=is_frozen)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Job], list[SimulatedModel], Estimates, int]:
    """Some jobs, a fleet and a budget that at least the smallest model fits."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    budget_bytes = draw(st.integers(min(sizes), 14))
    cells = st.integers(0, 8).map(lambda n: n / 8)
    names = [f"m{at}" for at in range(len(sizes))]
    priors = [prior(name, other=draw(cells), code=draw(cells), math=draw(cells)) for name in names]
    models = [
        simulated(name, size, load_s=draw(st.sampled_from((0.0, 0.5, 2.0))), slots=draw(st.integers(1, 2)))
        for name, size in zip(names, sizes, strict=True)
    ]
    jobs = []
    for at in range(draw(st.integers(1, 2))):
        types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=5))
        pairs = [(a, b) for b in range(len(types)) for a in range(b)]
        edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=4)) if pairs else []
        jobs.append(job_of(types, edges, name=f"job-{at}"))
    return jobs, models, Estimates(priors, WEIGHTS), budget_bytes


def check_order(run: JobRun) -> None:
    """Every task ran once, after its needs, with their answers in its prompt."""
    assert sorted(run.tasks) == sorted(task.id for task in run.job.tasks)
    assert sum(len(step.tasks) for step in run.steps) == len(run.job.tasks)
    for before, after in run.job.edges:
        earlier, later = run.tasks[before], run.tasks[after]
        assert earlier.done_s <= later.began_s
        assert earlier.answer in later.prompt


def check_memory(run: JobRun, budget_bytes: int) -> None:
    """Whatever was planned, what ran was loaded, and what was loaded fits."""
    for step in run.steps:
        assert step.used <= set(step.change.resident)
        assert step.change.resident_bytes <= budget_bytes
        assert step.violates == step.replaced
        assert (step.over_bytes > 0) == step.violates
    assert run.memory.resident_peak_bytes <= budget_bytes
    assert run.memory.step_peak_bytes <= run.memory.resident_peak_bytes <= run.memory.transition_peak_bytes


@settings(deadline=None, max_examples=60)
@given(case=cases(), decider=st.sampled_from(DECIDERS), flat=st.booleans(), concurrency=st.integers(1, 3))
def test_jobs_run_within_the_budget_in_order_and_every_second_is_accounted_for(
    case: tuple[list[Job], list[SimulatedModel], Estimates, int],
    decider: Decider,
    flat: bool,
    concurrency: int,
) -> None:
    """Holds for every decider, among them one that plans without regard to memory."""
    jobs, models, estimates, budget_bytes = case
    budget = DeviceBudget.create(budget_bytes)
    runs = run_simulated(jobs, decider, models, estimates, budget, flat=flat, max_concurrency=concurrency)
    for run in runs:
        assert run.error is None
        check_order(run)
        check_memory(run, budget_bytes)
        assert sum(run.parts.values()) == pytest.approx(run.wall_s)
        assert run.critical_path_s <= run.parts["inference_s"] + 1e-9
        assert min(run.parts.values()) >= 0
        assert json.loads(json.dumps(events(run))) == events(run)
    assert budget.peak_bytes <= budget_bytes
    assert budget.used_bytes == 0
    budget.remove()


def test_residents_stay_between_jobs() -> None:
    """A second job on the same model loads nothing, and what is not needed is evicted only for room."""
    models = [simulated("alpha", 4), simulated("beta", 4)]
    runs = run_simulated([CHAIN, CHAIN], Computed(GreedyPlanner()), models, two(), DeviceBudget.create(8))
    assert [run.num_loads for run in runs] == [2, 0]
    assert runs[1].parts["load_s"] == 0
    tight = run_simulated([CHAIN, CHAIN], Computed(GreedyPlanner()), models, two(), DeviceBudget.create(7))
    assert [run.num_loads for run in tight] == [2, 2]
    assert [name for step in tight[0].steps for name in step.change.evicted] == ["beta"]
    for old, new in pairwise(tight[0].steps):
        assert new.resident_before == old.change.resident


def test_a_violating_lp_plan_is_refused_by_the_allocator_and_greedys_runs_in_its_place() -> None:
    """The relaxed plan mixes a small and a large model; argmax then wants the large one whole."""
    priors = (prior("gemma", cost=0.4, load_s=0.6, math=0.45), prior("phi", cost=2.0, load_s=2.4, math=0.9))
    budget = DeviceBudget.create(8_000_000_000)
    models = [simulated("gemma", 2_000_000_000), simulated("phi", 12_500_000_000)]
    (run,) = run_simulated(
        [job_of(("math",), [])], Computed(LPPlanner()), models, Estimates(priors, WEIGHTS), budget
    )
    (step,) = run.steps
    assert step.assignment == {"s0": "phi"}
    assert run.models == {"s0": "gemma"}
    assert step.violates
    assert step.replaced
    assert step.over_bytes == 4_500_000_000
    assert budget.num_refusals == 1
    assert (run.num_violations, run.memory.num_violations, run.memory.over_bytes) == (1, 1, 4_500_000_000)


def test_a_refused_plan_evicts_nothing() -> None:
    """What does not fit is refused before room is made for it, so that the models loaded stay."""
    models = [simulated("alpha", 4), simulated("beta", 12)]
    budget = DeviceBudget.create(8)
    first, second = run_simulated([CHAIN, CHAIN], Always("beta"), models, two(), budget)
    assert first.num_loads == 1
    assert second.num_loads == 0
    assert second.num_violations == 3


def test_the_same_seeds_give_the_same_run() -> None:
    """Plans, times and drawn grades repeat to the last digit, learning included."""

    def run() -> list[object]:
        estimates = two(is_frozen=False)
        models = [simulated("alpha", 4), simulated("beta", 5)]
        grade = DrawnOutcomes(two().quality, seed=7)
        jobs = [job_of(("code", "math", "summarize"), [(0, 1), (0, 2)], name=f"fork-{at}") for at in range(5)]
        runs = run_simulated(
            jobs, Computed(SequentialPlanner()), models, estimates, DeviceBudget.create(8), grade=grade
        )
        return [[events(each), artifact(each, estimates)] for each in runs]

    assert run() == run()


def test_every_router_meets_the_same_draw_for_the_same_task_and_model() -> None:
    """A grade depends on seed, job, task and model, not on who asks or when."""
    grade = DrawnOutcomes(lambda model, kind, difficulty: 0.5, seed=1)
    jobs = [job_of(("code", "math"), [(0, 1)], name=f"j{at}") for at in range(20)]
    models = [simulated("alpha", 4), simulated("beta", 4)]
    seen: dict[tuple[str, str, str], float] = {}
    for decider in (Always("alpha"), Always("beta"), Computed(SequentialPlanner()), Spread()):
        for run in run_simulated(jobs, decider, models, two(), DeviceBudget.create(8), grade=grade):
            for task, done in run.tasks.items():
                score = seen.setdefault((run.job.id, task, done.model), done.grade.score)
                assert score == done.grade.score
    assert {0.0, 1.0} == set(seen.values())
    pairs = [
        (grade(job, job.tasks[0], "alpha", "").score, grade(job, job.tasks[0], "x", "").score) for job in jobs
    ]
    assert len(set(pairs)) > 2, "draws of two models are independent"


def test_flat_plans_once_and_answers_as_the_edges_allow() -> None:
    """All models of the one plan are loaded at once; no task waits for more than its own needs."""
    models = [simulated("alpha", 4), simulated("beta", 4)]
    job = job_of(("code", "math", "summarize", "math"), [(0, 1), (2, 3)], name="two chains", max_tokens=8)
    (run,) = run_simulated([job], Spread(), models, two(), DeviceBudget.create(8), flat=True)
    (step,) = run.steps
    assert step.horizon == ("s0", "s1", "s2", "s3")
    assert step.change.loaded == ("alpha", "beta")
    check_order(run)


def test_a_plan_that_orders_tasks_itself_runs_its_first_task_alone() -> None:
    """Parallel branches are run one after the other, in the order that loads least."""
    priors = (prior("alpha", code=0.9, summarize=0.9), prior("beta", math=0.9))
    models = [simulated("alpha", 5), simulated("beta", 5)]
    estimates = Estimates(priors, WEIGHTS)
    (run,) = run_simulated([FORK], Computed(OrderFreePlanner()), models, estimates, DeviceBudget.create(8))
    assert [step.ready for step in run.steps] == [("s0",), ("s2",), ("s1",)]
    assert run.models == {"s0": "alpha", "s2": "alpha", "s1": "beta"}
    assert run.num_loads == 2
    check_order(run)


def test_a_flat_plan_is_one_step_whatever_order_it_names() -> None:
    """It was made without the edges, so that its order may begin with a task that waits for another."""
    priors = (prior("alpha", code=0.9, summarize=0.9, load_s=9.0), prior("beta", math=0.9, load_s=9.0))
    job = job_of(("math", "code", "summarize"), [(0, 1), (0, 2)], name="backwards")
    models = [simulated("alpha", 5), simulated("beta", 5)]
    for planner in (OrderFreePlanner(), ExactPlanner()):
        (run,) = run_simulated(
            [job], Computed(planner), models, Estimates(priors, WEIGHTS), DeviceBudget.create(8), flat=True
        )
        assert len(run.steps) == 1
        check_order(run)


def test_a_plan_that_begins_with_a_task_that_must_wait_is_refused() -> None:
    """Else the step would answer nothing, and so would the next."""

    class Backwards(Always):
        async def decide(
            self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None
        ) -> Decision:
            decision = await super().decide(problem, tasks, backend)
            return decision._replace(plan=decision.plan._replace(order=((problem.num_tasks - 1,),)))

    decider = Backwards("alpha")
    decider.window = None
    said = refused(CHAIN, decider, two(), 8, UsageError)
    assert said == "a plan begins with s2, which needs s1 first; keep to the edges"


def test_grading_stands_outside_the_jobs_time() -> None:
    """The clock is stopped while answers are graded, since no server waits for that."""
    graded_s = []

    def grade(job: Job, task: JobTask, model: str, text: str) -> Grade:
        began_s = perf_counter()
        sleep(0.02)
        graded_s.append(perf_counter() - began_s)
        return Grade(1.0, True)

    async def main() -> tuple[JobRun, float]:
        models = [KeptModel(name, 4, FakeBackend(name=name)) for name in ("alpha", "beta")]
        async with Residency(models, DeviceBudget.create(8)) as residency:
            began_s = perf_counter()
            run = await run_job(CHAIN, Always("alpha"), residency, two(), grade=grade)
            return run, perf_counter() - began_s

    run, whole_s = asyncio.run(main())
    assert run.score == 1.0
    assert run.wall_s <= whole_s - sum(graded_s)
    assert sum(run.parts.values()) == pytest.approx(run.wall_s, rel=0.02)


def test_the_window_shows_that_many_layers() -> None:
    """Answered tasks are never planned again."""
    for window, horizons in (
        (1, ["s0", "s1", "s2"]),
        (2, ["s0 s1", "s1 s2", "s2"]),
        (None, ["s0 s1 s2", "s1 s2", "s2"]),
    ):
        decider = Computed(SequentialPlanner(window=window))
        (run,) = run_simulated(
            [CHAIN], decider, [simulated("alpha", 1), simulated("beta", 1)], two(), DeviceBudget.create(2)
        )
        assert [" ".join(step.horizon) for step in run.steps] == horizons


def test_requests_wait_for_slots_and_for_the_limit() -> None:
    """Two tasks on one slot take twice as long as on two; so they do under a limit of one."""
    job = job_of(("code", "code"), [])

    def inference_s(slots: int, limit: int) -> float:
        models = [simulated("alpha", 1, slots=slots), simulated("beta", 1)]
        (run,) = run_simulated(
            [job], Always("alpha"), models, two(), DeviceBudget.create(2), max_concurrency=limit
        )
        return run.parts["inference_s"]

    assert inference_s(1, 8) == pytest.approx(2 * 8 * TOKEN_S)
    assert inference_s(2, 1) == pytest.approx(2 * 8 * TOKEN_S)
    assert inference_s(2, 8) < 2 * 8 * TOKEN_S


def test_the_planning_model_is_loaded_first_and_charged() -> None:
    """Its load evicts what is in the way; its seconds, tokens and bytes stand in the job's."""
    models = [simulated("alpha", 3), simulated("beta", 3), simulated("chief", 6, load_s=2.0)]
    decider, budget = Asking(), DeviceBudget.create(8)
    runs = run_simulated(
        [FORK, FORK], decider, models, two(), budget, planner="chief", planner_cost_per_ktoken=1000.0
    )
    for run in runs:
        assert run.error is None
        assert run.statuses == {"valid": 2}
        assert run.memory.step_peak_bytes == 6
        assert run.memory.sum_distinct_bytes == 12
        assert run.parts["plan_s"] == pytest.approx(2 * 4 * TOKEN_S)
        answered = sum(task.completion.output_tokens for task in run.tasks.values())
        assert run.output_tokens == answered + 2 * 4
        asked = sum(step.decision.prompt_tokens + step.decision.output_tokens for step in run.steps)
        tasks = sum(task.token_cost for task in run.tasks.values())
        assert run.token_cost == pytest.approx(asked + tasks)
    assert decider.resident[0] == frozenset()
    assert runs[0].steps[1].planner_change.evicted == ("alpha",)
    assert runs[0].planner_load_s == 4.0
    assert budget.peak_bytes <= 8
    summary = events(runs[0])[-1]
    assert summary["planner_load_s"] == 4.0
    assert summary["loads"] == runs[0].num_loads


def test_a_planning_model_stays_where_there_is_room() -> None:
    """With room beside the models it is loaded once."""
    models = [simulated("alpha", 3), simulated("beta", 3), simulated("chief", 6)]
    runs = run_simulated([FORK, FORK], Asking(), models, two(), DeviceBudget.create(12), planner="chief")
    assert [run.num_loads for run in runs] == [3, 0]
    assert runs[0].token_cost is None


def test_what_costs_most_to_load_again_stays_beside_a_planning_model() -> None:
    """Whichever was loaded first, the dear one is kept and the cheap one makes room."""
    for dear, cheap in (("alpha", "beta"), ("beta", "alpha")):
        priors = (
            prior("alpha", code=0.9, summarize=0.9, load_s=1.5 if dear == "alpha" else 1.0),
            prior("beta", math=0.9, load_s=1.5 if dear == "beta" else 1.0),
        )
        models = [
            *(simulated(name, 3, load_s=1.5 if name == dear else 1.0) for name in ("alpha", "beta")),
            simulated("chief", 5),
        ]
        estimates = Estimates(priors, WEIGHTS)
        first, second = run_simulated(
            [FORK, FORK], Asking(), models, estimates, DeviceBudget.create(8), planner="chief"
        )
        assert first.steps[-1].change.resident == ("alpha", "beta")
        assert second.steps[0].planner_change.evicted == (cheap,)


def test_busy_time_counts_overlaps_once_and_gaps_not_at_all() -> None:
    """The seconds in which something was being answered."""
    spans = ((0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (7.0, 8.0))
    runs = [
        TaskRun(task=f"s{at}", model="a", began_s=began_s, done_s=done_s)
        for at, (began_s, done_s) in enumerate(spans)
    ]
    assert busy_s(runs) == 6.0
    assert busy_s(reversed(runs)) == 6.0
    assert busy_s([]) == 0.0


def test_learning_moves_quality_by_grades_alone_and_load_times_always() -> None:
    """Frozen estimates keep their quality; both learn how long loads take."""
    models = [simulated("alpha", 4, load_s=3.0), simulated("beta", 4, load_s=3.0)]

    def learned(is_frozen: bool, *, is_graded: bool) -> Estimates:
        estimates = two(is_frozen=is_frozen)
        grade = DrawnOutcomes(lambda model, kind, difficulty: 0.0, seed=0) if is_graded else None
        run_simulated([CHAIN], Always("alpha"), models, estimates, DeviceBudget.create(8), grade=grade)
        return estimates

    believed = two().snapshot()
    assert learned(True, is_graded=True).snapshot() == believed
    assert learned(False, is_graded=False).snapshot() == believed
    taught = learned(False, is_graded=True)
    assert taught.snapshot()["alpha"]["code"] == pytest.approx(0.9 * 8 / 9)
    assert taught.snapshot()["beta"] == believed["beta"]
    assert (taught.load_s("alpha"), taught.load_s("beta")) == (3.0, 1.0)


def test_a_kept_model_has_no_load_time() -> None:
    """Its loads are counted; how long they take is absent and teaches nothing."""
    estimates = two()
    models = [KeptModel(name, 4, FakeBackend(name=name)) for name in ("alpha", "beta")]
    (run,) = run_simulated([CHAIN], Computed(GreedyPlanner()), models, estimates, DeviceBudget.create(4))
    assert run.num_loads == 2
    assert [list(step.change.load_s.values()) for step in run.steps] == [[None], [], [None]]
    assert estimates.load_s("alpha") == 1.0


def test_an_engine_that_breaks_ends_its_job_and_not_the_next() -> None:
    """The error is kept with what was answered before it; later tasks are not asked."""
    broken = FakeBackend(name="alpha", fail={1: BackendBroken("alpha: the answer broke off")})
    models = [KeptModel("alpha", 4, broken), KeptModel("beta", 4, FakeBackend(name="beta"))]
    first, second = run_simulated([CHAIN, CHAIN], Always("alpha"), models, two(), DeviceBudget.create(8))
    assert first.error == "job.s1 on alpha: BackendBroken: alpha: the answer broke off"
    assert list(first.tasks) == ["s0", "s1"]
    assert first.models == {"s0": "alpha"}
    assert first.scores == {"s0": None, "s1": None, "s2": None}
    assert first.critical_path_s is None
    assert events(first)[-1]["error"] == first.error
    assert second.error is None


def test_a_lost_engine_is_loaded_anew_by_the_next_job() -> None:
    """It is taken down when its job ends; one that refused a request is well and stays."""
    budget = DeviceBudget.create(8)
    models = [simulated("alpha", 4), simulated("beta", 4)]

    async def main() -> tuple[JobRun, JobRun]:
        async with Residency(models, budget) as residency:
            await residency.change([], ["alpha", "beta"])
            models[0]._engine.stop()
            first = await run_job(CHAIN, Always("alpha"), residency, two())
            assert residency.resident == ("beta",)
            return first, await run_job(CHAIN, Always("alpha"), residency, two())

    first, second = run_virtual(main())
    assert "alpha was stopped; launch it again" in first.error
    assert second.error is None
    assert second.steps[0].change.loaded == ("alpha",)

    refusing = FakeBackend(fail={0: BackendRejected("alpha: the prompt is too long; shorten it")})
    kept = [KeptModel("alpha", 4, refusing), KeptModel("beta", 4, FakeBackend())]
    _, well = run_simulated([CHAIN, CHAIN], Always("alpha"), kept, two(), DeviceBudget.create(8))
    assert well.num_loads == 0


def test_a_sibling_of_a_task_that_fails_still_ends() -> None:
    """What runs at the same time is kept; what needs the failed task is left out, flat or not."""
    for flat in (False, True):
        broken = FakeBackend(name="alpha", token_s=0.01, fail={0: BackendBroken("alpha: gone")})
        models = [KeptModel("alpha", 4, broken, slots=2), KeptModel("beta", 4, FakeBackend(), slots=2)]
        job = job_of(("code", "code", "code"), [(0, 2)], name="pair")
        (run,) = run_simulated([job], Always("alpha"), models, two(), DeviceBudget.create(8), flat=flat)
        assert run.models == {"s1": "alpha"}
        assert "gone" in run.error
        assert "s2" not in run.tasks


class Unloadable(SimulatedModel):
    """Fails to load, as an engine with a corrupt file does."""

    async def load(self) -> FakeBackend:
        raise LaunchError(f"{self.name}: llama.cpp could not load it; convert the model again")


def test_a_model_that_does_not_load_ends_the_job() -> None:
    """The job says what was to be loaded and why it was not; the ledger is clean."""
    priors = (prior("alpha"), prior("beta"))
    bad = Unloadable("alpha", 4, load_s=0.0, timing=simulated("x", 1).timing)
    budget = DeviceBudget.create(8)
    (run,) = run_simulated(
        [CHAIN], Always("alpha"), [bad, simulated("beta", 4)], Estimates(priors, WEIGHTS), budget
    )
    assert run.error.startswith("job, step 0, loading alpha: LaunchError: alpha: llama.cpp could not load it")
    assert run.memory is None
    assert events(run)[-1]["step_peak_bytes"] is None
    assert budget.used_bytes == 0


@pytest.mark.parametrize("moment_s", [0.5, 1.0, 1.03, 2.05])
def test_a_job_that_is_cancelled_half_way_leaves_nothing_loaded(moment_s: float) -> None:
    """While loading, between, while answering: every byte is given back and no request is left."""
    budget = DeviceBudget.create(4)
    backends: list[SimulatedModel] = [simulated("alpha", 4), simulated("beta", 4)]

    async def main() -> None:
        async with Residency(backends, budget) as residency:
            await run_job(CHAIN, Computed(GreedyPlanner()), residency, two())

    async def cut() -> tuple[int, int]:
        task = asyncio.create_task(main())
        await asyncio.sleep(moment_s)
        used = budget.used_bytes
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return used, len(asyncio.all_tasks()) - 1

    used, left = run_virtual(cut())
    assert used == 4
    assert left == 0
    assert budget.used_bytes == 0
    assert all(model._engine is None for model in backends)


def refused(
    job: Job,
    decider: Decider,
    estimates: Estimates,
    budget_bytes: int,
    kind: type[Exception],
    **options: object,
) -> str:
    """The message; nothing was drawn on the budget."""
    budget = DeviceBudget.create(budget_bytes)
    models = [simulated("alpha", 4), simulated("beta", 4), simulated("chief", 6)]
    with pytest.raises(kind) as caught:
        run_simulated([job], decider, models, estimates, budget, **options)
    assert budget.peak_bytes == 0
    return str(caught.value)


def test_what_makes_no_sense_is_refused_before_anything_is_loaded() -> None:
    """Each message says what is wrong and what to do."""
    greedy = Computed(GreedyPlanner())
    unknown = Estimates((prior("alpha"), prior("gamma")), WEIGHTS)
    creative = job_of(("code", "creative"), [(0, 1)])
    said = {
        "window": refused(CHAIN, Computed(SequentialPlanner(window=0)), two(), 8, UsageError),
        "limit": refused(CHAIN, greedy, two(), 8, UsageError, max_concurrency=0),
        "no model": refused(CHAIN, greedy, unknown, 8, UsageError),
        "no planner": refused(CHAIN, Asking(), two(), 8, UsageError),
        "other planner": refused(CHAIN, Asking(), two(), 8, UsageError, planner="boss"),
        "large planner": refused(CHAIN, Asking(), two(), 5, BudgetError, planner="chief"),
        "no room": refused(CHAIN, greedy, two(), 3, BudgetError),
        "no prior": refused(creative, greedy, two(), 8, WorkloadError),
        "no load time": refused(
            CHAIN, greedy, Estimates((prior("alpha", load_s=None), prior("beta")), WEIGHTS), 8, UsageError
        ),
    }
    for part, message in said.items():
        assert "\n" not in message
        assert any(mark in message for mark in (";", ":")), part
    assert "give ≥ 1" in said["window"]
    assert "no model 'gamma'; use alpha, beta, chief" in said["no model"]
    assert "no prior for tasks of type 'creative'" in said["no prior"]


def test_the_critical_path_is_the_longest_chain_of_answers() -> None:
    """Over the edges of the job, whatever the layers."""
    models = [simulated("alpha", 1, slots=4), simulated("beta", 1)]
    job = job_of(("code", "math", "summarize"), [(0, 2)], name="side")
    (run,) = run_simulated([job], Always("alpha"), models, two(), DeviceBudget.create(2))
    assert critical_path(run) == ("s0", "s2")
    taken: Sequence[float] = [run.tasks[name].done_s - run.tasks[name].began_s for name in ("s0", "s2")]
    assert run.critical_path_s == pytest.approx(sum(taken))
