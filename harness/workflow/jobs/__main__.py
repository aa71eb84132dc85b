"""`python -m harness.workflow.jobs check FILE`: does every key grade its own right answer as right?

`python -m harness.workflow.jobs priors --backend nano=pocket:nano`: what models are worth by task type.

The exit status is 0 when all is well, 1 when some tasks are not sound or an engine broke, 2 when the file or
the command is malformed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from typing import NamedTuple

from harness.backends import BackendSpec, connect, parse_backend
from harness.errors import HarnessError, UsageError
from harness.grading.code import CodeGrader
from harness.workflow.jobs.file import load
from harness.workflow.jobs.grade import grade_answer
from harness.workflow.jobs.instances import CALIBRATION_SEED, STYLES, instances
from harness.workflow.jobs.job import CodeKey, Job, JobFile, JobTask, right_answer
from harness.workflow.jobs.priors import CHAINS, worth_by_type

__all__ = ["Finding", "check", "main"]

POCKET = ("nano=pocket:nano", "code=pocket:code", "math=pocket:math", "large=pocket:large")


class Finding(NamedTuple):
    """What is wrong with a task."""

    task: str
    problem: str


def check(jobs: Iterable[Job], grader: CodeGrader) -> list[Finding]:
    """Return what is wrong with the keys: a reference that fails its tests, or lacks its facts."""
    return [
        Finding(f"{job.id}.{task.id}", problem)
        for job in jobs
        for task in job.tasks
        for problem in _problems(task, grader)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _check(options.file) if options.command == "check" else _priors(options)
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, UsageError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.workflow.jobs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="check that every key grades a right answer as right")
    checking.add_argument("file", help="path of a jobs file (docs/jobs.md)")
    priors = commands.add_parser("priors", help="measure what models are worth by task type")
    priors.add_argument("--backend", action="append", help="ROLE=SPEC, again for each model (pocket models)")
    priors.add_argument("--style", choices=sorted(STYLES), default="pocket")
    priors.add_argument("--workload", help="a jobs file, in the place of generated jobs")
    priors.add_argument("--num-jobs", type=int, default=240)
    priors.add_argument("--seed", type=int, default=CALIBRATION_SEED)
    priors.add_argument("--chain", choices=CHAINS, default="right", help="earlier answers: right, or its own")
    return parser


def _check(path: str) -> int:
    file = load(path)
    with CodeGrader() as grader:
        findings = check(file.jobs, grader)
    for finding in findings:
        print(f"{finding.task}: {finding.problem}")
    num_tasks = sum(len(job.tasks) for job in file.jobs)
    num_sound = num_tasks - len({finding.task for finding in findings})
    print(f"{file.name}: {num_sound} of {num_tasks} tasks in {len(file.jobs)} jobs sound")
    return 1 if findings else 0


def _problems(task: JobTask, grader: CodeGrader) -> list[str]:
    problems = []
    grade = grade_answer(task, right_answer(task), grader)
    if not grade.is_right:
        problems.append(f"its own right answer is graded wrong: {grade.reason}")
    if isinstance(task.key, CodeKey):
        visible = grader.grade(task.key.reference, task.key.visible_tests)
        if not all(visible.passed):
            problems.append(f"reference fails visible_tests[{visible.passed.index(False)}]: {visible.error}")
        if task.key.buggy and grader.grade(task.key.buggy, task.key.hidden_tests).is_solved:
            problems.append("buggy passes every hidden test; add one that it fails")
    return problems


def _priors(options: argparse.Namespace) -> int:
    file: JobFile
    if options.workload:
        file = load(options.workload)
    else:
        file = instances(options.style, num_jobs=options.num_jobs, seed=options.seed)
    specs = [parse_backend(text) for text in options.backend or POCKET]
    with CodeGrader() as grader:
        for spec in specs:
            asyncio.run(_print_worth(spec, file, grader, options.chain))
    return 0


async def _print_worth(spec: BackendSpec, file: JobFile, grader: CodeGrader, chain: str) -> None:
    async with connect(spec) as connection:
        worth = await worth_by_type(connection.backend, file.jobs, grader, chain=chain)
    shown = ", ".join(f"{kind} = {w.score:.3f}" for kind, w in worth.items())
    counts = ", ".join(f"{kind} {w.right_share:.3f} of {w.num_tasks}" for kind, w in worth.items())
    print(f"{spec.role}: priors = {{ {shown} }}\n    right: {counts}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
