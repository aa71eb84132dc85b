"""The same linear program straight to HiGHS, kept warm: the fastest honest form of the published planner.

One model per shape and fleet; a new problem only changes its costs, and the simplex starts from the last
basis. It stands beside `LPPlanner` so that a speed is not owed to cvxpy's compiling.

Presolve is off and the solver is simplex: both only cost time on a warm model (a fifth at 3 × 4). Other
choices were tried on both recipes of `instances`, by solver time against this one: primal simplex (0.9 to 2.5
times as long), other edge weights (1 to 1.3), no scaling (0.8 to 1.2), no upper bound on x (0.6 to 1.3), a
cold start with presolve (0.8 to 1.8). None is faster throughout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.errors import UnavailableError
from harness.routers.planning.base import (
    MICRO,
    Certificate,
    Fleet,
    Plan,
    Problem,
    lazy_residents,
    total_bytes,
)
from harness.routers.planning.lp import BYTES_PER_GB, TOLERANCE

__all__ = ["WarmLPPlanner"]


class WarmLPPlanner:
    """One fleet and number of tasks; not to be shared by threads."""

    name = "lp-warm"
    window: int | None = 1

    def __init__(self, fleet: Fleet, num_tasks: int) -> None:
        self._shape = (num_tasks, len(fleet.models))
        self._highs = _build(fleet, num_tasks)
        self._columns = np.arange(num_tasks * len(fleet.models) + len(fleet.models), dtype=np.int32)

    def plan(self, problem: Problem) -> Plan:
        """Plan every task of a problem of the same fleet and size; the plan may not fit.

        Raises
        ------
        UnavailableError: HiGHS finds no optimum.
        """
        costs = np.concatenate([problem.micro.ravel(), -np.array(problem.due_micro())]) / MICRO
        self._highs.changeColsCost(len(costs), self._columns, costs)
        self._highs.run()
        status = self._highs.getModelStatus()
        if status.name != "kOptimal":
            raise UnavailableError(f"lp-warm: HiGHS finds no optimum ({status.name}); use: exact")
        found = np.array(self._highs.getSolution().col_value)
        x = found[: problem.num_tasks * self._shape[1]].reshape(self._shape)
        assignment = tuple(x.argmax(axis=1).tolist())
        certificate = Certificate(
            solver="highs",
            bound=float(self._highs.getObjectiveValue()),
            fractional=bool(((found > TOLERANCE) & (found < 1 - TOLERANCE)).any()),
            violates=total_bytes(problem.fleet, set(assignment)) > problem.fleet.budget_bytes,
        )
        return Plan(
            assignment, lazy_residents(problem, assignment), problem.value_of(assignment), certificate
        )


def _build(fleet: Fleet, num_tasks: int) -> Any:
    """Columns: x by task and model, then y. Rows: a sum per task, x ≤ y per pair, the budget."""
    try:
        import highspy
    except ImportError as exc:
        raise UnavailableError("lp-warm: highspy is missing; run: pip install 'assay[routing]'") from exc
    num_models = len(fleet.models)
    num_x = num_tasks * num_models
    lower: list[float] = []
    upper: list[float] = []
    starts: list[int] = []
    index: list[int] = []
    value: list[float] = []

    def row(low: float, high: float, columns: list[int], values: list[float]) -> None:
        lower.append(low)
        upper.append(high)
        starts.append(len(index))
        index.extend(columns)
        value.extend(values)

    for task in range(num_tasks):
        row(1, 1, list(range(task * num_models, (task + 1) * num_models)), [1.0] * num_models)
    for x in range(num_x):
        row(-highspy.kHighsInf, 0, [x, num_x + x % num_models], [1.0, -1.0])
    sizes = [size / BYTES_PER_GB for size in fleet.size_bytes]
    row(-highspy.kHighsInf, fleet.budget_bytes / BYTES_PER_GB, list(range(num_x, num_x + num_models)), sizes)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = num_x + num_models, len(lower)
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.zeros(lp.num_col_)
    lp.col_lower_, lp.col_upper_ = np.zeros(lp.num_col_), np.ones(lp.num_col_)
    lp.row_lower_, lp.row_upper_ = np.array(lower, dtype=float), np.array(upper, dtype=float)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.array([*starts, len(index)], dtype=np.int32)
    lp.a_matrix_.index_ = np.array(index, dtype=np.int32)
    lp.a_matrix_.value_ = np.array(value)
    solver: Any = highspy.Highs
    highs = solver()
    highs.silent()
    highs.setOptionValue("presolve", "off")
    highs.setOptionValue("solver", "simplex")
    highs.passModel(lp)
    return highs
