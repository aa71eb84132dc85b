"""What an answer is worth: a score from 0 to 1, and whether it is right.

    json, number, label   1 or 0
    code                  share of the hidden tests passed; right: all of them
    text                  ROUGE-L × share of the required facts that it mentions; right: all of them

Overlap alone would give half a point to a sentence about something else in the same form.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.errors import UsageError
from harness.grading import base
from harness.grading.code import CodeGrader
from harness.grading.exact import grade_json, grade_label
from harness.grading.numeric import grade_numeric
from harness.grading.text import grade_text, missing_facts
from harness.workflow.jobs.job import CodeKey, JobTask, JsonKey, LabelKey, NumberKey, TextKey
from harness.workflow.prompts import extract_code

__all__ = ["Grade", "grade_answer"]


class Grade(NamedTuple):
    """What an answer is worth."""

    score: float
    """From 0 to 1."""
    is_right: bool
    reason: str | None = None
    """Why it is not right; None when it is."""


def grade_answer(task: JobTask, answer: str, code_grader: CodeGrader | None = None) -> Grade:
    """Grade one answer: the text as the model wrote it, or what `answer_of` took from it.

    code_grader: runs the hidden tests; needed for code alone.

    Raises
    ------
    GradingError: the grader itself failed.
    UsageError: code, and no code grader.
    """
    key = task.key
    if isinstance(key, CodeKey):
        return _grade_code(task.id, key, answer, code_grader)
    if isinstance(key, JsonKey):
        grade = grade_json(answer, key.value)
    elif isinstance(key, NumberKey):
        grade = grade_numeric(answer, key.value, key.relative_tolerance)
    elif isinstance(key, LabelKey):
        grade = grade_label(answer, key.value, key.labels)
    else:
        grade = _grade_text(key, answer)
    return Grade(grade.score, grade.ok, grade.reason)


def _grade_text(key: TextKey, answer: str) -> base.Grade:
    grade = grade_text(answer, key.reference, key.facts)
    share = 1 - len(missing_facts(answer, key.facts)) / len(key.facts)
    return grade._replace(score=grade.score * share)


def _grade_code(name: str, key: CodeKey, answer: str, code_grader: CodeGrader | None) -> Grade:
    if code_grader is None:
        raise UsageError(f"task {name}: code needs a code grader; pass harness.grading.CodeGrader()")
    grade = code_grader.grade(extract_code(answer), key.hidden_tests)
    return Grade(sum(grade.passed) / len(grade.passed), grade.is_solved, grade.error)
