from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.grading import CodeGrader
from harness.workflow.__main__ import check, main
from harness.workflow.workload import load

WORKLOADS = Path(__file__).resolve().parents[1] / "bench" / "workloads"
TYPICAL_CHARACTERS_PER_TOKEN = 3.0


def write(folder: Path, **changes: Any) -> str:
    """Write a workload of one task and return its path."""
    task = {
        "id": "one",
        "issue": "f is off by one",
        "buggy": "def f(x):\n    return x",
        "reference": "def f(x):\n    return x + 1",
        "entry_point": "f",
        "visible_tests": ["assert f(1) == 2"],
        "hidden_tests": ["assert f(1) == 2"],
    }
    stage = {"name": "code", "needs": [], "max_tokens": 150, "grade": "code", "prompt": "{issue}"}
    document = {"schema": 1, "name": "tiny", "source": "test", "stages": [stage], "tasks": [task | changes]}
    file = folder / "tiny.json"
    file.write_text(json.dumps(document))
    return str(file)


@pytest.mark.parametrize("file", sorted(WORKLOADS.glob("*.json")), ids=lambda file: file.stem)
def test_every_buggy_fails_and_every_reference_passes(file: Path) -> None:
    """The tests of each workload that we ship tell the defect from its fix."""
    with CodeGrader() as grader:
        assert check(load(file), grader) == []


def test_swe20_holds_twenty_tasks_that_fit_their_caps() -> None:
    """Two visible and at least five hidden tests each, and references within the published output caps."""
    workload = load("swe20", WORKLOADS)
    assert len(workload.tasks) == 20
    assert [stage.max_tokens for stage in workload.stages] == [50, 150, 30]
    for task in workload.tasks:
        assert len(task.visible_tests) == 2
        assert len(task.hidden_tests) >= 5
        for stage, text in {**task.references, "code": task.reference}.items():
            assert len(text) <= workload.stage(stage).max_tokens * TYPICAL_CHARACTERS_PER_TOKEN, (
                task.id,
                stage,
            )


def test_a_sound_file_is_reported_with_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line counts the sound tasks and names the sandbox."""
    assert main(["check", write(tmp_path)]) == 0
    assert "tiny: 1 of 1 tasks sound" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"buggy": "def f(x):\n    return 1 + x"}, "one: buggy passes every hidden test"),
        (
            {"hidden_tests": ["assert f(1) == 3"]},
            "one: reference fails hidden_tests[0]: assert f(1) == 3: got 2",
        ),
        ({"visible_tests": ["assert f(1) == 3"]}, "one: reference fails visible_tests[0]"),
    ],
)
def test_an_unsound_task_is_named_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], problem: str
) -> None:
    """The report says which task, which test, and what came out."""
    assert main(["check", write(tmp_path, **changes)]) == 1
    out = capsys.readouterr().out
    assert problem in out
    assert "tiny: 0 of 1 tasks sound" in out


def test_a_malformed_file_ends_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error goes to standard error."""
    assert main(["check", write(tmp_path, hidden_tests="x")]) == 2
    assert "hidden_tests: 'x'" in capsys.readouterr().err
