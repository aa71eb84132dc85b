"""What a planner must beat: greedy, the best single model, random, preference; and the ceiling.

All of them fit the budget.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from harness.errors import BudgetError, UsageError
from harness.routers.planning.base import Certificate, Plan, Problem, lazy_residents, total_bytes
from harness.routers.planning.sequential import SequentialPlanner

__all__ = [
    "BestSinglePlanner",
    "GreedyPlanner",
    "PreferencePlanner",
    "RandomPlanner",
    "SmallestPlanner",
    "offline_optimum",
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
        BudgetError: the two do not fit together.
        """
        models = problem.fleet.models
        for name in (self.strong, self.weak):
            if name not in models:
                raise UsageError(f"preference: no model {name!r} in the fleet; use {', '.join(models)}")
        strong, weak = models.index(self.strong), models.index(self.weak)
        if total_bytes(problem.fleet, {strong, weak}) > problem.fleet.budget_bytes:
            raise BudgetError(
                f"preference: {self.strong} and {self.weak} do not fit {problem.fleet.budget_bytes} bytes "
                "together; raise the budget or name smaller models"
            )
        gap = problem.micro[:, strong] - problem.micro[:, weak]
        chosen = np.where(gap >= self.threshold * 1e6, strong, weak)
        return _plan(problem, chosen.tolist(), "preference")


def offline_optimum() -> SequentialPlanner:
    """The ceiling: every layer of the job is seen before the first one runs."""
    return SequentialPlanner(name="offline-optimum", window=None)


def _plan(problem: Problem, assignment: list[int], solver: str) -> Plan:
    models = tuple(assignment)
    residents = lazy_residents(problem, models)
    return Plan(models, residents, problem.value_of(models), Certificate(solver))
