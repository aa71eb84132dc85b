"""The controls a router must beat, and the ceiling that none can."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.backends.base import Completion
from harness.routers.base import LARGE, SMALL
from harness.workflow.workload import StageSpec, Task

__all__ = ["HindsightRouter", "RandomRouter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRouter:
    """One stage of each task, drawn at random, goes to the large model.

    It makes as many small and large calls as the published cascade, so that what the cascade gains over it
    is owed to knowing which stage is which. Stages are drawn without replacement, block by block, so that
    each has its share of the large calls in a few tasks as in many.
    """

    large_stage: Mapping[str, str]
    """task id → the stage that goes to the large model"""
    name: str = "random"
    wants_logprobs: bool = False

    @classmethod
    def draw(cls, task_ids: Sequence[str], stages: Sequence[str], *, seed: int) -> RandomRouter:
        """Shuffle the stages over each block of as many tasks; the same draw for the same seed."""
        rng = random.Random(seed)
        drawn: list[str] = []
        while len(drawn) < len(task_ids):
            drawn += rng.sample(list(stages), len(stages))
        return cls(large_stage=dict(zip(task_ids, drawn, strict=False)))

    def route(self, task: Task, stage: StageSpec) -> str:
        """Large for the one stage drawn for this task."""
        return LARGE if stage.name == self.large_stage[task.id] else SMALL

    def review(self, task: Task, stage: StageSpec, role: str, completion: Completion, output: str) -> None:
        """Accept every answer."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class HindsightRouter:
    """For each task the assignment that turned out best: a ceiling, since it saw the hidden tests."""

    roles: Mapping[str, Mapping[str, str]]
    """task id → stage → role"""
    name: str = "oracle"
    wants_logprobs: bool = False

    def route(self, task: Task, stage: StageSpec) -> str:
        """The role that hindsight names for this task and stage."""
        return self.roles[task.id][stage.name]

    def review(self, task: Task, stage: StageSpec, role: str, completion: Completion, output: str) -> None:
        """Accept every answer."""
        return None
