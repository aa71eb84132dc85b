"""`python -m harness.workflow check FILE`: does every buggy function fail, and every reference pass?

The exit status is 0 when all tasks are sound, 1 when some are not, 2 when the file is malformed.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

from harness.errors import HarnessError, WorkloadError
from harness.grading.code import CodeGrader
from harness.grading.text import missing_facts
from harness.workflow.workload import Task, Workload, load

__all__ = ["Finding", "check", "main"]


class Finding(NamedTuple):
    """What is wrong with a task."""

    task: str
    problem: str


def check(workload: Workload, grader: CodeGrader) -> list[Finding]:
    """Return what is wrong with the tasks: a buggy function that passes, a reference that fails.

    A reference text has to mention its own facts as well.
    """
    return [Finding(task.id, problem) for task in workload.tasks for problem in _problems(task, grader)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m harness.workflow", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="check that a workload's tests tell buggy from fixed")
    checking.add_argument("file", help="path of a workload file (docs/workloads.md)")
    options = parser.parse_args(arguments)
    try:
        workload = load(options.file)
        with CodeGrader() as grader:
            findings, sandbox, missing = check(workload, grader), grader.sandbox, grader.missing
    except HarnessError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, WorkloadError) else 1
    for finding in findings:
        print(f"{finding.task}: {finding.problem}")
    sound = len(workload.tasks) - len({finding.task for finding in findings})
    lacks = f" ({'; '.join(missing)})" if missing else ""
    print(f"{workload.name}: {sound} of {len(workload.tasks)} tasks sound, {sandbox} sandbox{lacks}")
    return 1 if findings else 0


def _problems(task: Task, grader: CodeGrader) -> list[str]:
    problems = []
    if grader.grade(task.buggy, task.hidden_tests).is_solved:
        problems.append("buggy passes every hidden test; add one that it fails")
    for key, tests in (("visible_tests", task.visible_tests), ("hidden_tests", task.hidden_tests)):
        grade = grader.grade(task.reference, tests)
        if not all(grade.passed):
            problems.append(f"reference fails {key}[{grade.passed.index(False)}]: {grade.error}")
    for stage, facts in task.facts.items():
        if missing := missing_facts(task.references[stage], facts):
            problems.append(f"the reference of {stage} does not mention {', '.join(missing)}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
