"""What decides a step of a job, and what it says beside the plan.

A planner computes; a model that is asked to plan answers over a backend, may answer nonsense, and costs time,
tokens and memory. Both are a `Decider`, so that the same loop runs both and charges what each took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from harness.backends.base import Backend
from harness.clock import now_s
from harness.routers.planning.base import Plan, Planner, Problem
from harness.workflow.jobs.graph import TaskNode

__all__ = ["COMPUTED", "FALLBACK", "REPAIRED", "STATUSES", "VALID", "Computed", "Decider", "Decision"]

COMPUTED, VALID, REPAIRED, FALLBACK = "computed", "valid", "repaired", "fallback"
STATUSES = (COMPUTED, VALID, REPAIRED, FALLBACK)
"""computed: by an algorithm. Of a model that plans: its first answer held, its second did, or neither did and
the feasible greedy plan stands in."""


class Decision(NamedTuple):
    """A plan and what it took."""

    plan: Plan
    plan_s: float
    """wall-clock seconds of deciding, a model's requests among them"""
    status: str = COMPUTED
    num_requests: int = 0
    prompt_tokens: int | None = 0
    """as the server counted them; None where it did not"""
    output_tokens: int | None = 0
    overran: bool = False
    """Whether some answer of a model named models that do not fit, before it was mended or replaced"""
    complaint: str | None = None
    """what was wrong with the last answer that did not hold"""


class Decider(Protocol):
    """Plans a step of a job."""

    @property
    def name(self) -> str:
        """As it stands in tables."""

    @property
    def window(self) -> int | None:
        """Layers seen at once, the ready one among them; None: all."""

    @property
    def is_model(self) -> bool:
        """Whether it asks a model, which must be loaded within the same budget to answer."""

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        """Plan every task of the problem.

        tasks: the problem's rows, in order. backend: of the planning model, where there is one.
        """


class Computed:
    """A planner as a decider."""

    is_model = False

    def __init__(self, planner: Planner) -> None:
        self.planner = planner

    @property
    def name(self) -> str:
        """The planner's."""
        return self.planner.name

    @property
    def window(self) -> int | None:
        """The planner's."""
        return self.planner.window

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        """Plan, and say how long the whole call took."""
        began_s = now_s()
        plan = self.planner.plan(problem)
        return Decision(plan, now_s() - began_s)
