"""The published cascade and its siblings: a fixed map from stage to role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from harness.backends.base import Completion
from harness.errors import UsageError
from harness.routers.base import LARGE, SMALL
from harness.workflow.workload import StageSpec, Task

__all__ = ["FixedRouter", "assignments"]

LETTERS = {"S": SMALL, "L": LARGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRouter:
    """Every task's stage goes to the same role: routing by intent, as published."""

    name: str
    roles: Mapping[str, str]
    """stage → role"""
    wants_logprobs: bool = False

    @classmethod
    def from_letters(cls, letters: str, stages: Sequence[str], name: str | None = None) -> FixedRouter:
        """`from_letters("SLS", ("analysis", "code", "summary"))` is the published cascade.

        Raises
        ------
        UsageError: the number of letters differs from the number of stages, or a letter is neither S nor L.
        """
        if len(letters) != len(stages) or set(letters) - LETTERS.keys():
            raise UsageError(f"assignment {letters!r}: give one of S, L for each of {', '.join(stages)}")
        return cls(name=name or letters, roles=dict(zip(stages, (LETTERS[x] for x in letters), strict=True)))

    def route(self, task: Task, stage: StageSpec) -> str:
        """The role that the map names for this stage."""
        return self.roles[stage.name]

    def review(self, task: Task, stage: StageSpec, role: str, completion: Completion, output: str) -> None:
        """Accept every answer."""
        return None


def assignments(num_stages: int) -> tuple[str, ...]:
    """All 2ⁿ assignments of two roles to n stages, as letters, from all-large to all-small."""
    return tuple("".join(letters) for letters in product("LS", repeat=num_stages))
