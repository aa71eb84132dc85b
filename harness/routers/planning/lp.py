"""The published planner: a linear program relaxed, then rounded by argmax.

Maximise Σ x_im·U_im − Σ c_m·y_m, where Σ_m x_im = 1, x_im ≤ y_m, Σ v_m·y_m ≤ G, all in [0, 1]; each task then
takes its largest x (seeds/routing.md, "The LP Formulation").

The trap: the relaxed y may load a part of a model, so that the rounded plan may need more than G. That is a
bug of rounding, not of a short window; it is kept, and the certificate says when it happened.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from harness.errors import UnavailableError
from harness.routers.planning.base import (
    MICRO,
    Array,
    Certificate,
    Plan,
    Problem,
    lazy_residents,
    total_bytes,
)

__all__ = ["LPPlanner"]

TOLERANCE = 1e-5
BYTES_PER_GB = 1e9
"""Solvers want numbers near 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LPPlanner:
    """cvxpy, compiled anew for each plan as the origin does; HiGHS, and SCS where it fails."""

    name: str = "lp"
    window: int | None = 1

    def plan(self, problem: Problem) -> Plan:
        """Plan every task; the plan may not fit.

        Raises
        ------
        UnavailableError: cvxpy is not installed, or neither solver finds an optimum.
        """
        relaxed = _solve(problem)
        assignment = tuple(relaxed.x.argmax(axis=1).tolist())
        mixed = np.concatenate([relaxed.x.ravel(), relaxed.y])
        certificate = Certificate(
            solver=relaxed.solver,
            bound=relaxed.value,
            solver_s=relaxed.solver_s,
            fractional=bool(((mixed > TOLERANCE) & (mixed < 1 - TOLERANCE)).any()),
            violates=total_bytes(problem.fleet, set(assignment)) > problem.fleet.budget_bytes,
        )
        return Plan(
            assignment, lazy_residents(problem, assignment), problem.value_of(assignment), certificate
        )


class _Relaxed(NamedTuple):
    x: Array
    y: Array
    value: float
    solver: str
    solver_s: float | None


def _solve(problem: Problem) -> _Relaxed:
    try:
        import cvxpy
    except ImportError as exc:
        raise UnavailableError("lp: cvxpy is missing; run: pip install 'assay[routing]'") from exc
    cp: Any = cvxpy  # its own types lack what its namespace gathers
    num_models = len(problem.fleet.models)
    x: Any = cp.Variable((problem.num_tasks, num_models), nonneg=True)
    y: Any = cp.Variable(num_models, nonneg=True)
    size = np.array(problem.fleet.size_bytes) / BYTES_PER_GB
    constraints = [
        cp.sum(x, axis=1) == 1,
        x <= cp.reshape(y, (1, num_models), order="C"),
        y <= 1,
        size @ y <= problem.fleet.budget_bytes / BYTES_PER_GB,
    ]
    gained = cp.sum(cp.multiply(problem.micro / MICRO, x)) - (np.array(problem.due_micro()) / MICRO) @ y
    program = cp.Problem(cp.Maximize(gained), constraints)
    for solver in (cp.HIGHS, cp.SCS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of an inexact solution: checked below
                program.solve(solver=solver)
        except cp.error.SolverError:
            continue
        if program.status == cp.OPTIMAL:
            name, stats = str(solver).lower(), program.solver_stats
            solver_s = None if stats is None or stats.solve_time is None else float(stats.solve_time)
            return _Relaxed(np.asarray(x.value), np.asarray(y.value), float(program.value), name, solver_s)
    raise UnavailableError(f"lp: neither HiGHS nor SCS finds an optimum ({program.status}); use: exact")
