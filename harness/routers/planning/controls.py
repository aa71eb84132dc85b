"""What a planner must beat: greedy, the best single model, random, preference; and the ceiling.

All of them fit the budget.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.errors import BudgetError, UnavailableError, UsageError
from harness.routers.planning.base import (
    MICRO,
    Certificate,
    Fleet,
    Plan,
    Problem,
    lazy_residents,
    total_bytes,
)
from harness.routers.planning.sequential import SequentialPlanner

__all__ = [
    "BestSinglePlanner",
    "GreedyPlanner",
    "PreferencePlanner",
    "RandomPlanner",
    "SmallestPlanner",
    "offline_optimum",
    "strong_and_weak",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyPlanner:
    """Task by task the best model that still fits beside those chosen before; what it loads stays paid."""

    name: str = "greedy"
    window: int | None = 1

    def plan(self, problem: Problem) -> Plan:
        """Plan every task in the order given."""
        fleet, due = problem.fleet, problem.due_micro()
        used: set[int] = set()
        room, assignment = fleet.budget_bytes, []
        for row in problem.micro.tolist():
            open_ = [m for m in fleet.fitting if m in used or fleet.size_bytes[m] <= room]
            best = max(open_, key=lambda m: row[m] - (0 if m in used else due[m]))
            if best not in used:
                used.add(best)
                room -= fleet.size_bytes[best]
            assignment.append(best)
        return _plan(problem, assignment, "greedy")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestSinglePlanner:
    """One model for every task: the one that is best in sum."""

    name: str = "best-single"
    window: int | None = None

    def plan(self, problem: Problem) -> Plan:
        """Plan every task on the best fitting model; the first by name among equals."""
        value = problem.micro.sum(axis=0) - np.array(problem.due_micro())
        best = max(problem.fleet.fitting, key=value.__getitem__)
        return _plan(problem, [best] * problem.num_tasks, "best-single")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallestPlanner:
    """One model for every task: the smallest."""

    name: str = "smallest"
    window: int | None = 1

    def plan(self, problem: Problem) -> Plan:
        """Plan every task on the smallest model; the first by name among equals."""
        smallest = min(problem.fleet.fitting, key=problem.fleet.size_bytes.__getitem__)
        return _plan(problem, [smallest] * problem.num_tasks, "smallest")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomPlanner:
    """Models drawn at random until none fits, then a random one of them for each task.

    The draw depends on the seed and the utilities alone, so that a plan can be made again.
    """

    seed: int
    name: str = "random"
    window: int | None = 1

    def plan(self, problem: Problem) -> Plan:
        """Plan every task at random."""
        fleet, room, held = problem.fleet, problem.fleet.budget_bytes, []
        rng = random.Random(f"{self.seed} {problem.micro.tolist()}")
        for m in rng.sample(fleet.fitting, len(fleet.fitting)):
            if fleet.size_bytes[m] <= room:
                held.append(m)
                room -= fleet.size_bytes[m]
        return _plan(problem, rng.choices(held, k=problem.num_tasks), "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePlanner:
    """The strong model where it wins by at least a threshold, the weak one elsewhere.

    Where the two do not fit together, a layer's tasks go together, by their mean gap, and layers swap.

    Source: RouteLLM (Ong et al. 2024, §2), with the gap in utility in the place of the learned win rate.
    """

    strong: str
    weak: str
    threshold: float
    """in units of utility"""
    name: str = "preference"
    window: int | None = 1

    def plan(self, problem: Problem) -> Plan:
        """Plan every task on one of the two models.

        Raises
        ------
        UsageError: the fleet has no such model.
        BudgetError: one of the two does not fit by itself.
        """
        strong, weak = (_place(problem.fleet, name) for name in (self.strong, self.weak))
        gap = problem.micro[:, strong] - problem.micro[:, weak]
        if total_bytes(problem.fleet, {strong, weak}) > problem.fleet.budget_bytes:
            for layer in problem.layers:
                gap[list(layer)] = gap[list(layer)].mean()
        assignment = tuple(np.where(gap >= self.threshold * MICRO, strong, weak).tolist())
        residents = lazy_residents(problem, assignment)
        return Plan(
            assignment, residents, _swapped(problem, assignment, residents), Certificate("preference")
        )


def strong_and_weak(fleet: Fleet, mean_prior: Sequence[float], cost: Sequence[float]) -> tuple[str, str]:
    """Of the models that fit alone the cheapest as the weak one, the best of the others as the strong.

    mean_prior, cost: by model, expected quality over the types of task and the price of a token.

    Raises
    ------
    UnavailableError: fewer than two models fit.
    """
    if len(fleet.fitting) < 2:
        raise UnavailableError(
            f"preference: {len(fleet.fitting)} of the models {', '.join(fleet.models)} fits "
            f"{fleet.budget_bytes} bytes, and it chooses between two; raise the budget"
        )
    weak = min(fleet.fitting, key=cost.__getitem__)
    strong = max((m for m in fleet.fitting if m != weak), key=mean_prior.__getitem__)
    return fleet.models[strong], fleet.models[weak]


def offline_optimum() -> SequentialPlanner:
    """The ceiling: every layer of the job is seen before the first one runs."""
    return SequentialPlanner(name="offline-optimum", window=None)


def _place(fleet: Fleet, name: str) -> int:
    if name not in fleet.models:
        raise UsageError(f"preference: no model {name!r} in the fleet; use {', '.join(fleet.models)}")
    at = fleet.models.index(name)
    if fleet.size_bytes[at] > fleet.budget_bytes:
        raise BudgetError(
            f"preference: {name} takes {fleet.size_bytes[at]} bytes and the budget is {fleet.budget_bytes}; "
            "raise it or name a smaller model"
        )
    return at


def _swapped(problem: Problem, assignment: tuple[int, ...], residents: tuple[frozenset[int], ...]) -> float:
    """Objective of a plan that loads between layers."""
    loads = (now - old for old, now in pairwise((problem.resident, *residents)))
    paid = sum(problem.load_micro[m] for new in loads for m in new)
    return (float(problem.micro[range(problem.num_tasks), assignment].sum()) - paid) / MICRO


def _plan(problem: Problem, assignment: list[int], solver: str) -> Plan:
    models = tuple(assignment)
    residents = lazy_residents(problem, models)
    return Plan(models, residents, problem.value_of(models), Certificate(solver))
