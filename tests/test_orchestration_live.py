"""Pocket specialists on llama.cpp run jobs for real: loaded, answered, graded, dropped."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from harness.errors import BackendUnreachable, ModelError, UsageError
from harness.grading import CodeGrader
from harness.hardware import DeviceBudget
from harness.models import get, gguf_path
from harness.routers.orchestration import Computed, Decider, Estimates, JobRun, Residency, graded_by, run_jobs
from harness.routers.orchestration.loadable import EmbeddedModel, gguf_bytes
from harness.routers.orchestration.telemetry import events
from harness.routers.planning import OrderFreePlanner, SequentialPlanner
from harness.workflow.jobs.pocket import pocket_job
from tests.orchestrated import WEIGHTS, Always, prior

SPECIALISTS = ("nano", "code", "math")
PRIORS = (
    prior("nano", extraction=0.9, summarize=0.9, reasoning=0.4, other=0.1, load_s=0.1),
    prior("code", code=0.9, reasoning=0.9, other=0.1, load_s=0.1),
    prior("math", math=0.9, other=0.1, load_s=0.1),
    prior("large", other=0.0, load_s=0.1),
)
JOBS = tuple(pocket_job(f"{shape}-000", shape, random.Random(3)) for shape in ("wb1", "wb2", "wb3"))
BUDGET_BYTES = 4_500_000
"""Two of the three specialists at once, not all, and not the large model."""


def models() -> list[EmbeddedModel]:
    return [EmbeddedModel(f"{name}=pocket:{name}") for name in (*SPECIALISTS, "large")]


def run_live(decider: Decider, budget_bytes: int = BUDGET_BYTES) -> tuple[list[JobRun], DeviceBudget]:
    budget = DeviceBudget.create(budget_bytes)

    async def main() -> list[JobRun]:
        async with Residency(models(), budget) as residency:
            with CodeGrader() as grader:
                estimates = Estimates(PRIORS, WEIGHTS)
                return await run_jobs(JOBS, decider, residency, estimates, grade=graded_by(grader))

    return asyncio.run(main()), budget


@pytest.fixture(scope="module")
def live() -> tuple[list[JobRun], DeviceBudget]:
    """The three jobs, run once."""
    return run_live(Computed(SequentialPlanner()))


def test_specialists_answer_jobs_within_the_budget(live: tuple[list[JobRun], DeviceBudget]) -> None:
    """Each task goes to its specialist, models are swapped, and nothing is left."""
    runs, budget = live
    assert [run.error for run in runs] == [None, None, None]
    for run in runs:
        for task in run.job.tasks:
            assert run.models[task.id] in SPECIALISTS
    assert {run.models["s2"] for run in runs if run.job.shape == "wb1"} == {"code"}
    assert runs[0].models["s1"] == "math"
    assert any(change.evicted for run in runs for step in run.steps for change in step.changes)
    assert 0 < budget.peak_bytes <= BUDGET_BYTES
    assert budget.used_bytes == 0


def test_every_second_of_a_live_job_is_accounted_for(live: tuple[list[JobRun], DeviceBudget]) -> None:
    """Within 2 % of the job's wall time; loads are measured, and answering is most of what is not loading."""
    for run in live[0]:
        assert sum(run.parts.values()) == pytest.approx(run.wall_s, rel=0.02)
        loads = [s for step in run.steps for change in step.changes for s in change.load_s.values()]
        assert all(s is not None and s > 0 for s in loads)
        assert sum(loads) <= run.parts["load_s"]
        assert 0 < run.critical_path_s <= run.parts["inference_s"] + 1e-6
        assert sum(step.plan_s for step in run.steps) == pytest.approx(run.parts["plan_s"])


def test_live_answers_are_graded_and_travel_along_the_edges() -> None:
    """The large model solves most of nine tasks, which it cannot without the answers before."""
    runs, _ = run_live(Always("large"), budget_bytes=16_000_000)
    scores = [score for run in runs for score in run.scores.values()]
    assert sum(score for score in scores if score is not None) >= 6
    for run in runs:
        assert run.score is not None
        summary = events(run)[-1]
        assert summary["prompt_tokens"] > 0
        assert summary["output_tokens"] > 0
        assert not any("{s" in task.prompt for task in run.tasks.values())


def test_a_live_plan_may_reorder_branches() -> None:
    """The order-free planner runs one task at a time, after what it needs."""
    runs, _ = run_live(Computed(OrderFreePlanner()))
    for run in runs:
        assert run.error is None
        assert [len(step.tasks) for step in run.steps] == [1, 1, 1]
        for before, after in run.job.edges:
            assert run.tasks[before].done_s <= run.tasks[after].began_s


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05])
def test_a_live_job_that_is_cancelled_leaves_no_engine(delay_s: float) -> None:
    """Wherever it is cut: the engines are gone, their ports closed, the budget empty."""
    budget, fleet = DeviceBudget.create(BUDGET_BYTES), models()
    backends = []

    async def main() -> None:
        async with Residency(fleet, budget) as residency:
            await residency.change([], ["nano"])
            backends.append(residency.backend("nano"))
            estimates = Estimates(PRIORS, WEIGHTS)
            many = run_jobs(JOBS * 100, Computed(SequentialPlanner()), residency, estimates)
            task = asyncio.create_task(many)
            await asyncio.sleep(delay_s)
            task.cancel()
            await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert budget.used_bytes == 0
    with pytest.raises(BackendUnreachable):
        asyncio.run(_ready(backends[0]))


async def _ready(backend: object) -> None:
    try:
        await backend.ready()  # type: ignore[attr-defined]
    finally:
        await backend.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*SPECIALISTS, "large"])
def test_a_pocket_models_bytes_are_its_weights_and_its_cache(name: str) -> None:
    """Weights in f16 but for the norms, and the keys and values of the context that it is launched with."""
    spec, path = get(name), gguf_path(name)
    weights = gguf_bytes(path, 0)
    assert 2 * spec.params <= weights <= 2.05 * spec.params
    assert weights < path.stat().st_size
    assert EmbeddedModel(f"a=pocket:{name}").num_bytes == weights + 1024 * spec.kv_bytes_per_token()
    wide = EmbeddedModel(f"a=pocket:{name}?n_ctx=512&n_parallel=4")
    assert wide.num_bytes == weights + 4 * 512 * spec.kv_bytes_per_token()
    assert wide.slots == 4


def test_what_is_not_embedded_or_no_model_is_refused(tmp_path: Path) -> None:
    """With what would do."""
    with pytest.raises(UsageError, match="use pocket:NAME or gguf:FILE"):
        EmbeddedModel("a=http://127.0.0.1:9")
    with pytest.raises(ModelError, match="unknown model 'giant'"):
        EmbeddedModel("a=pocket:giant")
    (tmp_path / "bad.gguf").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"bad\.gguf: no GGUF file"):
        EmbeddedModel(f"a=gguf:{tmp_path / 'bad.gguf'}")
    with pytest.raises(ModelError, match=r"none\.gguf: no GGUF file"):
        EmbeddedModel(f"a=gguf:{tmp_path / 'none.gguf'}")
