"""Planning over time: swaps between layers, windows, fewer models, a free order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.routers.planning import (
    BestSinglePlanner,
    Fleet,
    OrderFreePlanner,
    Plan,
    Problem,
    SequentialPlanner,
    follow,
    offline_optimum,
    random_problem,
    roll,
)
from harness.routers.planning.base import total_bytes
from tests.planning_problems import brute_force_over_time, problems, time_expanded


@given(problem=problems(layered=True))
@settings(max_examples=150, deadline=None)
def test_the_dynamic_program_equals_brute_force_over_time(problem: Problem) -> None:
    """The full window is the offline optimum, planned at once or executed layer by layer."""
    best = brute_force_over_time(problem)
    assert SequentialPlanner().plan(problem).objective == pytest.approx(best, abs=1e-9)
    assert roll(offline_optimum(), problem).value == pytest.approx(best, abs=1e-9)
    assert roll(SequentialPlanner(window=len(problem.layers)), problem).value == pytest.approx(best, abs=1e-9)


def test_a_load_at_a_windows_end_is_worth_it_when_more_follows() -> None:
    """.2 gained in a layer does not pay for a load of .3, but what is loaded may serve again."""
    fleet = Fleet(models=("a", "b"), size_bytes=(1, 1), budget_bytes=1)
    last = Problem(fleet=fleet, utility=np.array([[0.5, 0.7]]), load_cost=(0.1, 0.3), resident=frozenset({0}))
    more = replace(last, has_more=True)
    planner = SequentialPlanner()
    assert planner.plan(last).assignment == (0,)
    assert planner.plan(more).assignment == (1,)
    assert replace(planner, kept_share=0).plan(more).assignment == (0,)
    assert planner.plan(more).objective == pytest.approx(0.4), "what is kept is no part of the objective"
    assert planner.plan(more).certificate.bound is None


def test_a_window_that_ends_before_the_job_says_that_more_follows() -> None:
    """And the last one does not, unless the job itself says so."""
    seen: list[bool] = []

    class Watching(SequentialPlanner):
        def plan(self, problem: Problem) -> Plan:
            seen.append(problem.has_more)
            return SequentialPlanner.plan(self, problem)

    problem = random_problem(4, 3, seed=1, num_layers=4)
    roll(Watching(window=2), problem)
    roll(Watching(window=2), replace(problem, has_more=True))
    assert seen == [True, True, False, False, True, True, True, True]


@given(problem=problems(max_models=6, layered=True), num=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_fewer_models_lose_nothing_or_say_so(problem: Problem, num: int) -> None:
    """Where only dominated models are left out, planning over fewer finds the same value."""
    for planner in (SequentialPlanner(), OrderFreePlanner()):
        whole, part = planner.plan(problem), replace(planner, max_models=num).plan(problem)
        assert part.objective <= whole.objective
        assert all(total_bytes(problem.fleet, held) <= problem.fleet.budget_bytes for held in part.residents)
        if part.certificate.optimal:
            assert part.objective == whole.objective
            assert part.certificate.bound == part.objective
        else:
            assert part.certificate.bound is None


def test_a_fleet_of_forty_models_is_planned_over_time() -> None:
    """All of them fit by themselves; the plan fits, is no worse than one model's, and says what it is."""
    problem = random_problem(9, 40, seed=3, num_layers=3)
    plan = SequentialPlanner().plan(problem)
    assert all(total_bytes(problem.fleet, held) <= problem.fleet.budget_bytes for held in plan.residents)
    assert plan.objective >= BestSinglePlanner().plan(problem).objective
    assert not plan.certificate.optimal


@pytest.mark.parametrize("seed", range(12))
def test_the_dynamic_program_equals_the_time_expanded_milp(seed: int) -> None:
    """HiGHS on x, resident and load variables by layer finds the same value."""
    problem = random_problem(5, 4, seed=seed, num_layers=3)
    assert SequentialPlanner().plan(problem).objective == pytest.approx(time_expanded(problem), abs=1e-5)


@given(problem=problems(layered=True))
@settings(max_examples=80, deadline=None)
def test_a_free_order_is_no_worse_than_layers(problem: Problem) -> None:
    """One task at a time can do what layers do, and more."""
    plan = OrderFreePlanner().plan(problem)
    assert plan.objective >= SequentialPlanner().plan(problem).objective - 1e-9
    assert sorted(task for (task,) in plan.order) == list(range(problem.num_tasks))


def test_a_free_order_keeps_to_its_edges_and_groups_tasks_by_model() -> None:
    """Two branches a→b whose models do not fit together: both a's first, then both b's."""
    fleet = Fleet(models=("a", "b"), size_bytes=(5, 5), budget_bytes=8)
    problem = Problem(
        fleet=fleet,
        utility=np.array([[1, 0], [0, 1], [1, 0], [0, 1]]),
        load_cost=(0.1, 0.1),
        layers=((0,), (1,), (2,), (3,)),
        edges=((0, 1), (2, 3)),
    )
    plan = OrderFreePlanner().plan(problem)
    assert plan.objective == pytest.approx(3.8)
    assert follow(OrderFreePlanner(), problem).value == pytest.approx(3.8)
    order = [task for (task,) in plan.order]
    assert order.index(0) < order.index(1)
    assert order.index(2) < order.index(3)
    assert SequentialPlanner().plan(problem).objective == pytest.approx(3.6)
