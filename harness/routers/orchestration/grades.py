"""Who says what an answer is worth while jobs run."""

from __future__ import annotations

from typing import Protocol

from harness.grading.code import CodeGrader
from harness.workflow.jobs.grade import Grade, grade_answer
from harness.workflow.jobs.job import Job, JobTask

__all__ = ["Grader", "graded_by"]


class Grader(Protocol):
    """Grades answers; `DrawnOutcomes` is one for models whose answers are filler."""

    def __call__(self, job: Job, task: JobTask, model: str, text: str, /) -> Grade:
        """What a text that a model wrote is worth as the answer to a task of a job.

        Raises
        ------
        GradingError: the grader itself failed.
        """


def graded_by(code_grader: CodeGrader | None) -> Grader:
    """The grader of real answers: by their text alone; code needs the code grader."""

    def grade(job: Job, task: JobTask, model: str, text: str) -> Grade:
        return grade_answer(task, text, code_grader)

    return grade
