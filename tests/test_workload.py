from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError, WorkloadError
from harness.workflow.workload import StageSpec, Workload, diff, extract_code, load, render

Edit = Callable[[dict[str, Any]], Any]

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "name": "tiny",
    "source": "written for this test",
    "stages": [
        {
            "name": "analysis",
            "needs": [],
            "max_tokens": 50,
            "grade": "text",
            "prompt": 'Issue: {issue}\n{buggy}\n{ "json": {} }',
        },
        {
            "name": "code",
            "needs": ["analysis"],
            "max_tokens": 150,
            "grade": "code",
            "prompt": "{analysis}\n{buggy}\nFix {entry_point}.",
        },
        {"name": "summary", "needs": ["code"], "max_tokens": 30, "grade": "exact", "prompt": "{diff}"},
    ],
    "tasks": [
        {
            "id": "one",
            "issue": "f is off by one",
            "buggy": "def f(x):\n    return {x}",
            "reference": "def f(x):\n    return x + 1",
            "entry_point": "f",
            "visible_tests": [],
            "hidden_tests": ["assert f(1) == 2"],
            "references": {"analysis": "off by one", "summary": "add one"},
            "facts": {"analysis": ["one|1"]},
        }
    ],
}


def read(tmp_path: Path, edit: Edit = lambda document: None) -> Workload:
    """Load the document after an edit."""
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(document))
    return load(file)


def stage(document: dict[str, Any], index: int) -> dict[str, Any]:
    """Return a stage of the document, to be edited."""
    found: dict[str, Any] = document["stages"][index]
    return found


def task(document: dict[str, Any]) -> dict[str, Any]:
    """Return the task of the document, to be edited."""
    found: dict[str, Any] = document["tasks"][0]
    return found


def test_a_sound_file_is_read_whole(tmp_path: Path) -> None:
    """Stages, tasks and the hash of the file's bytes are all there."""
    workload = read(tmp_path)
    assert [stage.name for stage in workload.stages] == ["analysis", "code", "summary"]
    assert workload.code_stage.max_tokens == 150
    assert workload.stage("summary").diff_of == "code"
    assert workload.tasks[0].facts["analysis"] == ("one|1",)
    assert len(workload.sha256) == 64
    assert workload.sha256 != read(tmp_path, lambda d: d.update(name="other")).sha256


def test_stages_come_in_the_order_of_their_needs(tmp_path: Path) -> None:
    """A file may list its stages in any order."""
    workload = read(tmp_path, lambda d: d["stages"].reverse())
    assert [stage.name for stage in workload.stages] == ["analysis", "code", "summary"]


