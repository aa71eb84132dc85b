"""The origin's constants give its published routing; bad input is told before anything runs."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

from harness.errors import BudgetError, UnavailableError, UsageError, WorkloadError
from harness.routers.planning import (
    ExactPlanner,
    Fleet,
    GreedyPlanner,
    LPPlanner,
    OrderFreePlanner,
    PreferencePlanner,
    Problem,
    SequentialPlanner,
    WarmLPPlanner,
    flat,
    fleet,
    job,
    jobs,
    memory_of,
    problem_of,
    roll,
    workflow_instances,
)
from harness.workflow.jobs import TaskGraph, TaskNode, merged

SHORT = {"gemma": "gemma2:2b", "qwen": "qwen2.5-coder:7b", "llama": "llama3.1:8b", "phi4": "phi4:14b"}
WINDOW_1 = {"wb1": "gemma phi4 qwen", "wb2": "qwen qwen qwen", "wb3": "gemma llama llama"}
ALL_QWEN = dict.fromkeys(WINDOW_1, "qwen qwen qwen")


def routed(fleet_name: str, job_name: str, window: int | None) -> str:
    problem = problem_of(job(job_name), *fleet(fleet_name))
    names = {name: short for short, name in SHORT.items()}
    done = roll(LPPlanner(window=window), problem)
    return " ".join(names[problem.fleet.models[m]] for m in done.assignment)


@pytest.mark.parametrize("name", WINDOW_1)
def test_the_origins_constants_give_its_routing_by_layer(name: str) -> None:
    """Run 152505, "depth 1": the ready layer alone."""
    assert routed("agents_heavy", name, 1) == WINDOW_1[name]


def test_the_origins_constants_give_its_full_horizon_objective() -> None:
    """wb1 is qwen throughout, at 1.37."""
    plan = LPPlanner().plan(problem_of(job("wb1"), *fleet("agents_heavy")))
    assert plan.objective == pytest.approx(1.37, abs=1e-9)
    assert plan.certificate.solver == "highs"
    assert plan.certificate.solver_s is not None
    assert plan.certificate.solver_s > 0
    assert routed("agents_heavy", "wb1", None) == "qwen qwen qwen"
    assert not plan.certificate.fractional


@pytest.mark.parametrize(("window", "wanted"), [(1, WINDOW_1), (3, ALL_QWEN)])
@pytest.mark.parametrize("name", WINDOW_1)
def test_the_fitted_table_gives_both_published_rows(name: str, window: int, wanted: dict[str, str]) -> None:
    """18 of 18 assignments; such a table exists, which is all that it shows."""
    assert routed("fitted", name, window) == wanted[name]
    assert fleet("fitted")[0].status == "fitted"


def test_the_violation_comes_from_rounding_a_mixed_load() -> None:
    """.43 gemma and .57 phi4 "fit" 8 GB; argmax loads all of phi4. Exact: gemma, at .365."""
    problem = problem_of(job("wb1"), *fleet("fitted"))
    math = Problem(
        fleet=problem.fleet,
        utility=problem.utility[[1]],
        load_cost=problem.load_cost,
        resident=frozenset({0}),
    )
    lp = LPPlanner().plan(math)
    assert lp.certificate.fractional
    assert lp.certificate.violates
    assert lp.assignment == (3,)
    assert lp.certificate.bound == pytest.approx(0.4164, abs=1e-4)
    assert lp.objective == pytest.approx(0.455)
    exact = ExactPlanner().plan(math)
    assert exact.assignment == (0,)
    assert exact.objective == pytest.approx(0.365)


def test_the_memory_metrics_give_the_published_shares() -> None:
    """Two of three jobs violate by the sum of distinct models, one by what answers at once."""
    by_sum = by_step = 0
    for each in jobs():
        problem = problem_of(each, *fleet("agents_heavy"))
        done = roll(LPPlanner(), problem)
        memory = memory_of(problem.fleet, done.executed, done.residents)
        by_sum += memory.sum_distinct_bytes > problem.fleet.budget_bytes
        by_step += memory.is_violated
        if each.id == "wb1":
            assert memory.step_peak_bytes == 12_500_000_000
            assert memory.sum_distinct_bytes == 21_000_000_000
            assert memory.over_bytes == 4_500_000_000
            assert memory.num_violations == 1
        if each.id == "wb3":
            assert memory.step_peak_bytes == 8_000_000_000
    assert (by_sum, by_step) == (2, 1)


def test_loading_before_evicting_would_need_more() -> None:
    """The transition peak holds old and new models together."""
    fleet_ = Fleet(models=("a", "b"), size_bytes=(5, 6), budget_bytes=8)
    memory = memory_of(fleet_, [frozenset({1})], [frozenset({1})], before=frozenset({0}))
    assert memory.transition_peak_bytes == 11
    assert memory.resident_peak_bytes == 6


def test_a_violating_plan_can_be_replaced() -> None:
    """With a fallback, nothing over the budget is executed, and the replacement is counted."""
    problem = problem_of(job("wb1"), *fleet("agents_heavy"))
    done = roll(LPPlanner(), problem, fallback=GreedyPlanner())
    assert done.num_replaced == 1
    assert not memory_of(problem.fleet, done.executed, done.residents).is_violated


def test_residents_are_kept_until_their_room_is_needed() -> None:
    """An idle model that fits stays, and is free when it is used again."""
    fleet_ = Fleet(models=("a", "b"), size_bytes=(3, 4), budget_bytes=8)
    problem = Problem(
        fleet=fleet_,
        utility=np.array([[1, 0], [0, 1], [1, 0]]),
        load_cost=(0.1, 0.1),
        layers=((0,), (1,), (2,)),
    )
    done = roll(ExactPlanner(), problem)
    assert done.residents[1:] == (frozenset({0, 1}), frozenset({0, 1}))
    assert done.value == pytest.approx(2.8)


def test_instances_are_seeded_and_keep_the_three_shapes() -> None:
    """The same seed makes the same jobs; another one others."""
    some = workflow_instances(60, seed=1)
    assert some == workflow_instances(60, seed=1)
    assert some != workflow_instances(60, seed=2)
    assert len({each.id for each in some}) == 60
    assert {each.layers() for each in some} == {each.layers() for each in jobs()}
    for each in some:
        assert problem_of(each, *fleet("agents_heavy")).num_tasks == 3


def test_merged_jobs_are_branches_and_flat_ones_have_no_order() -> None:
    """Two jobs side by side have the layers of the longer one; flat has one."""
    graph = merged(jobs(), "all")
    problem = problem_of(graph, *fleet("agents_heavy"))
    assert [len(layer) for layer in problem.layers] == [3, 4, 2]
    assert flat(problem).layers == (tuple(range(9)),)
    assert OrderFreePlanner().plan(problem).objective >= SequentialPlanner().plan(problem).objective


def test_exactly_the_budget_fits() -> None:
    """8.0 GB fits 8.0, and one byte less does not."""
    graph = TaskGraph(id="one", tasks=(TaskNode(id="t", type="summarize", difficulty=1, num_tokens=1),))
    row, models = fleet("agents_heavy")
    assert ExactPlanner().plan(problem_of(graph, row, models)).assignment == (2,)
    assert ExactPlanner().plan(problem_of(graph, row, models, budget_gb=7.999999999)).assignment != (2,)


def problem(**changed: Any) -> Problem:
    values: dict[str, Any] = {
        "fleet": Fleet(models=("a", "b"), size_bytes=(1, 2), budget_bytes=2),
        "utility": np.zeros((2, 2)),
        "load_cost": (0.0, 0.0),
    }
    return Problem(**values | changed)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"utility": np.array([[0, 0], [0, np.nan]])}, UsageError, "utility of task 1 on b is nan"),
        ({"utility": np.full((1, 2), np.inf)}, UsageError, "task 0 on a is inf"),
        ({"utility": np.zeros((0, 2))}, WorkloadError, "empty job"),
        ({"utility": np.zeros((2, 3))}, UsageError, "shape"),
        ({"load_cost": (0.0, float("nan"))}, UsageError, "load costs"),
        ({"load_cost": (0.0, -1.0)}, UsageError, "load costs"),
        ({"resident": frozenset({2})}, UsageError, "resident"),
        ({"layers": ((0,),)}, WorkloadError, "name each of 2 tasks once"),
        ({"layers": ((0, 1), ())}, WorkloadError, "empty"),
        ({"edges": ((0, 1),)}, WorkloadError, "against the layers"),
    ],
)
def test_a_bad_problem_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each with its culprit, before any planner sees it."""
    with pytest.raises(error, match=message):
        problem(**changed)


