"""What a planner is given and what it returns.

A planner decides which model answers which task while the models of a step share a memory budget. One task
takes one model; a step's models must fit together; loading a model costs, keeping one does not. Eviction
precedes loading, so old and new models need not fit side by side.

Utilities are rounded to whole millionths once, here, and held as float64: sums of whole numbers below 2⁵³ are
exact in any order, so that no result depends on the order of models or tasks. "Fits" is ≤: 8.0 GB fits 8.0.

Traps: memory is whole bytes, never a float of GB; `resident` may be dropped at no cost, but what is dropped
must be paid for again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from harness.errors import BudgetError, UsageError, WorkloadError

__all__ = ["MICRO", "Certificate", "Fleet", "Plan", "Planner", "Problem", "lazy_residents", "total_bytes"]

MICRO = 1e6
MAX_UTILITY = 1e6
"""Above it, sums of millionths over some thousand tasks would no longer be exact."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Models that share one budget; hashable, so that what follows from it is computed once.

    Raises
    ------
    UsageError: no model, two of one name, or a size that is not positive.
    BudgetError: no model fits by itself.
    """

    models: tuple[str, ...]
    size_bytes: tuple[int, ...]
    budget_bytes: int

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise UsageError(f"fleet {self.models}: give at least one model, and each a name of its own")
        if len(self.size_bytes) != len(self.models) or min(self.size_bytes) <= 0:
            raise UsageError(f"fleet sizes {self.size_bytes}: give each of {self.models} a size in bytes > 0")
        if min(self.size_bytes) > self.budget_bytes:
            raise BudgetError(
                f"no model fits {self.budget_bytes} bytes; the smallest takes {min(self.size_bytes)}: "
                "raise the budget or add a smaller model"
            )

    @property
    def fitting(self) -> tuple[int, ...]:
        """Models that fit by themselves, in order of name."""
        fits = [m for m, size in enumerate(self.size_bytes) if size <= self.budget_bytes]
        return tuple(sorted(fits, key=self.models.__getitem__))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """What is to be planned, and what is loaded now.

    Raises
    ------
    WorkloadError: no task, layers that are no partition of the tasks, or edges against the layers.
    UsageError: a utility is NaN or beyond ±1e6, a shape is wrong, or a load cost is negative or NaN.
    """

    fleet: Fleet
    utility: Array
    """[tasks × models], quality less the cost of tokens"""
    load_cost: tuple[float, ...]
    """per model, in units of utility; paid when it is not resident"""
    resident: frozenset[int] = frozenset()
    layers: tuple[tuple[int, ...], ...] = ()
    """tasks that run at once, in order; empty: all in one"""
    edges: tuple[tuple[int, int], ...] = ()
    """(before, after); only `OrderFreePlanner` reads them"""
    has_more: bool = False
    """whether tasks that are not seen follow the last layer: what is loaded then may serve again"""
    micro: Array = field(init=False, repr=False)
    """`utility` in whole millionths"""
    load_micro: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        num_models = len(self.fleet.models)
        utility = np.asarray(self.utility, dtype=np.float64)
        if utility.ndim != 2 or utility.shape[1] != num_models:
            raise UsageError(f"utility has shape {utility.shape}; give tasks × {num_models} models")
        if not utility.shape[0]:
            raise WorkloadError("empty job: it has no task; leave it out")
        if not (utility.min() >= -MAX_UTILITY and utility.max() <= MAX_UTILITY):
            raise _bad_utility(utility, self.fleet)
        if len(self.load_cost) != num_models or not all(0 <= c <= MAX_UTILITY for c in self.load_cost):
            raise UsageError(f"load costs {self.load_cost}: give each of {num_models} models a number ≥ 0")
        if not all(0 <= m < num_models for m in self.resident):
            raise UsageError(f"resident {sorted(self.resident)}: models are 0 to {num_models - 1}")
        if not self.layers:
            object.__setattr__(self, "layers", (tuple(range(len(utility))),))
        elif sorted(i for layer in self.layers for i in layer) != list(range(len(utility))):
            raise WorkloadError(f"layers {self.layers}: name each of {len(utility)} tasks once")
        elif not all(self.layers):
            raise WorkloadError(f"layers {self.layers}: one is empty; leave it out")
        if self.edges:
            _check_edges(self.layers, self.edges)
        object.__setattr__(self, "micro", np.rint(utility * MICRO))
        object.__setattr__(self, "load_micro", tuple(float(round(c * MICRO)) for c in self.load_cost))

    @property
    def num_tasks(self) -> int:
        """Rows of the utilities."""
        return len(self.micro)

    def due_micro(self) -> list[float]:
        """What loading each model would cost now: nothing for a resident one."""
        return [0.0 if m in self.resident else cost for m, cost in enumerate(self.load_micro)]

    def value_of(self, assignment: tuple[int, ...]) -> float:
        """Objective of an assignment that holds all its models at once."""
        due = self.due_micro()
        gained = float(self.micro[np.arange(self.num_tasks), assignment].sum())
        return (gained - sum(due[m] for m in set(assignment))) / MICRO


class Certificate(NamedTuple):
    """What is known about a plan beside the plan."""

    solver: str
    optimal: bool = False
    """Whether no better plan of the planner's own kind exists."""
    bound: float | None = None
    """No plan has a higher objective; None where none was computed."""
    fractional: bool | None = None
    """Whether the relaxed solution mixed models; None where nothing was relaxed."""
    violates: bool = False
    """Whether the plan needs more memory than the budget."""
    num_nodes: int | None = None
    """Model sets looked at."""
    solver_s: float | None = None
    """Seconds that a solver says it took by itself; None where there is none, or it does not say."""


