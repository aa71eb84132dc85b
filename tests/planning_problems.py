"""Planning problems for tests: drawn with few distinct numbers, and solved by trying everything."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from harness.routers.planning import Fleet, Problem
from harness.routers.planning.base import MICRO, total_bytes

__all__ = ["brute_force", "brute_force_over_time", "fitting_sets", "problems", "shuffled", "time_expanded"]


@st.composite
def problems(draw: st.DrawFn, max_tasks: int = 4, max_models: int = 5, layered: bool = False) -> Problem:
    """Few distinct numbers, so that ties are common."""
    num_tasks, num_models = draw(st.integers(1, max_tasks)), draw(st.integers(1, max_models))
    sizes = tuple(draw(st.lists(st.integers(1, 6), min_size=num_models, max_size=num_models)))
    cells = st.integers(-4, 8).map(lambda n: n / 8)
    rows = st.lists(cells, min_size=num_models, max_size=num_models)
    cut = draw(st.integers(1, num_tasks)) if layered else num_tasks
    layers = (tuple(range(cut)), tuple(range(cut, num_tasks)))
    return Problem(
        fleet=Fleet(
            models=tuple(f"m{m}" for m in range(num_models)),
            size_bytes=sizes,
            budget_bytes=draw(st.integers(min(sizes), 12)),
        ),
        utility=np.array(draw(st.lists(rows, min_size=num_tasks, max_size=num_tasks))),
        load_cost=tuple(draw(st.integers(0, 3)) / 8 for _ in range(num_models)),
        resident=frozenset(draw(st.sets(st.integers(0, num_models - 1), max_size=1))),
        layers=tuple(layer for layer in layers if layer),
    )


def fitting_sets(problem: Problem) -> list[frozenset[int]]:
    models = range(len(problem.fleet.models))
    sets = (frozenset(s) for n in range(1, len(models) + 1) for s in combinations(models, n))
    return [s for s in sets if total_bytes(problem.fleet, s) <= problem.fleet.budget_bytes]


def brute_force(problem: Problem) -> float:
    """Every assignment that fits."""
    choices = product(range(len(problem.fleet.models)), repeat=problem.num_tasks)
    fits = set(fitting_sets(problem))
    return max(problem.value_of(each) for each in choices if frozenset(each) in fits)


def brute_force_over_time(problem: Problem) -> float:
    """Every sequence of fitting resident sets."""
    best = {frozenset(problem.resident): 0.0}
    for layer in problem.layers:
        reached: dict[frozenset[int], float] = {}
        for held in fitting_sets(problem):
            gained = sum(max(problem.micro[i, m] for m in held) for i in layer)
            value = max(old - sum(problem.load_micro[m] for m in held - was) for was, old in best.items())
            reached[held] = value + gained
        best = reached
    return max(best.values()) / MICRO


def shuffled(problem: Problem, rows: list[int], columns: list[int]) -> Problem:
    fleet = problem.fleet
    return Problem(
        fleet=Fleet(
            models=tuple(fleet.models[m] for m in columns),
            size_bytes=tuple(fleet.size_bytes[m] for m in columns),
            budget_bytes=fleet.budget_bytes,
        ),
        utility=problem.utility[np.ix_(rows, columns)],
        load_cost=tuple(problem.load_cost[m] for m in columns),
        resident=frozenset(columns.index(m) for m in problem.resident),
    )


def time_expanded(problem: Problem) -> float:
    """Maximise Σ U·x − Σ c·load, where load_t ≥ resident_t − resident_(t−1)."""
    tasks, models, steps = problem.num_tasks, len(problem.fleet.models), len(problem.layers)
    num_x, block = tasks * models, steps * models
    rows, low, high = [], [], []

    def row(entries: dict[int, float], least: float, most: float) -> None:
        line = np.zeros(num_x + 2 * block)
        for column, value in entries.items():
            line[column] = value
        rows.append(line)
        low.append(least)
        high.append(most)

    for step, layer in enumerate(problem.layers):
        held = [num_x + step * models + m for m in range(models)]
        row(
            {held[m]: problem.fleet.size_bytes[m] / 1e9 for m in range(models)},
            0,
            1e-9 * problem.fleet.budget_bytes,
        )
        for m in range(models):
            before = {held[m] - models: -1.0} if step else {}
            row({held[m]: 1.0, held[m] + block: -1.0, **before}, -np.inf, 0)
        for task in layer:
            row({task * models + m: 1.0 for m in range(models)}, 1, 1)
            for m in range(models):
                row({task * models + m: 1.0, held[m]: -1.0}, -np.inf, 0)
    cost = np.concatenate([-problem.utility.ravel(), np.zeros(block), np.tile(problem.load_cost, steps)])
    found = milp(
        cost,
        constraints=LinearConstraint(np.array(rows), low, high),
        bounds=Bounds(0, 1),
        integrality=np.ones(len(cost)),
    )
    return -float(found.fun)
