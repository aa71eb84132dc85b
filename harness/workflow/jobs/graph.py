"""Jobs as graphs of tasks.

A task waits for those that its edges name; the tasks of a layer run at once. What travels along an edge is
the answer of the earlier task: the origin drew edges that carried nothing, so its third job could not be
solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.errors import WorkloadError

__all__ = ["TASK_TYPES", "TaskGraph", "TaskNode", "in_sequence", "merged"]

TASK_TYPES = ("code", "creative", "extraction", "math", "reasoning", "summarize")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNode:
    """One task of a job, as far as planning sees it.

    Raises
    ------
    WorkloadError: an unknown type, a difficulty below 1, or no tokens.
    """

    id: str
    type: str
    difficulty: float
    """1 is plain"""
    num_tokens: int
    """estimate of prompt and output together"""

    def __post_init__(self) -> None:
        if self.type not in TASK_TYPES:
            raise WorkloadError(f"task {self.id}: unknown type {self.type!r}; use {', '.join(TASK_TYPES)}")
        if not 1 <= self.difficulty < 100 or self.num_tokens < 1:
            raise WorkloadError(
                f"task {self.id}: difficulty {self.difficulty}, {self.num_tokens} tokens; give both ≥ 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGraph:
    """One job.

    Raises
    ------
    WorkloadError: no task, two of one id, an edge to an unknown task, or a cycle.
    """

    id: str
    tasks: tuple[TaskNode, ...]
    edges: tuple[tuple[str, str], ...] = ()
    """(before, after)"""

    def __post_init__(self) -> None:
        ids = [task.id for task in self.tasks]
        if not ids:
            raise WorkloadError(f"job {self.id}: it has no task; add one or leave the job out")
        if len(set(ids)) < len(ids):
            raise WorkloadError(f"job {self.id}: two tasks have one id in {', '.join(ids)}; rename one")
        for edge in self.edges:
            for end in edge:
                if end not in ids:
                    raise WorkloadError(f"job {self.id}: edge {edge} names no task; use {', '.join(ids)}")
        self.layers()

    def layers(self) -> tuple[tuple[int, ...], ...]:
        """Tasks by the longest way to them; each waits for earlier layers only."""
        place = {task.id: at for at, task in enumerate(self.tasks)}
        left, layers = set(place), []
        while left:
            ready = left - {after for before, after in self.edges if before in left}
            if not ready:
                raise WorkloadError(f"job {self.id}: cycle through {', '.join(sorted(left))}; cut one edge")
            layers.append(tuple(sorted(place[name] for name in ready)))
            left -= ready
        return tuple(layers)

    def indexed_edges(self) -> tuple[tuple[int, int], ...]:
        """Edges by place in `tasks`."""
        place = {task.id: at for at, task in enumerate(self.tasks)}
        return tuple((place[before], place[after]) for before, after in self.edges)


def merged(graphs: Sequence[TaskGraph], name: str) -> TaskGraph:
    """Several jobs as one graph without edges between them: branches that may be interleaved."""
    tasks = tuple(
        TaskNode(id=f"{g.id}.{t.id}", type=t.type, difficulty=t.difficulty, num_tokens=t.num_tokens)
        for g in graphs
        for t in g.tasks
    )
    edges = tuple((f"{g.id}.{before}", f"{g.id}.{after}") for g in graphs for before, after in g.edges)
    return TaskGraph(id=name, tasks=tasks, edges=edges)


def in_sequence(graphs: Sequence[TaskGraph], name: str) -> TaskGraph:
    """Several jobs as one graph, each after the one before: what is resident stays between them."""
    whole = merged(graphs, name)
    joints: list[tuple[str, str]] = []
    for old, new in pairwise(graphs):
        ends = [f"{old.id}.{old.tasks[i].id}" for i in old.layers()[-1]]
        starts = [f"{new.id}.{new.tasks[i].id}" for i in new.layers()[0]]
        joints += [(end, start) for end in ends for start in starts]
    return TaskGraph(id=name, tasks=whole.tasks, edges=(*whole.edges, *joints))
