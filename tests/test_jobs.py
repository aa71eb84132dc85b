"""Jobs carry data on their edges, are read strictly, and are graded by their keys."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError, WorkloadError
from harness.grading import CodeGrader
from harness.workflow.jobs import answer_of, grade_answer, load, published, render, right_answer
from harness.workflow.jobs.__main__ import main
from harness.workflow.jobs.file import PUBLISHED
from harness.workflow.jobs.job import Job, JobTask, LabelKey, TextKey

DOCS = Path(__file__).parents[1] / "docs" / "jobs.md"
HYP_SQ = "def hyp_sq(a, b):\n    return a * a + b * b\n"
ROW = {
    "id": "s0",
    "type": "math",
    "difficulty": 1,
    "num_tokens": 20,
    "max_tokens": 9,
    "prompt": "Compute 2 + 3.",
    "key": {"grade": "number", "value": 5},
}
CODE = {
    "grade": "code",
    "reference": "def f(x):\n    return x",
    "entry_point": "f",
    "hidden_tests": ["assert f(1) == 1"],
}


@pytest.fixture(scope="module")
def grader() -> Iterator[CodeGrader]:
    with CodeGrader() as started:
        yield started


def job(name: str) -> Job:
    return next(each for each in published().jobs if each.id == name)


def document(*tasks: dict[str, Any], edges: Any = ()) -> dict[str, Any]:
    mine = {"id": "mine", "shape": "own", "source": "test", "tasks": list(tasks), "edges": list(edges)}
    return {"schema": 1, "name": "own", "source": "test", "jobs": [mine]}


def written(path: Path, content: Any) -> Path:
    file = path / "jobs.json"
    file.write_text(json.dumps(content))
    return file


def test_the_published_jobs_have_the_origins_contents() -> None:
    """A=3 and B=4, 25, hyp_sq; fib(10)=55; 2026-02-21 is a Saturday."""
    rights = {f"{each.id}.{t.id}": right_answer(t) for each in published().jobs for t in each.tasks}
    assert rights["wb1.s0"] == '{"A": 3, "B": 4}'
    assert rights["wb1.s1"] == "25"
    assert "def hyp_sq" in rights["wb1.s2"]
    assert rights["wb2.s1"] == "55"
    assert rights["wb3.s0"] == '{"date": "2026-02-21"}'
    assert rights["wb3.s1"] == "yes"
    assert "Saturday" in rights["wb3.s2"]
    assert all(each.source for each in published().jobs)


def test_the_published_jobs_have_the_origins_estimates() -> None:
    """Types, tokens and difficulties, and the shapes chain, fork, chain."""
    nodes = {
        each.id: [(t.type, t.num_tokens, t.difficulty) for t in each.graph.tasks] for each in published().jobs
    }
    assert nodes == {
        "wb1": [("extraction", 200, 1.5), ("math", 150, 2), ("code", 350, 2)],
        "wb2": [("code", 450, 3), ("math", 120, 2), ("summarize", 180, 2)],
        "wb3": [("extraction", 180, 1.5), ("reasoning", 120, 2.5), ("summarize", 120, 1.5)],
    }
    assert [each.graph.layers() for each in published().jobs] == [
        ((0,), (1,), (2,)),
        ((0,), (1, 2)),
        ((0,), (1,), (2,)),
    ]


def test_the_answers_of_a_real_model_are_graded_as_by_its_origin(grader: CodeGrader) -> None:
    """Outputs of run 234936 in short: fences, steps and explanations around what counts."""
    wb1, wb3 = job("wb1"), job("wb3")
    assert grade_answer(wb1.task("s0"), '```json\n{"A":3,"B":4}\n```').is_right
    steps = "**Step 2:** 3² = 9\n\n9 + 16 = 25\n\n**Final Answer:** 25 \n\nTherefore, A² + B² = **25**."
    assert grade_answer(wb1.task("s1"), steps).is_right
    code = f"```python\n{HYP_SQ}EXAMPLE = 25\n```\n\n### Explanation:\n`hyp_sq` takes two arguments."
    assert grade_answer(wb1.task("s2"), code, grader) == (1.0, True, None)
    assert grade_answer(wb3.task("s1"), "NO \n") == (0.0, False, "names no")
    lost = "Please provide me with the text you want me to summarize!"
    assert grade_answer(wb3.task("s2"), lost) == (0.0, False, "does not mention saturday")


def test_a_wrong_number_on_the_edge_fails_a_hidden_test(grader: CodeGrader) -> None:
    """Three of four hidden tests pass: the score is their share, and the code is not right."""
    grade = grade_answer(job("wb1").task("s2"), f"{HYP_SQ}EXAMPLE = 24", grader)
    assert (grade.score, grade.is_right) == (0.75, False)
    assert "EXAMPLE" in str(grade.reason)


def test_code_is_graded_by_running_it_alone(grader: CodeGrader) -> None:
    """Naming the function is worth nothing, and without a grader nothing is guessed."""
    fib = job("wb2").task("s0")
    assert grade_answer(fib, "def fib(n): ...  # 0 1 55 6765", grader).score == 0
    with pytest.raises(UsageError, match="needs a code grader"):
        grade_answer(fib, "def fib(n): ...")


def test_a_text_without_its_facts_is_not_paid_for_its_wording() -> None:
    """ROUGE-L times the share of facts."""
    key = TextKey(reference="The change adds six to each item", facts=("six", "each item"))
    task = JobTask(id="s", type="summarize", difficulty=1, num_tokens=1, prompt="?", max_tokens=1, key=key)
    assert grade_answer(task, key.reference) == (1.0, True, None)
    half = grade_answer(task, "The change adds nine to each item")
    assert half.score == pytest.approx(6 / 7 / 2)
    assert not half.is_right
    assert grade_answer(task, "The change adds nine to it").score == 0


def test_what_travels_is_the_answer_without_the_words_around_it() -> None:
    """And all of the text where there is no answer in it."""
    wb1, wb3 = job("wb1"), job("wb3")
    assert answer_of(wb1.task("s0"), 'Sure:\n```json\n{"A": 3,\n "B": 4}\n```') == '{"A": 3, "B": 4}'
    assert answer_of(wb1.task("s0"), " A is 3 ") == "A is 3"
    assert answer_of(wb1.task("s1"), "9 + 16 = 1,025.") == "1025"
    assert answer_of(wb1.task("s2"), f"```python\n{HYP_SQ}```\nIt adds 2.") == HYP_SQ.strip()
    assert answer_of(wb3.task("s1"), "Yes, it is.") == "yes"
    assert answer_of(wb3.task("s1"), "yes or no") == "yes or no"


def test_a_prompt_holds_the_earlier_answer_and_nothing_is_scanned_twice() -> None:
    """An answer with a field in it stays as it is."""
    wb1 = job("wb1")
    assert "Given {s1} and {x}, compute" in render(wb1, wb1.task("s1"), {"s0": "{s1} and {x}"})
    with pytest.raises(UsageError, match=r"task s1: no answer for \{s0\}; run task s0 first"):
        render(wb1, wb1.task("s1"), {})
    with pytest.raises(UsageError, match="no task 's9'; it has s0, s1, s2"):
        wb1.task("s9")


def test_views_of_an_answer_are_rendered(tmp_path: Path) -> None:
    """A diff against `buggy`, the digits of what changed, and a row of the task's table."""
    buggy = "def f(x):\n    return x + 3"
    first = {**ROW, "type": "code", "key": {**CODE, "buggy": buggy}}
    second = {**ROW, "id": "s1", "prompt": "{s0.diff}|{s0.number}|{s0.row}", "table": {"nine": "IX"}}
    mine = load(written(tmp_path, document(first, second, edges=[["s0", "s1"]]))).jobs[0]
    shown = render(mine, mine.task("s1"), {"s0": "def f(x):\n    return x + 9"})
    assert shown == "- return x + 3\n+ return x + 9|9|"
    assert render(mine, mine.task("s1"), {"s0": buggy}) == "||"
    assert render(mine, mine.task("s1"), {"s0": "nine"}).endswith("|IX")


