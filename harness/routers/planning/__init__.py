"""Planning under a memory budget: which model answers which task, and what is loaded when."""

from harness.routers.planning.base import Certificate, Fleet, Plan, Planner, Problem
from harness.routers.planning.controls import (
    BestSinglePlanner,
    GreedyPlanner,
    PreferencePlanner,
    RandomPlanner,
    SmallestPlanner,
    offline_optimum,
)
from harness.routers.planning.exact import ExactPlanner
from harness.routers.planning.highs import WarmLPPlanner
from harness.routers.planning.horizon import Trajectory, flat, follow, roll
from harness.routers.planning.instances import random_problem, workflow_instances
from harness.routers.planning.lp import LPPlanner
from harness.routers.planning.memory import Memory, memory_of
from harness.routers.planning.published import fleet, job, jobs, problem_of
from harness.routers.planning.sequential import (
    OrderFreePlanner,
    SequentialPlanner,
    plan_towards,
    value_to_go,
)

__all__ = [
    "BestSinglePlanner",
    "Certificate",
    "ExactPlanner",
    "Fleet",
    "GreedyPlanner",
    "LPPlanner",
    "Memory",
    "OrderFreePlanner",
    "Plan",
    "Planner",
    "PreferencePlanner",
    "Problem",
    "RandomPlanner",
    "SequentialPlanner",
    "SmallestPlanner",
    "Trajectory",
    "WarmLPPlanner",
    "flat",
    "fleet",
    "follow",
    "job",
    "jobs",
    "memory_of",
    "offline_optimum",
    "plan_towards",
    "problem_of",
    "random_problem",
    "roll",
    "value_to_go",
    "workflow_instances",
]
