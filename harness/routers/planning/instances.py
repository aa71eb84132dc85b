"""Seeded instances: WorkflowBench's shapes with other numbers, and random planning problems.

Random problems: utilities uniform in 0 to 1, sizes uniform in 1 to 13 GB in tenths, loads cost 0.02 per GB
(as the origin's 600 ms for 2 GB do, nearly), and the budget is a share of all sizes that is uniform in 15 to
50 %, but at least the smallest model. The recipe is ours; shares of violations are those of this recipe.
"""

from __future__ import annotations

import random

import numpy as np

from harness.errors import UsageError
from harness.routers.planning.base import Fleet, Problem
from harness.routers.planning.dag import TaskGraph, TaskNode
from harness.routers.planning.published import jobs

__all__ = ["random_problem", "workflow_instances"]

TENTH_GB = 10**8
LOAD_COST_PER_GB = 0.02


def workflow_instances(num: int, *, seed: int) -> tuple[TaskGraph, ...]:
    """Jobs of the same three shapes in turn; difficulties and token estimates vary around the originals.

    Raises
    ------
    UsageError: num is below 1.
    """
    if num < 1:
        raise UsageError(f"{num} instances; give at least 1")
    rng = random.Random(seed)
    shapes = jobs()
    return tuple(_varied(shapes[at % len(shapes)], at // len(shapes), rng) for at in range(num))


def random_problem(num_tasks: int, num_models: int, *, seed: int, num_layers: int = 1) -> Problem:
    """A planning problem; the same for the same arguments."""
    rng = np.random.default_rng([seed, num_tasks, num_models, num_layers])
    tenths = rng.integers(10, 131, num_models)
    budget = max(int(tenths.min()), int(tenths.sum() * rng.uniform(0.15, 0.5)))
    fleet = Fleet(
        models=tuple(f"m{m:02}" for m in range(num_models)),
        size_bytes=tuple(int(tenth) * TENTH_GB for tenth in tenths),
        budget_bytes=budget * TENTH_GB,
    )
    parts = np.array_split(np.arange(num_tasks), num_layers)
    return Problem(
        fleet=fleet,
        utility=rng.uniform(0, 1, (num_tasks, num_models)),
        load_cost=tuple(float(LOAD_COST_PER_GB * tenth / 10) for tenth in tenths),
        layers=tuple(tuple(int(i) for i in part) for part in parts),
    )


def _varied(shape: TaskGraph, number: int, rng: random.Random) -> TaskGraph:
    tasks = tuple(
        TaskNode(
            id=task.id,
            type=task.type,
            difficulty=max(1.0, task.difficulty + rng.choice((-0.5, 0.0, 0.5))),
            num_tokens=round(task.num_tokens * rng.uniform(0.6, 1.6)),
        )
        for task in shape.tasks
    )
    return TaskGraph(id=f"{shape.id}-{number:03}", tasks=tasks, edges=shape.edges)
