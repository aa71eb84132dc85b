"""Planners that may swap models between steps: dynamic programs over what is resident.

The state is the set R of resident models. A step's value is what its tasks gain on R less what R's new models
cost to load. Instead of trying all pairs (old set, new set), two sweeps over single models suffice, because
every subset of a fitting set fits: first what is gained by loading one more (from larger sets to smaller),
then what is lost by nothing when one is dropped (from smaller to larger). A step takes 2·M vector operations.

Both keep residents lazily: a model is loaded when it is needed and dropped when its room is.

The trap: a window pays in full for a load that what follows unseen may use too, so it puts off moving to a
model that is dear to load. Where more follows, a resident is therefore worth `kept_share` of its load at the
window's end. At 1 a planner is charged for what it drops instead of what it loads, which over a long stream
is the same but for the first loads and the last residents. No choice of it makes up for not seeing: see
bench/test_planning.py for the least that any window loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UsageError
from harness.routers.planning.base import MICRO, Array, Certificate, Plan, Problem
from harness.routers.planning.narrow import narrowed, widened
from harness.routers.planning.subsets import Subsets, pick, set_values, subsets_of

__all__ = ["OrderFreePlanner", "SequentialPlanner", "plan_towards", "value_to_go"]

MAX_MODELS = 14
MAX_STATES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialPlanner:
    """The best plan layer by layer, where models are swapped between layers."""

    name: str = "sequential"
    window: int | None = 3
    kept_share: float = 1.0
    """of a load's cost, that a resident is worth at the end of a window that more follows"""
    max_models: int = MAX_MODELS
    """Models planned over; where more fit, see `narrow`."""

    def plan(self, problem: Problem) -> Plan:
        """Plan every layer of the problem."""
        if len(problem.fleet.fitting) > self.max_models:
            part = narrowed(problem, self.max_models)
            return widened(self.plan(part.problem), part)
        subsets, cost = _prepare(problem)
        plan = plan_towards(problem, _kept_worth(problem, subsets, cost, self.kept_share))
        if problem.has_more:
            return plan._replace(certificate=plan.certificate._replace(bound=None))
        return plan


def plan_towards(problem: Problem, after: Array) -> Plan:
    """The best plan when each resident set is worth something after the last layer.

    after: in millionths, by set as in `subsets_of`; it is no part of the plan's objective.
    """
    subsets, cost = _prepare(problem)
    later, ahead = _backwards(problem, after)
    start = now = _mask(subsets, problem.resident)
    assignment, residents = [0] * problem.num_tasks, []
    for layer, held in zip(problem.layers, ahead, strict=True):
        now = _choose(held, now, subsets, cost)
        for task, model in zip(layer, pick(problem.micro[list(layer)], subsets, now), strict=True):
            assignment[task] = model
        residents.append(_models(subsets, now))
    value = float(later[start] - after[now]) / MICRO
    certificate = Certificate("dp", True, value, None, False, len(subsets.ranked) * len(ahead))
    return Plan(tuple(assignment), tuple(residents), value, certificate)


def value_to_go(problem: Problem, after: Array) -> Array:
    """By what is resident before the first layer: the best value of all layers and of what is left after.

    Both in millionths, by set as in `subsets_of`.
    """
    return _backwards(problem, after)[0]


