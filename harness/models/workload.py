"""The workload `swe-mini`: held-out cases of the workflow, with visible and hidden tests."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

from harness.models import split
from harness.models.tasks import FAMILIES, flow
from harness.models.tasks.program import behaviour

__all__ = ["NUM_TASKS", "SEED", "WORKLOAD_FILE", "Task", "as_workload", "draw_tasks", "write"]

NUM_TASKS = 300
SEED = 7
WORKLOAD_FILE = Path(__file__).parents[2] / "bench" / "workloads" / "swe-mini.json"

_VISIBLE = ([5, 5, 8, -2, 7], [3, 1, 2], "banana split", "abc")
"""Inputs that a router may run a candidate on; two of them fit any one function."""
_EXTRA_LISTS: tuple[tuple[Any, ...], ...] = (([9, 8, 7, 3, 3, 1, 12],), ([-4, 0, 11, 6, 6],))
_EXTRA_TEXTS: tuple[tuple[Any, ...], ...] = (("Round trip to Leeds  ",), ("  see a toad, an eel",))


class Task(NamedTuple):
    """A case, and the inputs that it is tested on."""

    case: flow.Case
    visible: tuple[tuple[Any, ...], ...]
    hidden: tuple[tuple[Any, ...], ...]

    def is_solved_by(self, source: str) -> bool:
        """Whether a program does what the reference does on every hidden input."""
        function = self.case.function
        return behaviour(source, function, self.hidden) == behaviour(
            self.case.reference, function, self.hidden
        )


def draw_tasks(count: int = NUM_TASKS, seed: int = SEED) -> list[Task]:
    """Draw held-out tasks with distinct functions, each with a defect that the hidden tests find."""
    rng = random.Random(f"swe-mini/{seed}")
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        case = flow.draw_case(rng)
        task = _with_tests(case)
        if split.is_held_out_source(case.reference) and not task.is_solved_by(case.buggy):
            tasks.setdefault(case.buggy, task)
    return list(tasks.values())


def as_workload(tasks: list[Task]) -> dict[str, Any]:
    """The tasks in the schema of docs/workloads.md."""
    return {
        "schema": 1,
        "name": "swe-mini",
        "source": f"python -m harness.models workload: generated, held out from training, seed {SEED}",
        "stages": [
            _stage("analysis", [], "brief", flow.BRIEF_PROMPT, "exact"),
            _stage("code", ["analysis"], "fix", flow.FIX_PROMPT, "code"),
            _stage("summary", ["analysis", "code"], "summary", flow.SUMMARY_PROMPT, "exact"),
        ],
        "tasks": [_as_row(number, task) for number, task in enumerate(tasks, start=1)],
    }


def write(path: Path = WORKLOAD_FILE) -> None:
    """Write the workload file; the same bytes every time."""
    path.write_text(json.dumps(as_workload(draw_tasks()), indent=1) + "\n")


def _with_tests(case: flow.Case) -> Task:
    inputs = case.inputs + (_EXTRA_TEXTS if isinstance(case.inputs[0][0], str) else _EXTRA_LISTS)
    visible = tuple(arguments for arguments in inputs if arguments[0] in _VISIBLE)
    return Task(case, visible, tuple(arguments for arguments in inputs if arguments not in visible))


def _stage(name: str, needs: list[str], family: str, prompt: str, grade: str) -> dict[str, Any]:
    return {
        "name": name,
        "needs": needs,
        "max_tokens": FAMILIES[family].max_tokens,
        "grade": grade,
        "prompt": prompt,
    }


def _as_row(number: int, task: Task) -> dict[str, Any]:
    case = task.case
    return {
        "id": f"{case.function}-{number:03d}",
        "issue": case.issue,
        "buggy": case.buggy,
        "reference": case.reference,
        "entry_point": case.function,
        "visible_tests": _asserts(case, task.visible),
        "hidden_tests": _asserts(case, task.hidden),
        "references": {"analysis": case.brief, "summary": case.summary},
    }


def _asserts(case: flow.Case, inputs: tuple[tuple[Any, ...], ...]) -> list[str]:
    results = behaviour(case.reference, case.function, inputs) or []
    return [
        f"assert {case.function}({arguments[0]!r}) == {result}"
        for arguments, result in zip(inputs, results, strict=True)
    ]
