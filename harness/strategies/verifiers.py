"""Verifiers: what a strategy may know of an answer before it is judged.

The visible tests of the question, run in a sandbox, or the log-probabilities that the model gave its own
tokens. Neither ever sees a hidden test: a verifier is handed the question, which holds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.errors import UsageError
from harness.grading.code import CodeGrade
from harness.strategies.base import Candidate, Question
from harness.workflow.prompts import extract_code

__all__ = ["CodeRunner", "LogProb", "VisibleTests"]

_MEASURES = ("mean", "min")


class CodeRunner(Protocol):
    """Runs tests on a program of one language."""

    def grade(self, source: str, tests: Sequence[str]) -> CodeGrade:
        """Which tests passed; raises `GradingError` when the runner itself broke."""


class VisibleTests:
    """The share of the visible tests that an answer passes."""

    name = "visible tests"
    wants_logprobs = False

    def __init__(self, runners: Mapping[str, CodeRunner]) -> None:
        """Take a runner for each language: `{"python": CodeGrader()}`."""
        self._runners = runners

    def score(self, question: Question, candidate: Candidate) -> float | None:
        """0 to 1; `None` where the question has no visible test."""
        if not question.visible:
            return None
        grade = self._runners[question.language].grade(extract_code(candidate.text), question.visible)
        return sum(grade.passed) / len(grade.passed)


class LogProb:
    """How likely the model thought its own tokens: their mean, or the least of them.

    Source of the mean: Chen et al. 2021, arXiv 2107.03374, §3.3. The least predicts a right answer of the
    pocket models with an AUROC of .77 to .99 (harness/models/CARD.md).
    """

    wants_logprobs = True

    def __init__(self, measure: str = "mean") -> None:
        """Choose `mean` or `min`."""
        if measure not in _MEASURES:
            raise UsageError(f"log-probability: measure is {measure!r}; use {' or '.join(_MEASURES)}")
        self.name = f"{measure} log-probability"
        self._field = f"{measure}_logprob"

    def score(self, question: Question, candidate: Candidate) -> float | None:
        """At most 0; `None` where the server gave none."""
        value: float | None = getattr(candidate, self._field)
        return value