def _backwards(problem: Problem, after: Array) -> tuple[Array, list[Array]]:
    """The value to go, and by layer what holding each set in it is worth, layers in order."""
    subsets, cost = _prepare(problem)
    later, ahead = after, []
    for layer in reversed(problem.layers):
        ahead.append(_gain(problem, subsets, layer) + later)
        later = _best_from(ahead[-1], cost)
    return later, ahead[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFreePlanner:
    """The best order and plan, one task at a time: gains utility, gives up parallel branches."""

    name: str = "order-free"
    window: int | None = None
    max_models: int = MAX_MODELS
    """Models planned over; where more fit, see `narrow`."""

    def plan(self, problem: Problem) -> Plan:
        """Plan every task, after those that its edges name.

        Raises
        ------
        UsageError: more orders exist than can be counted.
        """
        if len(problem.fleet.fitting) > self.max_models:
            part = narrowed(problem, self.max_models)
            return widened(self.plan(part.problem), part)
        subsets, cost = _prepare(problem)
        needs = [0] * problem.num_tasks
        for before, after in problem.edges:
            needs[after] |= 1 << before
        gains = [_gain(problem, subsets, (task,)) for task in range(problem.num_tasks)]
        stages = _reachable(needs, MAX_STATES // len(subsets.fits))
        ahead: dict[int, Array] = {(1 << problem.num_tasks) - 1: np.zeros(len(subsets.fits))}
        for stage in reversed(stages[:-1]):
            for done in stage:
                held = [gains[i] + ahead[done | 1 << i] for i in _ready(needs, done)]
                ahead[done] = _best_from(np.maximum.reduce(held), cost)
        return _walk(problem, subsets, cost, needs, gains, ahead)


def _walk(
    problem: Problem,
    subsets: Subsets,
    cost: Array,
    needs: Sequence[int],
    gains: Sequence[Array],
    ahead: dict[int, Array],
) -> Plan:
    """Follow the values forward; the first ready task among equals."""
    done, now, assignment, residents, order = 0, _mask(subsets, problem.resident), {}, [], []
    value = float(ahead[0][now]) / MICRO
    for _ in range(problem.num_tasks):
        options = {}
        for task in _ready(needs, done):
            held = gains[task] + ahead[done | 1 << task]
            chosen = _choose(held, now, subsets, cost)
            options[task] = (float(held[chosen] - _loading(subsets, cost, now)[chosen]), chosen)
        task = max(options, key=lambda task: options[task][0])
        now = options[task][1]
        assignment[task] = pick(problem.micro[[task]], subsets, now)[0]
        residents.append(_models(subsets, now))
        order.append((task,))
        done |= 1 << task
    models = tuple(assignment[task] for task in range(problem.num_tasks))
    certificate = Certificate("dp", True, value, None, False, len(ahead) * len(subsets.ranked))
    return Plan(models, tuple(residents), value, certificate, tuple(order))


def _prepare(problem: Problem) -> tuple[Subsets, Array]:
    subsets = subsets_of(problem.fleet)
    return subsets, np.array([problem.load_micro[m] for m in subsets.columns])


def _kept_worth(problem: Problem, subsets: Subsets, cost: Array, share: float) -> Array:
    """What each set is worth after the last layer, in whole millionths."""
    if not problem.has_more:
        return np.zeros(len(subsets.fits))
    worth: Array = subsets.bits @ np.rint(share * cost)
    return worth


def _gain(problem: Problem, subsets: Subsets, layer: Sequence[int]) -> Array:
    """What a layer's tasks gain on each set; −inf where it is empty or does not fit."""
    values = set_values(np.ascontiguousarray(problem.micro[np.ix_(list(layer), list(subsets.columns))].T))
    gained: Array = np.where(subsets.fits, values, -np.inf)
    return gained


def _best_from(held: Array, cost: Array) -> Array:
    """By what was resident before: the best of what can be held now, less its loading."""
    best = held.copy()
    for k in range(len(cost)):
        pairs = best.reshape(-1, 2, 1 << k)
        np.maximum(pairs[:, 0], pairs[:, 1] - cost[k], out=pairs[:, 0])
    for k in range(len(cost)):
        pairs = best.reshape(-1, 2, 1 << k)
        np.maximum(pairs[:, 1], pairs[:, 0], out=pairs[:, 1])
    return best


def _loading(subsets: Subsets, cost: Array, now: int) -> Array:
    """What each set's new models cost to load."""
    due: Array = subsets.bits @ (cost * (1 - subsets.bits[now]))
    return due


def _choose(held: Array, now: int, subsets: Subsets, cost: Array) -> int:
    """The best set; among equals the one that loads least now, keeps most, and is then preferred by rank."""
    loading = _loading(subsets, cost, now)
    values = (held - loading)[subsets.ranked]
    equal = subsets.ranked[np.flatnonzero(values == values.max())]
    if len(equal) == 1:
        return int(equal[0])
    kept = (subsets.bits[equal] * subsets.bits[now]) @ cost
    new = (subsets.bits[equal] * (1 - subsets.bits[now])).sum(axis=1)
    return int(equal[np.lexsort((-kept, new, loading[equal]))[0]])


def _mask(subsets: Subsets, models: frozenset[int]) -> int:
    """A set of models as bits; what does not fit by itself cannot be kept."""
    return sum(1 << k for k, m in enumerate(subsets.columns) if m in models)


def _models(subsets: Subsets, mask: int) -> frozenset[int]:
    return frozenset(subsets.columns[k] for k in subsets.members[mask])


def _ready(needs: Sequence[int], done: int) -> list[int]:
    return [i for i, need in enumerate(needs) if not done >> i & 1 and need & done == need]


def _reachable(needs: Sequence[int], limit: int) -> list[list[int]]:
    """Sets of done tasks, by how many are done."""
    stages, count = [[0]], 1
    for _ in needs:
        stages.append(sorted({done | 1 << i for done in stages[-1] for i in _ready(needs, done)}))
        count += len(stages[-1])
        if count > limit:
            raise UsageError(f"{len(needs)} tasks have over {limit} partial orders; plan fewer jobs at once")
    return stages
