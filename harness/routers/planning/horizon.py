"""Executing a job layer by layer: plan what the window shows, run the ready layer, plan again.

`window` counts the layers seen, the ready one among them, so it is ≥ 1; completed tasks are never in it. The
origin's "depth 1" run is window 1, its "depth 3" run is window 3 (for it kept completed tasks in its horizon,
which is why its objective grew from step to step).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from harness.errors import UsageError
from harness.routers.planning.base import MICRO, Plan, Planner, Problem

__all__ = ["Trajectory", "flat", "follow", "roll"]


class Trajectory(NamedTuple):
    """What was executed."""

    assignment: tuple[int, ...]
    executed: tuple[frozenset[int], ...]
    """models that answered in each step"""
    residents: tuple[frozenset[int], ...]
    """models loaded in each step; more than fits where a plan violates"""
    value: float
    """utilities less every load that was paid"""
    plans: tuple[Plan, ...]
    num_replaced: int
    """plans that did not fit, in whose place the fallback's was executed"""


def flat(problem: Problem) -> Problem:
    """The same tasks all at once, without dependencies."""
    return replace(problem, layers=(), edges=())


def roll(planner: Planner, problem: Problem, *, fallback: Planner | None = None) -> Trajectory:
    """Execute a problem step by step.

    fallback: executed in the place of a plan that does not fit; without it such a plan is executed as it is.

    Raises
    ------
    UsageError: the planner's window is below 1.
    """
    if planner.window is not None and planner.window < 1:
        raise UsageError(f"{planner.name}: window {planner.window}; it counts the ready layer, so give ≥ 1")
    assignment = [0] * problem.num_tasks
    held, gained, replaced = problem.resident, 0.0, 0
    executed, residents, plans = [], [], []
    for at, layer in enumerate(problem.layers):
        seen = problem.layers[at:] if planner.window is None else problem.layers[at : at + planner.window]
        plan = planner.plan(_part(problem, seen, held))
        plans.append(plan)
        if plan.certificate.violates and fallback is not None:
            plan, replaced = fallback.plan(_part(problem, seen, held)), replaced + 1
        for place, task in enumerate(layer):
            assignment[task] = plan.assignment[place]
        gained += sum(float(problem.micro[task, assignment[task]]) for task in layer)
        gained -= sum(problem.load_micro[m] for m in plan.residents[0] - held)
        held = plan.residents[0]
        executed.append(frozenset(assignment[task] for task in layer))
        residents.append(held)
    return Trajectory(
        tuple(assignment), tuple(executed), tuple(residents), gained / MICRO, tuple(plans), replaced
    )


def follow(planner: Planner, problem: Problem) -> Trajectory:
    """Plan a problem once and execute the whole plan, in the plan's own order."""
    plan = planner.plan(problem)
    steps = plan.order or problem.layers
    loads = [
        sum(problem.load_micro[m] for m in now - old)
        for old, now in pairwise((problem.resident, *plan.residents))
    ]
    gained = float(problem.micro[range(problem.num_tasks), plan.assignment].sum())
    return Trajectory(
        plan.assignment,
        tuple(frozenset(plan.assignment[task] for task in step) for step in steps),
        plan.residents,
        (gained - sum(loads)) / MICRO,
        (plan,),
        0,
    )


def _part(problem: Problem, layers: tuple[tuple[int, ...], ...], held: frozenset[int]) -> Problem:
    """Some layers as a problem of their own, tasks numbered in the order of the layers."""
    tasks = [task for layer in layers for task in layer]
    numbered = iter(range(len(tasks)))
    place = {task: at for at, task in enumerate(tasks)}
    return Problem(
        fleet=problem.fleet,
        utility=problem.utility[tasks],
        load_cost=problem.load_cost,
        resident=held,
        layers=tuple(tuple(next(numbered) for _ in layer) for layer in layers),
        edges=tuple((place[a], place[b]) for a, b in problem.edges if a in place and b in place),
        has_more=problem.has_more or layers[-1] != problem.layers[-1],
    )
