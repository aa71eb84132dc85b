"""The fleets and jobs of the origin as data, and the utilities that follow from them.

`fleets.toml` and `fleet_models.toml` hold the rows with their sources; this module their schema. The jobs are
those of `harness.workflow.jobs`, as planning sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from harness.errors import UsageError, WorkloadError
from harness.routers.planning.base import Fleet, Problem
from harness.tables import read_tables
from harness.workflow.jobs.file import published
from harness.workflow.jobs.graph import TaskGraph, TaskNode

__all__ = ["BYTES_PER_GB", "FleetRow", "ModelRow", "fleet", "job", "jobs", "problem_of"]

FLEETS_FILE = Path(__file__).with_name("fleets.toml")
MODELS_FILE = Path(__file__).with_name("fleet_models.toml")
BYTES_PER_GB = 10**9
STATUSES = ("published", "fitted", "measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Expected quality by task type, 0 to 1; None: not given."""

    extraction: float
    math: float
    code: float
    reasoning: float
    summarize: float
    creative: float | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"prior {name} is {value}; it must be from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token estimates by task type, in the place of the jobs' own."""

    extraction: int
    math: int
    code: int
    reasoning: int
    summarize: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One model of one fleet; `name` is fleet/model."""

    name: str
    gb: float
    cost_per_ktoken: float
    priors: Priors
    source: str
    load_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.gb > 0 or not self.cost_per_ktoken >= 0 or self.name.count("/") != 1:
            raise ValueError("name it fleet/model, with gb above 0 and cost_per_ktoken at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """How one fleet's utilities are made; formulas in `fleets.toml`."""

    name: str
    status: str
    """published, fitted or measured"""
    budget_gb: float
    lambda_token: float
    lambda_switch: float
    difficulty_slope: float
    source: str
    switch_ms: float | None = None
    switch_gb: float | None = None
    tokens: Tokens | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r}; use {', '.join(STATUSES)}")
        if (self.switch_ms is None) == (self.switch_gb is None):
            raise ValueError("give one of switch_ms and switch_gb")


@cache
def fleet(name: str) -> tuple[FleetRow, tuple[ModelRow, ...]]:
    """A fleet's row and its models'.

    Raises
    ------
    UsageError: no fleet has that name, or a file is malformed.
    """
    fleets = read_tables(FLEETS_FILE, "fleet", FleetRow)
    if name not in fleets:
        raise UsageError(f"no fleet {name!r}; use {', '.join(sorted(fleets))}")
    models = read_tables(MODELS_FILE, "model", ModelRow)
    return fleets[name], tuple(row for row in models.values() if row.name.split("/")[0] == name)


@cache
def jobs() -> tuple[TaskGraph, ...]:
    """WorkflowBench's three jobs."""
    return tuple(each.graph for each in published().jobs)


def job(name: str) -> TaskGraph:
    """One of the three jobs.

    Raises
    ------
    WorkloadError: no job has that name.
    """
    for each in jobs():
        if each.id == name:
            return each
    raise WorkloadError(f"no job {name!r}; use {', '.join(each.id for each in jobs())}")


def problem_of(
    graph: TaskGraph,
    row: FleetRow,
    models: Sequence[ModelRow],
    *,
    budget_gb: float | None = None,
    resident: frozenset[int] = frozenset(),
) -> Problem:
    """A job on a fleet.

    budget_gb: in the place of the fleet's own.

    Raises
    ------
    BudgetError: no model fits.
    WorkloadError: a model has no prior for a task's type.
    """
    budget = row.budget_gb if budget_gb is None else budget_gb
    return Problem(
        fleet=Fleet(
            models=tuple(model.name.split("/")[1] for model in models),
            size_bytes=tuple(round(model.gb * BYTES_PER_GB) for model in models),
            budget_bytes=round(budget * BYTES_PER_GB),
        ),
        utility=np.array([[_utility(task, row, model) for model in models] for task in graph.tasks]),
        load_cost=tuple(_load_cost(row, model) for model in models),
        resident=resident,
        layers=graph.layers(),
        edges=graph.indexed_edges(),
    )


def _utility(task: TaskNode, row: FleetRow, model: ModelRow) -> float:
    prior: float | None = getattr(model.priors, task.type)
    if prior is None:
        raise WorkloadError(f"{model.name}: no prior for type {task.type!r} of task {task.id}; add it")
    quality = min(1.0, max(0.0, prior - row.difficulty_slope * max(0.0, task.difficulty - 1)))
    num_tokens: int = getattr(row.tokens, task.type, task.num_tokens)
    return quality - row.lambda_token * model.cost_per_ktoken * num_tokens / 1000


def _load_cost(row: FleetRow, model: ModelRow) -> float:
    if row.switch_gb is not None:
        return row.lambda_switch * model.gb / row.switch_gb
    if model.load_ms is None or row.switch_ms is None:
        raise UsageError(f"{model.name}: load_ms is missing; add it, since {row.name} has switch_ms")
    return row.lambda_switch * model.load_ms / row.switch_ms
