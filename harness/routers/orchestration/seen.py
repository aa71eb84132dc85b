"""What is planned next of a job, and which models that needs: from names to a planner's numbers and back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from harness.errors import UsageError
from harness.routers.orchestration.estimates import Estimates
from harness.routers.orchestration.residency import Residency
from harness.routers.planning.base import Plan, Problem
from harness.workflow.jobs.graph import TaskGraph, TaskNode
from harness.workflow.jobs.job import Job

__all__ = ["First", "Seen", "beside", "first_of", "seen"]


class Seen(NamedTuple):
    """The tasks that a plan is to be made for, numbered in the order of their layers."""

    nodes: tuple[TaskNode, ...]
    layers: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the tasks."""
        return tuple(node.id for node in self.nodes)

    def problem(self, estimates: Estimates, residency: Residency, *, has_more: bool = False) -> Problem:
        """As a planning problem, with what is loaded and what room there is; see `Estimates.problem`.

        has_more: whether work follows that is not seen.
        """
        return estimates.problem(
            self.nodes,
            {name: residency.size_bytes(name) for name in estimates.models},
            residency.room_bytes,
            resident=residency.resident,
            layers=self.layers,
            edges=self.edges,
            has_more=has_more,
        )


class First(NamedTuple):
    """The step of a plan that runs next."""

    models: dict[str, str]
    """task → model"""
    wanted: tuple[str, ...]
    """Models that must be loaded for it."""
    keep: tuple[str, ...]
    """Models that are loaded and stay."""


def seen(job: Job, answered: Collection[str], *, window: int | None, is_flat: bool) -> Seen:
    """The unanswered tasks of a job in the first layers; all of them as one layer without edges where flat.

    window: layers; None is all.
    """
    left = tuple(task.node for task in job.tasks if task.id not in answered)
    names = {node.id for node in left}
    graph = TaskGraph(
        id=job.id, tasks=left, edges=tuple(edge for edge in job.edges if names.issuperset(edge))
    )
    if is_flat:
        return Seen(left, (tuple(range(len(left))),), ())
    layers = graph.layers()[:window]
    order = [i for layer in layers for i in layer]
    place = {task: at for at, task in enumerate(order)}
    edges = tuple((place[a], place[b]) for a, b in graph.indexed_edges() if a in place and b in place)
    return Seen(
        tuple(left[i] for i in order), tuple(tuple(place[i] for i in layer) for layer in layers), edges
    )


def first_of(plan: Plan, problem: Problem, tasks: Sequence[str], *, is_flat: bool = False) -> First:
    """The step that runs next: the ready layer, or the tasks that a plan of its own order names first.

    A flat plan is one step, whatever order it has: it was made without the edges.

    Raises
    ------
    UsageError: the plan begins with nothing, or with a task that waits for another one.
    """
    first = plan.order[0] if plan.order and not is_flat else problem.layers[0]
    if not first:
        raise UsageError("a plan begins with no task; name those that run first, or leave the order out")
    for earlier, later in problem.edges:
        if later in first and earlier not in first:
            raise UsageError(
                f"a plan begins with {tasks[later]}, which needs {tasks[earlier]} first; keep to the edges"
            )
    names = problem.fleet.models
    used = {plan.assignment[i] for i in first}
    after = plan.residents[0] | used
    return First(
        models={tasks[i]: names[plan.assignment[i]] for i in first},
        wanted=tuple(names[m] for m in sorted(used | (after - problem.resident))),
        keep=tuple(names[m] for m in sorted((after & problem.resident) - used)),
    )


def beside(planner: str, residency: Residency, estimates: Estimates) -> tuple[str, ...]:
    """What stays loaded when a planning model is: what costs most to load again, as far as there is room."""
    room = residency.room_bytes - residency.size_bytes(planner)
    sizes = {name: residency.size_bytes(name) for name in residency.resident if name in estimates.models}
    keep = []
    for name in sorted(sizes, key=lambda name: (-estimates.load_cost(name, sizes[name]), name)):
        if sizes[name] <= room:
            keep.append(name)
            room -= sizes[name]
    return tuple(keep)
