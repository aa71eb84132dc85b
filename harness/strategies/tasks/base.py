"""A task: the question that a strategy sees, and the judge's side that it never does.

Visible and hidden tests are disjoint by the calls that they make, so that no verifier can have run what the
judge will ask. Tasks without code have no visible tests, and can be chosen among by a scorer alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import WorkloadError
from harness.strategies.base import Question
from harness.strategies.verifiers import CodeRunner
from harness.workflow.prompts import extract_code

__all__ = ["Judge", "Task", "call_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A question and what decides whether a text solves it: hidden tests, or a grade by the family."""

    question: Question
    family: str
    hidden: tuple[str, ...] = ()
    is_right: Callable[[str], bool] | None = None

    def __post_init__(self) -> None:
        name = f"task {self.question.id}"
        if bool(self.hidden) == (self.is_right is not None):
            raise WorkloadError(f"{name}: judged by hidden tests or by a grade; give one of them")
        language = self.question.language
        seen = {call_of(test, language) for test in self.question.visible}
        if both := sorted(seen & {call_of(test, language) for test in self.hidden}):
            raise WorkloadError(f"{name}: {both[0]} is tested visibly and hidden; drop one of the tests")


class Judge:
    """Decides whether a text solves a task. Strategies are never handed one."""

    def __init__(self, runners: Mapping[str, CodeRunner]) -> None:
        """Take a runner for each language."""
        self._runners = runners

    def is_solved(self, task: Task, text: str | None) -> bool:
        """Whether every hidden test passes, or the family's grade is right; no text solves nothing.

        Raises
        ------
        GradingError: the runner itself broke.
        """
        if text is None:
            return False
        if task.is_right is not None:
            return task.is_right(text)
        return self._runners[task.question.language].grade(extract_code(text), task.hidden).is_solved


def call_of(test: str, language: str) -> str:
    """What a test calls, however it is spelled: `f(3)` of `assert f( 3 )==4`."""
    if language != "python":
        return "".join(test.rpartition(" == ")[0].split())
    statement = ast.parse(test).body[0]
    if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
        return ast.unparse(statement.test.left)
    return ast.unparse(statement)