@pytest.mark.parametrize(
    ("edit", "culprits"),
    [
        pytest.param(lambda d: d.update(extra=1), ["extra", "unknown key"], id="unknown-key"),
        pytest.param(lambda d: d.pop("source"), ["source", "missing"], id="missing-key"),
        pytest.param(lambda d: d.update(schema=2), ["schema: 2", "reads schema 1"], id="other-schema"),
        pytest.param(lambda d: d.update(schema=True), ["schema: True"], id="schema-true"),
        pytest.param(lambda d: d.update(name=""), ["name: ''"], id="empty-name"),
        pytest.param(lambda d: d.update(stages=[]), ["stages: []"], id="no-stages"),
        pytest.param(lambda d: d.update(tasks={}), ["tasks: {}"], id="tasks-no-list"),
        pytest.param(lambda d: d.update(tasks=["one"]), ["task #1", "'one'"], id="task-no-object"),
        pytest.param(
            lambda d: stage(d, 0).update(max_tokens=True), ["max_tokens: True"], id="boolean-tokens"
        ),
        pytest.param(
            lambda d: stage(d, 0).update(max_tokens=0), ["analysis", "max_tokens: 0"], id="no-tokens"
        ),
        pytest.param(lambda d: stage(d, 0).update(max_tokens="50"), ["max_tokens: '50'"], id="text-tokens"),
        pytest.param(
            lambda d: stage(d, 0).update(grade="bleu"), ["'bleu'", "code, text"], id="unknown-grade"
        ),
        pytest.param(lambda d: stage(d, 0).update(name="issue"), ["name: 'issue'"], id="reserved-name"),
        pytest.param(lambda d: stage(d, 0).update(name="code"), ["'code'", "rename"], id="duplicate-stage"),
        pytest.param(lambda d: stage(d, 1).update(grade="none"), ["0 have grade 'code'"], id="no-code-stage"),
        pytest.param(
            lambda d: stage(d, 0).update(grade="code"), ["2 have grade 'code'"], id="two-code-stages"
        ),
        pytest.param(lambda d: stage(d, 1).update(needs=["plan"]), ["'plan'", "analysis"], id="unknown-need"),
        pytest.param(
            lambda d: stage(d, 1).update(needs=[]), ["stage code", "prompt", "'analysis'"], id="unneeded"
        ),
        pytest.param(lambda d: stage(d, 2).update(needs=[]), ["{diff}", "'code'"], id="diff-needs-code"),
        pytest.param(
            lambda d: stage(d, 0).update(prompt="{isue}"), ["{isue}", "no field"], id="unknown-field"
        ),
        pytest.param(lambda d: stage(d, 0).update(needs=["code"]), ["cycle"], id="cycle"),
        pytest.param(lambda d: stage(d, 0).update(needs=["analysis"]), ["cycle"], id="self-cycle"),
        pytest.param(
            lambda d: stage(d, 2).update(needs=["code", "code"]), ["each stage once"], id="need-twice"
        ),
        pytest.param(lambda d: d["tasks"].append(task(d)), ["task one", "id: 'one'"], id="duplicate-id"),
        pytest.param(
            lambda d: task(d).update(hidden_tests=[]), ["task one", "hidden_tests"], id="no-hidden-test"
        ),
        pytest.param(
            lambda d: task(d).update(hidden_tests=["assert"]), ["hidden_tests[0]", "not Python"], id="test"
        ),
        pytest.param(lambda d: task(d).update(visible_tests=[5]), ["visible_tests[0]: 5"], id="test-no-text"),
        pytest.param(lambda d: task(d).update(entry_point="g"), ["entry_point: 'g'"], id="no-such-function"),
        pytest.param(
            lambda d: task(d).update(reference="def f("), ["reference", "not Python"], id="reference"
        ),
        pytest.param(
            lambda d: task(d)["references"].pop("summary"), ["references", "summary"], id="no-reference"
        ),
        pytest.param(lambda d: task(d)["facts"].update(code=["x"]), ["facts", "code"], id="facts-of-code"),
        pytest.param(lambda d: task(d)["facts"].update(analysis=["a|"]), ["facts", "'|'"], id="empty-fact"),
        pytest.param(lambda d: task(d).update(issue=["x"]), ["issue: ['x']"], id="issue-no-text"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, edit: Edit, culprits: list[str]) -> None:
    """The message names the file and the culprit and says what to do."""
    with pytest.raises(WorkloadError) as caught:
        read(tmp_path, edit)
    for text in ["tiny.json", *culprits]:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"schema": 1, "schema": 1}', "[" * 100_000, "\xff"]
)
def test_what_is_no_workload_is_refused(tmp_path: Path, text: str) -> None:
    """Text that is not JSON, not an object, or ambiguous ends in one error that names the file."""
    file = tmp_path / "bad.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(WorkloadError, match=r"bad\.json"):
        load(file)


def test_a_name_is_looked_up_in_the_folder(tmp_path: Path) -> None:
    """A bare name means FOLDER/NAME.json, and an unknown one lists those that exist."""
    read(tmp_path)
    assert load("tiny", tmp_path).name == "tiny"
    with pytest.raises(WorkloadError, match="'huge': unknown; known are tiny"):
        load("huge", tmp_path)
    with pytest.raises(WorkloadError, match="not a file"):
        load("huge")
    with pytest.raises(WorkloadError, match=r"absent\.json: cannot be read"):
        load(tmp_path / "absent.json")


