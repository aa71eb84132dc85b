"""The exact planner: the best set of models that are loaded together, and each task's best within it.

Given the set, each task takes its best model in it; so only sets are searched. Up to 8 models that fit by
themselves, all sets are valued at once. Above, all fitting sets are, where there are few; else sets grow one
model at a time, and a set is dropped when no completion of it can beat the best one known.

The bound: adding models gains at most the sum of what each would gain alone (the objective is submodular),
and what fits is at most a fractional knapsack of these (Nemhauser, Wolsey and Fisher 1978, Mathematical
Programming 14; Dantzig 1957, Operations Research 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.routers.planning.base import MICRO, Array, Certificate, Fleet, Plan, Problem, lazy_residents
from harness.routers.planning.subsets import pick, set_values, subsets_of, tree_of, tree_values

__all__ = ["ExactPlanner"]

MAX_ENUMERATED = 8
MAX_PART = 1 << 20
"""Numbers computed at once: 8 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactPlanner:
    """The best plan whose models all fit at once; the default."""

    name: str = "exact"
    window: int | None = 1
    max_nodes: int = 20_000
    """Sets looked at before growing stops; the certificate then says that the plan may not be the best."""
    max_enumerated: int = MAX_ENUMERATED
    max_sets: int = 3000
    """Fitting sets of a larger fleet that are kept and all valued; where there are more, sets are grown."""

    def plan(self, problem: Problem) -> Plan:
        """Plan every task on one set of models that fits the budget."""
        due = problem.due_micro()
        if len(due) <= self.max_enumerated or len(problem.fleet.fitting) <= self.max_enumerated:
            assignment, value, nodes = _enumerate(problem, due)
            certificate = Certificate("subsets", True, value, None, False, nodes)
        elif (tree := tree_of(problem.fleet, self.max_sets)) is not None:
            columns = np.ascontiguousarray(problem.micro.T[list(tree.columns)])
            costs = tree.bits @ np.array([due[m] for m in tree.columns])
            values = (tree_values(columns, tree) - costs)[tree.ranked]
            at = int(values.argmax())
            assignment = tuple(pick(problem.micro, tree, int(tree.ranked[at])))
            value = float(values[at]) / MICRO
            certificate = Certificate("tree", True, value, None, False, len(values))
        else:
            grown = _Growth(problem, due, self.max_nodes).run()
            assignment, value = grown.assignment, grown.value
            bound = value if grown.complete else None
            certificate = Certificate("grow", grown.complete, bound, None, False, grown.num_nodes)
        return Plan(assignment, lazy_residents(problem, assignment), value, certificate)


def _enumerate(problem: Problem, due: list[float]) -> tuple[tuple[int, ...], float, int]:
    subsets = subsets_of(problem.fleet)
    columns = problem.micro.T if subsets.gather is None else problem.micro.T[subsets.gather]
    costs = subsets.bits @ np.array([due[m] for m in subsets.columns])
    values = (set_values(columns) - costs)[subsets.ranked]
    at = int(values.argmax())
    assignment = tuple(pick(problem.micro, subsets, int(subsets.ranked[at])))
    return assignment, float(values[at]) / MICRO, len(values)


class Grown(NamedTuple):
    """What growing found."""

    assignment: tuple[int, ...]
    value: float
    complete: bool
    num_nodes: int


class _Level(NamedTuple):
    """Sets of one size."""

    sets: npt.NDArray[np.bool_]
    """[sets × columns]"""
    last: npt.NDArray[np.intp]
    best: Array
    """[sets × tasks]"""
    value: Array
    num_bytes: npt.NDArray[np.int64]

    def first(self, num: int) -> _Level:
        """Some of them."""
        return _Level(
            self.sets[:num], self.last[:num], self.best[:num], self.value[:num], self.num_bytes[:num]
        )