def changed(path: str, value: Any) -> dict[str, Any]:
    """A sound file of two tasks with one thing changed, or removed (`...`)."""
    second = {**ROW, "id": "s1", "prompt": "Double {s0}."}
    content: Any = copy.deepcopy(document(ROW, second, edges=[["s0", "s1"]]))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner = content
    for step in steps:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return dict(content)


TASK = "jobs.0.tasks.1"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "schema: 2 is not allowed; this version reads schema 1"),
        ("jobs", [], "jobs: [] is not allowed; write a list of at least one object"),
        ("jobs", ..., "jobs: missing; add it (see docs/jobs.md)"),
        ("extra", 1, "extra: 1 is not allowed; unknown key, remove it"),
        ("jobs.0.tasks", [], "job mine: tasks: [] is not allowed"),
        ("jobs.0.source", "", "job mine: source: '' is not allowed"),
        ("jobs.0.edges", [["s0", "s9"]], "edges[0]: ['s0', 's9'] is not allowed; write two of s0, s1"),
        ("jobs.0.edges", [["s0", "s1"], ["s0", "s1"]], "edges[1]: ['s0', 's1'] is not allowed; it stands"),
        ("jobs.0.edges", [["s0", "s1"], ["s1", "s0"]], "job mine: cycle through s0, s1; cut one edge"),
        ("jobs.0.edges", "s0 s1", "edges: 's0 s1' is not allowed"),
        ("jobs.0.edges", [], "task s1: prompt: {s0} is no edge that ends here; add the edge"),
        (f"{TASK}.prompt", "Double it.", "prompt: the answer of s0 is never used; put {s0} into"),
        (f"{TASK}.prompt", "{s0} {s9}", "task s1: prompt: {s9} is no edge that ends here"),
        (f"{TASK}.prompt", "{s0.sum}", "{s0.sum}: no such view, use diff, number, row"),
        (f"{TASK}.prompt", "{s0.diff}", "{s0.diff}: s0 has no buggy function; add it"),
        (f"{TASK}.prompt", "{s0.row}", "a table and {task.row} belong together"),
        (f"{TASK}.table", {"5": "five"}, "a table and {task.row} belong together"),
        (f"{TASK}.table", {"5": 5}, "task s1: table: {'5': 5} is not allowed"),
        (f"{TASK}.id", "s0", "task s0: id: 's0' is not allowed; a task of this id exists; rename one"),
        (f"{TASK}.id", "s 1", "id: 's 1' is not allowed; write an identifier"),
        (f"{TASK}.type", "poetry", "task s1: type: 'poetry' is not allowed; unknown task type; use"),
        (f"{TASK}.difficulty", 0.5, "task s1: difficulty: 0.5 is not allowed"),
        (f"{TASK}.difficulty", "2", "task s1: difficulty: '2' is not allowed; write a number"),
        (f"{TASK}.num_tokens", 0, "task s1: num_tokens: 0 is not allowed"),
        (f"{TASK}.num_tokens", True, "task s1: num_tokens: True is not allowed"),
        (f"{TASK}.max_tokens", 1.5, "task s1: max_tokens: 1.5 is not allowed"),
        (f"{TASK}.max_tokens", ..., "task s1: max_tokens: missing; add it"),
        (f"{TASK}.key", {"grade": "vibes"}, "key: grade: 'vibes' is not allowed; write one of json"),
        (f"{TASK}.key", 5, "key: grade: 5 is not allowed"),
        (f"{TASK}.key", {"grade": "number", "value": "5"}, "key: value: '5' is not allowed; write a number"),
        (f"{TASK}.key", {"grade": "number", "value": 5, "relative_tolerance": 2}, "tolerance: 2 is not"),
        (f"{TASK}.key", {"grade": "json"}, "key: value: missing"),
        (f"{TASK}.key", {"grade": "label", "value": "x", "labels": ["a", "b"]}, "value: 'x' is not allowed"),
        (f"{TASK}.key", {"grade": "label", "value": "a", "labels": ["a", "A"]}, "two labels are alike"),
        (f"{TASK}.key", {"grade": "text", "reference": "a", "facts": []}, "facts: [] is not allowed"),
        (f"{TASK}.key", {"grade": "text", "reference": "a", "facts": ["a|"]}, "an empty alternative"),
        (f"{TASK}.key", {**CODE, "entry_point": "g"}, "entry_point: 'g' is not allowed; name a function"),
        (f"{TASK}.key", {**CODE, "hidden_tests": ["f("]}, "hidden_tests[0]: 'f(' is not allowed; not Python"),
        (f"{TASK}.key", {**CODE, "hidden_tests": []}, "hidden_tests: [] is not allowed"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_before_anything_runs(
    tmp_path: Path, path: str, value: Any, message: str
) -> None:
    """The message names file, job, task, key, value and remedy, on one line."""
    file = written(tmp_path, changed(path, value))
    with pytest.raises(WorkloadError) as caught:
        load(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_two_jobs_of_one_id_are_refused(tmp_path: Path) -> None:
    """And so is a key given twice, or a file that is not there."""
    content = document(ROW)
    content["jobs"] *= 2
    with pytest.raises(WorkloadError, match="job mine: id: 'mine' is not allowed; a job of this id exists"):
        load(written(tmp_path, content))
    twice = tmp_path / "twice.json"
    twice.write_text('{"schema": 1, "schema": 1}')
    with pytest.raises(WorkloadError, match="key 'schema' occurs twice"):
        load(twice)
    with pytest.raises(WorkloadError, match=r"absent\.json: cannot be read"):
        load(tmp_path / "absent.json")


def test_the_published_file_survives_a_round_trip(tmp_path: Path) -> None:
    """A copy gives the same jobs and the same hash, at another path."""
    copied = tmp_path / "copy.json"
    copied.write_bytes(PUBLISHED.read_bytes())
    assert load(copied).jobs == published().jobs
    assert load(copied).sha256 == published().sha256


def test_the_command_says_which_keys_are_unsound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for sound ones, 1 for a reference that fails, 2 for a malformed file."""
    assert main(["check", str(PUBLISHED)]) == 0
    assert "9 of 9 tasks in 3 jobs sound" in capsys.readouterr().out
    wrong = {**CODE, "hidden_tests": ["assert f(1) == 2"], "buggy": "def f(x):\n    return 2"}
    text = {"grade": "text", "reference": "The sum.", "facts": ["product"]}
    rows = ({**ROW, "type": "code", "key": wrong}, {**ROW, "id": "s1", "type": "summarize", "key": text})
    assert main(["check", str(written(tmp_path, document(*rows)))]) == 1
    out = capsys.readouterr().out
    assert "mine.s0: its own right answer is graded wrong: assert f(1) == 2: got 1" in out
    assert "mine.s0: buggy passes every hidden test" in out
    assert "mine.s1: its own right answer is graded wrong: does not mention product" in out
    assert "0 of 2 tasks in 1 jobs sound" in out
    assert main(["check", str(tmp_path / "absent.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_label_travels_as_declared() -> None:
    """Whatever its case, so that a table finds it."""
    key = LabelKey(value="baker", labels=("baker", "pilot"))
    task = JobTask(id="s", type="extraction", difficulty=1, num_tokens=1, prompt="?", max_tokens=1, key=key)
    assert answer_of(task, "The Baker.") == "baker"


def test_the_documented_example_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What docs/jobs.md shows can be copied."""
    shown = re.search(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert shown is not None
    file = tmp_path / "shown.json"
    file.write_text(shown[1])
    assert main(["check", str(file)]) == 0
    assert "3 of 3 tasks in 1 jobs sound" in capsys.readouterr().out
