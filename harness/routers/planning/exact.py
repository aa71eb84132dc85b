"""The exact planner: the best set of models that are loaded together, and each task's best within it.

Given the set, each task takes its best model in it; so only sets are searched. Up to 8 models that fit by
themselves, all sets are valued at once. Above, all fitting sets are, where there are few; else prices say
which sets can still win (`priced`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.routers.planning.base import MICRO, Certificate, Plan, Problem, lazy_residents
from harness.routers.planning.priced import search
from harness.routers.planning.subsets import (
    Tree,
    pick,
    set_values,
    subsets_of,
    tree_of,
    tree_values,
)

__all__ = ["ExactPlanner"]

MAX_ENUMERATED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactPlanner:
    """The best plan whose models all fit at once; the default."""

    name: str = "exact"
    window: int | None = 1
    max_nodes: int = 20_000
    """Sets that prices may leave; where more are, the certificate says that the plan may not be the best."""
    max_enumerated: int = MAX_ENUMERATED
    max_sets: int = 3000
    """Fitting sets of a larger fleet that are kept, to be all valued; where there are more, prices choose."""
    max_cells: int = 20_000
    """Sets × tasks that are all valued; above, prices are faster."""

    def plan(self, problem: Problem) -> Plan:
        """Plan every task on one set of models that fits the budget."""
        due = problem.due_micro()
        if len(due) <= self.max_enumerated or len(problem.fleet.fitting) <= self.max_enumerated:
            assignment, value, nodes = _enumerate(problem, due)
            certificate = Certificate("subsets", True, value, None, False, nodes)
        elif (tree := self._tree(problem)) is not None:
            columns = np.ascontiguousarray(problem.micro.T[list(tree.columns)])
            costs = tree.bits @ np.array([due[m] for m in tree.columns])
            values = (tree_values(columns, tree) - costs)[tree.ranked]
            at = int(values.argmax())
            assignment = tuple(pick(problem.micro, tree, int(tree.ranked[at])))
            value = float(values[at]) / MICRO
            certificate = Certificate("tree", True, value, None, False, len(values))
        else:
            found = search(problem, due, self.max_nodes)
            assignment, value = found.assignment, found.value
            certificate = Certificate("priced", found.complete, found.bound, None, False, found.num_nodes)
        return Plan(assignment, lazy_residents(problem, assignment), value, certificate)

    def _tree(self, problem: Problem) -> Tree | None:
        tree = tree_of(problem.fleet, self.max_sets)
        return tree if tree and len(tree.members) * problem.num_tasks <= self.max_cells else None


def _enumerate(problem: Problem, due: list[float]) -> tuple[tuple[int, ...], float, int]:
    subsets = subsets_of(problem.fleet)
    columns = problem.micro.T if subsets.gather is None else problem.micro.T[subsets.gather]
    costs = subsets.bits @ np.array([due[m] for m in subsets.columns])
    values = (set_values(columns) - costs)[subsets.ranked]
    at = int(values.argmax())
    assignment = tuple(pick(problem.micro, subsets, int(subsets.ranked[at])))
    return assignment, float(values[at]) / MICRO, len(values)