class _Growth:
    """Sets grow by one model a level, in an order that puts the most gain per byte first."""

    def __init__(self, problem: Problem, due: list[float], max_nodes: int) -> None:
        fleet = problem.fleet
        alone = problem.micro.sum(axis=0) - np.array(due)
        self.floor = problem.micro[:, list(fleet.fitting)].min(axis=1)
        gain = alone - self.floor.sum()
        self.columns = sorted(fleet.fitting, key=lambda m: (-gain[m] / fleet.size_bytes[m], fleet.models[m]))
        self.fleet, self.problem, self.max_nodes = fleet, problem, max_nodes
        self.utility = np.ascontiguousarray(problem.micro[:, self.columns].T)
        self.cost = np.array([due[m] for m in self.columns])
        self.sizes = np.array([fleet.size_bytes[m] for m in self.columns], dtype=np.int64)
        self.value = -np.inf
        self.chosen: list[tuple[int, ...]] = [()]
        self.num_nodes = 0

    def run(self) -> Grown:
        """Grow until no set is left, or the node limit is reached."""
        self._climb()
        num = len(self.columns)
        level = _Level(
            np.zeros((1, num), dtype=np.bool_),
            np.full(1, -1),
            self.floor[None],
            np.array([self.floor.sum()]),
            np.zeros(1, dtype=np.int64),
        )
        complete = True
        while len(level.last):
            room = self.max_nodes - self.num_nodes
            if room <= 0:
                complete = False
                break
            if len(level.last) > room:
                complete, level = False, level.first(room)
            level = self._grow(level)
        return self._result(complete)

    def _result(self, complete: bool) -> Grown:
        members = min(self.chosen, key=lambda found: _rank(self.fleet, found))
        models = sorted(members, key=self.fleet.models.__getitem__)
        best = self.problem.micro[:, np.array(models)].argmax(axis=1).tolist()
        return Grown(tuple(models[k] for k in best), float(self.value) / MICRO, complete, self.num_nodes)

    def _climb(self) -> None:
        """A first plan: add the model that gains most per byte, while one gains."""
        best, used, left = self.floor, 0, list(range(len(self.columns)))
        value = float(self.floor.sum())
        members: list[int] = []
        while True:
            gains = np.maximum(self.utility - best, 0).sum(axis=1) - self.cost
            open_ = [k for k in left if used + self.sizes[k] <= self.fleet.budget_bytes]
            if not open_:
                break
            k = max(open_, key=lambda k: gains[k] / self.sizes[k])
            if members and gains[k] <= 0:
                break
            best, used, value = np.maximum(best, self.utility[k]), used + int(self.sizes[k]), value + gains[k]
            members.append(k)
            left.remove(k)
        self._offer(value, [tuple(self.columns[k] for k in members)])

    def _offer(self, value: float, found: list[tuple[int, ...]]) -> None:
        if value > self.value:
            self.value, self.chosen = value, found
        elif value == self.value:
            self.chosen = [min([*self.chosen, *found], key=lambda members: _rank(self.fleet, members))]

    def _grow(self, level: _Level) -> _Level:
        """All sets of one more model that may still lead to the best plan."""
        self.num_nodes += len(level.last)
        gains = self._gains(level.best)
        after = np.arange(len(self.columns)) > level.last[:, None]
        room = self.fleet.budget_bytes - level.num_bytes
        can = after & (self.sizes <= room[:, None])
        # +1: what a fractional knapsack rounds; utilities are whole numbers, so it drops no equal set.
        alive = level.value + _knapsack(np.where(can, gains, 0.0), self.sizes, room) + 1 >= self.value
        row, column = np.nonzero(can & alive[:, None])
        value = level.value[row] + gains[row, column]
        if len(value) and value.max() >= self.value:
            top = value.max()
            found = [self._members(level, row[at], column[at]) for at in np.flatnonzero(value == top)]
            self._offer(float(top), found)
        sets = level.sets[row]
        sets[np.arange(len(row)), column] = True
        best = np.maximum(level.best[row], self.utility[column])
        return _Level(sets, column, best, value, level.num_bytes[row] + self.sizes[column])

    def _gains(self, best: Array) -> Array:
        """[sets × columns] what each model would add; by parts, since sets × models × tasks may be much."""
        step = max(1, MAX_PART // self.utility.size)
        parts = [best[at : at + step, None, :] for at in range(0, len(best), step)]
        added = [np.maximum(self.utility - part, 0).sum(axis=2) for part in parts]
        gains: Array = (added[0] if len(added) == 1 else np.concatenate(added)) - self.cost
        return gains

    def _members(self, level: _Level, row: int, column: int) -> tuple[int, ...]:
        return (*(self.columns[k] for k in np.flatnonzero(level.sets[row])), self.columns[column])


def _knapsack(gains: Array, sizes: npt.NDArray[np.int64], room: npt.NDArray[np.int64]) -> Array:
    """The most that a fractional choice of gains could add, row by row."""
    gains = np.maximum(gains, 0)
    order = np.argsort(-gains / sizes, axis=1)
    taken = np.take_along_axis(gains, order, axis=1)
    size = sizes[order]
    share = np.clip((room[:, None] - (np.cumsum(size, axis=1) - size)) / size, 0, 1)
    most: Array = (taken * share).sum(axis=1)
    return most


def _rank(fleet: Fleet, members: tuple[int, ...]) -> tuple[int, int, list[str]]:
    """The same preference as in `Subsets.ranked`."""
    return (
        sum(fleet.size_bytes[m] for m in members),
        len(members),
        sorted(fleet.models[m] for m in members),
    )