def test_a_subset_is_the_first_tasks(tmp_path: Path) -> None:
    """It keeps the hash of its file, and an impossible size is refused."""
    workload = read(tmp_path, lambda d: d["tasks"].append(task(d) | {"id": "two"}))
    assert [task.id for task in workload.subset(1).tasks] == ["one"]
    assert workload.subset(1).sha256 == workload.sha256
    for n in (0, 3):
        with pytest.raises(UsageError, match="1 to 2"):
            workload.subset(n)
    with pytest.raises(UsageError, match="no stage 'plan'"):
        workload.stage("plan")


def test_braces_in_prompt_and_code_are_text(tmp_path: Path) -> None:
    """Only known fields are filled in, and what is filled in is not scanned again."""
    workload = read(tmp_path)
    first = render(workload.stages[0], workload.tasks[0], {})
    assert first == 'Issue: f is off by one\ndef f(x):\n    return {x}\n{ "json": {} }'
    second = render(workload.code_stage, workload.tasks[0], {"analysis": "{buggy} {0} {"})
    assert second.startswith("{buggy} {0} {\ndef f(x)")
    assert second.endswith("Fix f.")


def test_the_diff_sees_the_code_in_the_fence(tmp_path: Path) -> None:
    """Markdown around the output of the code stage does not show in the prompt of the next."""
    workload = read(tmp_path)
    answer = "Here it is:\n```python\ndef f(x):\n    return x + 1\n```"
    prompt = render(workload.stages[2], workload.tasks[0], {"code": answer})
    assert prompt == "- return {x}\n+ return x + 1"


def test_a_prompt_without_its_input_is_refused(tmp_path: Path) -> None:
    """Rendering before the needed stage has run is our mistake, and is named."""
    workload = read(tmp_path)
    with pytest.raises(UsageError, match=r"stage summary: task one: no output for \{diff\}; run stage code"):
        render(workload.stages[2], workload.tasks[0], {})


def test_a_spec_names_its_fields_once() -> None:
    """Fields come in order of appearance."""
    spec = StageSpec(name="a", needs=(), max_tokens=1, grade="none", prompt="{issue}{buggy}{issue}{ x }")
    assert spec.fields == ("issue", "buggy")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def f(): pass", "def f(): pass"),
        ("```python\nx = 1\n```\nand\n```\ny = 2\n```", "x = 1\n"),
        ("Sure:\n\n```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = '```'\ncut off", "x = '```'\ncut off"),
        ("use `f` here", "use `f` here"),
        ("", ""),
    ],
)
def test_code_is_what_the_first_fence_holds(text: str, code: str) -> None:
    """An unclosed fence runs to the end, and text without one is unchanged."""
    assert extract_code(text) == code


LINES = st.lists(st.sampled_from(["", "  a", "a", "b ", "\tc", "{x}"]), max_size=8).map("\n".join)


def recipe(a: str, b: str) -> str:
    """Diff two texts as the training data of the pocket models do."""
    before, after, out = a.split("\n"), b.split("\n"), []
    for i in range(max(len(before), len(after))):
        x = before[i].strip() if i < len(before) else ""
        y = after[i].strip() if i < len(after) else ""
        if x != y:
            out += ["- " + x, "+ " + y]
    return "\n".join(out[:4])


@given(LINES, LINES)
def test_the_diff_is_that_of_the_training_recipe(a: str, b: str) -> None:
    """It is byte for byte the same, at most four lines, and empty for equal texts."""
    assert diff(a, b) == recipe(a, b)
    assert len(diff(a, b).split("\n")) <= 4
    assert diff(a, a) == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=2)
)


@given(st.sampled_from(sorted(DOCUMENT["tasks"][0])), JSON)
def test_any_value_in_a_task_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    """Nothing but a `WorkloadError` comes out of a file with a random value."""
    folder = tmp_path_factory.mktemp("w")
    try:
        message = read(folder, lambda d: task(d).update({key: value})).path
    except WorkloadError as exc:
        message = exc
    assert "tiny.json" in str(message)
