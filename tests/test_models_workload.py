from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.models import workload
from harness.models.tasks import Example, flow

TASKS = workload.draw_tasks()


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    """The committed workload file."""
    return json.loads(workload.WORKLOAD_FILE.read_text())


def _passes(source: str, tests: list[str]) -> list[bool]:
    results = []
    for test in tests:
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        try:
            exec(test, namespace)
        except AssertionError:
            results.append(False)
        else:
            results.append(True)
    return results


def test_the_committed_workload_is_the_generated_one(tmp_path: Path) -> None:
    """Writing `swe-mini` again gives the committed bytes."""
    workload.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == workload.WORKLOAD_FILE.read_bytes()


def test_every_buggy_function_fails_and_every_reference_passes(committed: dict[str, Any]) -> None:
    """The hidden tests tell the two apart, and the reference passes the visible ones too."""
    assert len(committed["tasks"]) == workload.NUM_TASKS
    for task in committed["tasks"]:
        assert all(_passes(task["reference"], task["visible_tests"] + task["hidden_tests"]))
        assert not all(_passes(task["buggy"], task["hidden_tests"]))


def test_visible_and_hidden_tests_differ(committed: dict[str, Any]) -> None:
    """Two visible tests, at least five hidden ones, none in both, ids unique."""
    for task in committed["tasks"]:
        assert len(task["visible_tests"]) == 2
        assert len(set(task["hidden_tests"])) >= 5
        assert not set(task["visible_tests"]) & set(task["hidden_tests"])
    assert len({task["id"] for task in committed["tasks"]}) == workload.NUM_TASKS


def test_the_tasks_are_held_out() -> None:
    """No reference of the workload may occur in training."""
    for task in TASKS:
        example = Example(prompt="", target=task.case.reference, sources=task.case.sources)
        assert example.is_held_out
        assert not example.is_trainable


def test_prompts_are_those_trained_on(committed: dict[str, Any]) -> None:
    """Filled in with the references, each stage's prompt is the family's prompt, byte for byte."""
    prompts = {stage["name"]: stage["prompt"] for stage in committed["stages"]}
    assert prompts == {
        "analysis": flow.BRIEF_PROMPT,
        "code": flow.FIX_PROMPT,
        "summary": flow.SUMMARY_PROMPT,
    }
    for row, task in zip(committed["tasks"], TASKS, strict=True):
        assert (row["issue"], row["buggy"]) == (task.case.issue, task.case.buggy)
        assert row["references"] == {"analysis": task.case.brief, "summary": task.case.summary}
