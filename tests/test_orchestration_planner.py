"""A model that plans and is routed to as well is one model: loaded, drawn, charged and dropped once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends import Backend
from harness.clock import run_virtual
from harness.hardware import DeviceBudget
from harness.routers.orchestration import Estimates, JobRun, Residency, run_job, run_jobs
from harness.routers.orchestration.loadable import OllamaModel, SimulatedModel
from harness.routers.orchestration.telemetry import events
from tests.ollama_server import OllamaServer
from tests.orchestrated import TYPES, WEIGHTS, Always, Asking, job_of, prior, run_simulated, simulated

MB = 10**6
CHAIN = job_of(("extraction", "math", "code"), [(0, 1), (1, 2)])
CODE = job_of(("code",), [], name="code")


def two() -> Estimates:
    """`chief` is the better one at code, `beta` at the rest."""
    others = {kind: 0.9 for kind in TYPES if kind != "code"}
    return Estimates((prior("chief", cost=2.0, code=0.9), prior("beta", **others)), WEIGHTS)


def asked(jobs: Sequence[object], budget: DeviceBudget, **options: object) -> list[JobRun]:
    """Jobs that `chief` plans, which takes 5 bytes and 3 s to load; `beta` takes 4 and 1."""
    models = [simulated("chief", 5, load_s=3.0), simulated("beta", 4, load_s=1.0)]
    return run_simulated(jobs, Asking(), models, two(), budget, planner="chief", **options)


def test_a_planner_that_answers_too_is_loaded_once_where_there_is_room() -> None:
    """Its load is that of planning; the tasks that it answers load nothing, nor does the next job."""
    budget = DeviceBudget.create(9)
    first, second = asked([CHAIN, CHAIN], budget)
    assert first.models == {"s0": "beta", "s1": "beta", "s2": "chief"}
    assert [first.num_loads, second.num_loads] == [2, 0]
    assert [first.planner_load_s, second.planner_load_s] == [3.0, None]
    assert [first.parts["load_s"], second.parts["load_s"]] == [4.0, 0.0]
    assert [step.planning_bytes for step in first.steps] == [5, 9, 9]
    assert (first.memory.resident_peak_bytes, first.memory.sum_distinct_bytes) == (9, 9)
    assert first.memory.step_peak_bytes == 5
    assert budget.peak_bytes == 9


def test_a_planner_that_answers_too_is_swapped_like_any_other() -> None:
    """Where both do not fit it goes for the other model, and comes back to plan; it answers as it is then."""
    budget = DeviceBudget.create(8)
    (run,) = asked([CHAIN], budget)
    assert run.models == {"s0": "beta", "s1": "beta", "s2": "chief"}
    told = [event for event in events(run) if event["event"] == "plan_step"]
    assert [event["loaded"] for event in told] == [["chief", "beta"], ["chief", "beta"], ["chief"]]
    assert [event["evicted"] for event in told] == [["chief"], ["beta", "chief"], ["beta"]]
    assert [event["load_s"] for event in told] == [{"chief": 3.0, "beta": 1.0}] * 2 + [{"chief": 3.0}]
    assert [event["resident_before_bytes"] for event in told] == [0, 4, 4]
    assert [event["planning_resident"] for event in told] == [["chief"]] * 3
    assert [event["planning_resident_bytes"] for event in told] == [5, 5, 5]
    assert [event["resident_bytes"] for event in told] == [4, 4, 5]
    for event in told:
        assert event["planning_began_s"] == pytest.approx(event["began_s"] + 3.0)
    assert (run.num_loads, run.planner_load_s, run.parts["load_s"]) == (5, 9.0, 11.0)
    assert (run.memory.step_peak_bytes, run.memory.sum_distinct_bytes, budget.peak_bytes) == (5, 9, 5)


def test_a_planner_that_was_loaded_to_answer_is_not_charged_as_planning() -> None:
    """Neither its load nor its bytes a second time; its tokens cost what its prior says."""

    async def main() -> tuple[JobRun, JobRun]:
        models = [simulated("chief", 5, load_s=3.0), simulated("beta", 4)]
        async with Residency(models, DeviceBudget.create(8)) as residency:
            answered = await run_job(CODE, Always("chief"), residency, two(), planner="chief")
            return answered, await run_job(CODE, Asking(), residency, two(), planner="chief")

    answered, planned = run_virtual(main())
    assert (answered.num_loads, answered.planner_load_s, answered.steps[0].planning) == (1, None, None)
    assert (planned.num_loads, planned.planner_load_s) == (0, None)
    assert planned.memory.transition_peak_bytes == 5
    tokens = planned.prompt_tokens + planned.output_tokens
    assert planned.token_cost == pytest.approx(2.0 * tokens / 1000)


class Counted(SimulatedModel):
    """Counts how often it is brought up and taken down."""

    ups = downs = 0

    async def load(self) -> Backend:
        self.ups += 1
        return await super().load()

    async def unload(self) -> None:
        self.downs += 1
        await super().unload()


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    room=st.integers(0, 8),
    at=st.integers(0, 3),
    types=st.lists(st.sampled_from(TYPES), min_size=1, max_size=4),
    data=st.data(),
)
def test_whichever_model_plans_every_load_is_counted_and_timed_once(
    sizes: list[int], room: int, at: int, types: list[str], data: st.DataObject
) -> None:
    """As many loads as the engines saw, of which those before planning are the planner's."""
    names = [f"m{n}" for n in range(len(sizes))]
    planner = names[at % len(names)]
    cells = st.integers(0, 4).map(lambda n: n / 4)
    priors = [prior(name, **{kind: data.draw(cells) for kind in TYPES}) for name in names]
    models = [
        Counted(name, size, load_s=2.0**n, timing=simulated("x", 1).timing)
        for n, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    budget = DeviceBudget.create(sizes[at % len(names)] + room)
    job = job_of(types, [(n, n + 1) for n in range(len(types) - 1)])
    runs = run_simulated([job, job], Asking(), models, Estimates(priors, WEIGHTS), budget, planner=planner)
    assert [run.error for run in runs] == [None, None]
    assert sum(run.num_loads for run in runs) == sum(model.ups for model in models)
    assert [model.downs for model in models] == [model.ups for model in models]
    load_s = {model.name: model.load_s for model in models}
    for run in runs:
        loaded = [name for step in run.steps for change in step.changes for name in change.loaded]
        assert run.parts["load_s"] == pytest.approx(sum(load_s[name] for name in loaded))
        for_planning = [step for step in run.steps if step.planner_change is not None]
        assert run.planner_load_s == (len(for_planning) * load_s[planner] if for_planning else None)
        for step in run.steps:
            assert planner in step.planning
            assert step.planning_bytes <= budget.capacity_bytes
            assert len(step.change.resident) == len(set(step.change.resident))
    assert budget.peak_bytes <= budget.capacity_bytes
    budget.remove()


@pytest.mark.parametrize(
    ("room", "orders"),
    [
        (8, ["load chief", "load beta", "drop beta", "drop chief"]),
        (7, ["load chief", "drop chief", "load beta", "drop beta", "load chief", "drop chief"]),
    ],
)
def test_a_server_is_told_once_of_a_model_that_plans_and_answers(room: int, orders: list[str]) -> None:
    """One load and one drop of each as long as there is room; else one of each per swap."""

    async def main() -> None:
        budget = DeviceBudget.create(room * MB)
        async with OllamaServer({"chief": 2 * MB, "beta": 6 * MB}).serving() as server:
            models = [
                OllamaModel(f"{name}={server.url}/{name}?num_ctx=2048&timeout_s=5", size * MB)
                for name, size in (("chief", 2), ("beta", 6))
            ]
            jobs = [job_of(("math",), [], name="math"), CODE]
            async with Residency(models, budget) as residency:
                runs = await run_jobs(jobs, Asking(), residency, two(), planner="chief")
                assert [run.error for run in runs] == [None, None]
                assert [run.models["s0"] for run in runs] == ["beta", "chief"]
                assert budget.used_bytes == sum(server.size_vram[name] for name in server.keep_alive)
            assert [" ".join(order) for order in server.orders] == orders
            assert server.num_loads == sum(order.startswith("load") for order in orders)
            assert (server.keep_alive, budget.used_bytes) == ({}, 0)

    asyncio.run(main())
