"""What models are worth by task type, measured on jobs: the priors of a fleet.

A model answers every task of every job, greedily. With right earlier answers (`chain = "right"`) a score is
the model's own; with its own earlier answers (`chain = "own"`) it also holds what went wrong before, so that
a model that cannot extract seems unable to add. Priors are of the first kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harness.backends.base import Backend, Message, Request
from harness.grading.code import CodeGrader
from harness.workflow.jobs.grade import Grade, grade_answer
from harness.workflow.jobs.job import Job, answer_of, render, right_answer

__all__ = ["CHAINS", "Worth", "answer_job", "worth_by_type"]

CHAINS = ("right", "own")


class Worth(NamedTuple):
    """A model on the tasks of one type."""

    score: float
    """Mean, from 0 to 1."""
    right_share: float
    num_tasks: int


async def answer_job(backend: Backend, job: Job, grader: CodeGrader, *, chain: str) -> Mapping[str, Grade]:
    """Let one model answer a job, task by task; its grades by task.

    Raises
    ------
    BackendError: the engine broke.
    """
    answers: dict[str, str] = {}
    grades: dict[str, Grade] = {}
    for place in (place for layer in job.graph.layers() for place in layer):
        task = job.tasks[place]
        message = Message("user", render(job, task, answers))
        completion = await backend.generate(Request(messages=(message,), max_tokens=task.max_tokens))
        grades[task.id] = grade_answer(task, completion.text, grader)
        answers[task.id] = answer_of(task, right_answer(task) if chain == "right" else completion.text)
    return grades


async def worth_by_type(
    backend: Backend, jobs: Iterable[Job], grader: CodeGrader, *, chain: str = "right"
) -> Mapping[str, Worth]:
    """A model's worth by task type over all jobs; errors are those of `answer_job`."""
    found: dict[str, list[Grade]] = defaultdict(list)
    for job in jobs:
        for name, grade in (await answer_job(backend, job, grader, chain=chain)).items():
            found[job.task(name).type].append(grade)
    return {kind: _worth(grades) for kind, grades in sorted(found.items())}


def _worth(grades: list[Grade]) -> Worth:
    num = len(grades)
    return Worth(sum(g.score for g in grades) / num, sum(g.is_right for g in grades) / num, num)
