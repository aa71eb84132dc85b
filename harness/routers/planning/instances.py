"""Seeded instances: WorkflowBench's shapes with other numbers, and random planning problems.

Random problems: sizes uniform in 1 to 13 GB in tenths; quality 0.45 + 0.35 × size / 13 GB with noise of 0.1,
less 0.08 per GB and 1000 tokens (100 to 450 tokens), so that larger models are better and dearer, as the
origin's are; loads cost 0.026 per GB, as for the origin's three larger models; the budget is that of a card:
8, 12, 16 or 24 GB, but at least the smallest model. The recipe is ours; shares of violations are those of it.
"""

from __future__ import annotations

import random

import numpy as np

from harness.errors import UsageError
from harness.routers.planning.base import Fleet, Problem
from harness.routers.planning.published import jobs
from harness.workflow.jobs.graph import TaskGraph, TaskNode

__all__ = ["random_problem", "workflow_instances"]

TENTH_GB = 10**8
LOAD_COST_PER_GB = 0.026
CARDS_GB = (8, 12, 16, 24)


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
    budget = max(int(tenths.min()), 10 * int(rng.choice(CARDS_GB)))
    fleet = Fleet(
        models=tuple(f"m{m:02}" for m in range(num_models)),
        size_bytes=tuple(int(tenth) * TENTH_GB for tenth in tenths),
        budget_bytes=budget * TENTH_GB,
    )
    parts = np.array_split(np.arange(num_tasks), num_layers)
    quality = 0.45 + 0.35 * tenths / 130 + rng.normal(0, 0.1, (num_tasks, num_models))
    ktokens = rng.uniform(0.1, 0.45, (num_tasks, 1))
    return Problem(
        fleet=fleet,
        utility=np.clip(quality, 0, 1) - 0.08 * ktokens * tenths / 10,
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