def test_a_fleet_of_which_no_model_fits_is_refused() -> None:
    """The message says how much room the smallest needs."""
    with pytest.raises(BudgetError, match="no model fits 1999999999 bytes; the smallest takes 2000000000"):
        problem_of(job("wb1"), *fleet("agents_heavy"), budget_gb=1.999999999)
    with pytest.raises(UsageError, match="a name of its own"):
        Fleet(models=("a", "a"), size_bytes=(1, 1), budget_bytes=1)
    with pytest.raises(UsageError, match="size in bytes"):
        Fleet(models=("a",), size_bytes=(0,), budget_bytes=1)


def node(name: str, kind: str = "math") -> TaskNode:
    return TaskNode(id=name, type=kind, difficulty=1, num_tokens=1)


def test_a_bad_job_is_refused() -> None:
    """Cycle, unknown type, no task, unknown end of an edge, one id twice."""
    with pytest.raises(WorkloadError, match="cycle through a, b"):
        TaskGraph(id="j", tasks=(node("a"), node("b")), edges=(("a", "b"), ("b", "a")))
    with pytest.raises(WorkloadError, match="unknown type 'poetry'"):
        node("a", "poetry")
    with pytest.raises(WorkloadError, match="no task"):
        TaskGraph(id="j", tasks=())
    with pytest.raises(WorkloadError, match="names no task"):
        TaskGraph(id="j", tasks=(node("a"),), edges=(("a", "z"),))
    with pytest.raises(WorkloadError, match="one id"):
        TaskGraph(id="j", tasks=(node("a"), node("a")))
    with pytest.raises(WorkloadError, match="difficulty"):
        TaskNode(id="a", type="math", difficulty=float("nan"), num_tokens=1)
    creative = TaskGraph(id="j", tasks=(node("a", "creative"),))
    with pytest.raises(WorkloadError, match="no prior for type 'creative'"):
        problem_of(creative, *fleet("fitted"))


def test_a_wrong_name_or_setting_is_refused() -> None:
    """Fleet, job, window, preference, no instance."""
    with pytest.raises(UsageError, match="agents_heavy, fitted"):
        fleet("agents_light")
    with pytest.raises(WorkloadError, match="wb1, wb2, wb3"):
        job("wb4")
    with pytest.raises(UsageError, match="window 0"):
        roll(SequentialPlanner(window=0), problem())
    with pytest.raises(UsageError, match="no model 'c'"):
        PreferencePlanner(strong="c", weak="a", threshold=0).plan(problem())
    with pytest.raises(BudgetError, match="do not fit"):
        PreferencePlanner(strong="b", weak="a", threshold=0).plan(problem())
    with pytest.raises(UsageError, match="at least 1"):
        workflow_instances(0, seed=0)


@pytest.mark.parametrize("module", ["cvxpy", "highspy"])
def test_without_its_solver_the_lp_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the line that would make it run."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnavailableError, match=r"pip install 'assay\[routing\]'"):
        LPPlanner().plan(problem()) if module == "cvxpy" else WarmLPPlanner(problem().fleet, 2)