class Plan(NamedTuple):
    """Who answers what, and what is loaded when."""

    assignment: tuple[int, ...]
    """model by task"""
    residents: tuple[frozenset[int], ...]
    """models loaded while each step runs, lazily kept ones among them"""
    objective: float
    certificate: Certificate
    order: tuple[tuple[int, ...], ...] = ()
    """tasks of each step, where they differ from the problem's layers"""

    @property
    def resident(self) -> frozenset[int]:
        """Models loaded after the last step."""
        return self.residents[-1]


class Planner(Protocol):
    """The one interface of the family."""

    @property
    def name(self) -> str:
        """As it stands in tables."""

    @property
    def window(self) -> int | None:
        """Layers seen at once, the ready one among them; None: all."""

    def plan(self, problem: Problem) -> Plan:
        """Plan every task of the problem."""


def total_bytes(fleet: Fleet, models: Iterable[int]) -> int:
    """Memory of some models together."""
    return sum(fleet.size_bytes[m] for m in models)


def lazy_residents(problem: Problem, assignment: tuple[int, ...]) -> tuple[frozenset[int], ...]:
    """What is loaded in each layer if nothing is dropped before its room is needed.

    Where not all old models fit beside the new ones, the ones that cost most to load again stay.
    """
    held, steps = problem.resident, []
    for layer in problem.layers:
        used = frozenset(assignment[i] for i in layer)
        held = _keep(problem, used, held) if held - used else used
        steps.append(held)
    return tuple(steps)


def _keep(problem: Problem, used: frozenset[int], old: frozenset[int]) -> frozenset[int]:
    fleet, kept = problem.fleet, set(used)
    room = fleet.budget_bytes - total_bytes(fleet, used)
    for m in sorted(old - used, key=lambda m: (-problem.load_micro[m], fleet.size_bytes[m], fleet.models[m])):
        if fleet.size_bytes[m] <= room:
            kept.add(m)
            room -= fleet.size_bytes[m]
    return frozenset(kept)


def _bad_utility(utility: Array, fleet: Fleet) -> UsageError:
    task, model = np.argwhere(~(np.abs(utility) <= MAX_UTILITY))[0]
    value = utility[task, model]
    return UsageError(
        f"utility of task {task} on {fleet.models[model]} is {value}; give a number within ±{MAX_UTILITY:g}"
    )


def _check_edges(layers: tuple[tuple[int, ...], ...], edges: tuple[tuple[int, int], ...]) -> None:
    place = {task: at for at, layer in enumerate(layers) for task in layer}
    for before, after in edges:
        if before not in place or after not in place or place[before] >= place[after]:
            raise WorkloadError(f"edge {before} → {after} goes against the layers {layers}; order them by it")
