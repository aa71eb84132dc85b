"""Tasks of strategies: what is visible, what is hidden, and that a right answer is told from a wrong one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.errors import UnavailableError, UsageError, WorkloadError
from harness.grading import CodeGrader
from harness.grading.rust import RustGrader
from harness.strategies.answers import read_number, read_program, read_source, read_text
from harness.strategies.base import Question
from harness.strategies.tasks import POCKET_FAMILIES, Judge, Task, pocket, seeds
from harness.strategies.tasks.base import call_of

WRONG = {
    "prime_check-python": [
        "def is_prime(n):\n    return n == 2 or n % 2 == 1",
        "def is_prime(n): return True",
    ],
    "fibonacci-python": ["def fibonacci(n):\n    return {1: 1, 6: 8, 10: 55}.get(n, 0)"],
    "prime_check-rust": ["fn is_prime(n: u64) -> bool { n == 2 || n % 2 == 1 }"],
    "fibonacci-rust": [
        "fn fibonacci(n: u64) -> u64 { if n < 2 { 1 } else { fibonacci(n-1) + fibonacci(n-2) } }"
    ],
}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """A judge of whatever can be run here."""
    with CodeGrader() as grader:
        runners: dict[str, Any] = {"python": grader}
        with contextlib.suppress(UnavailableError):
            runners["rust"] = RustGrader()
        yield Judge(runners)


def skip_without_rust(language: str) -> None:
    """Skip with the reason that the suite gives."""
    if language == "rust":
        try:
            RustGrader()
        except UnavailableError as exc:
            pytest.skip(str(exc))


@pytest.mark.parametrize("name", seeds.rows())
def test_a_seed_task_accepts_its_reference_and_no_wrong_answer(name: str, judge: Judge) -> None:
    """Bare or in a fence; one that passes the visible tests by heart fails the hidden ones."""
    row = seeds.rows()[name]
    skip_without_rust(row.language)
    assert judge.is_solved(row.task, f"Here it is:\n```{row.language}\n{row.reference}\n```\nIt is fast.")
    for wrong in WRONG[name]:
        assert not judge.is_solved(row.task, wrong)
    assert not judge.is_solved(row.task, None)


def test_the_source_has_two_tasks_in_two_languages() -> None:
    """Rust as published, Python beside it."""
    for language in ("python", "rust"):
        assert [task.family for task in seeds.tasks(language)] == ["prime_check", "fibonacci"]
        assert all(task.question.max_tokens == 512 for task in seeds.tasks(language))


@pytest.mark.parametrize("family", POCKET_FAMILIES)
def test_a_pocket_task_accepts_its_target_and_not_the_trivial_answer(family: str, judge: Judge) -> None:
    """Where the tests come from the reference, the reference passes them."""
    from harness.models.tasks import FAMILIES, held_out

    found = pocket.tasks(family, 12)
    examples = held_out(FAMILIES[family], count=12, seed=pocket.SEED)
    for task, example in zip(found, examples, strict=True):
        target = example.facts["case"].reference if family == "fix" else example.target
        assert task.question.prompt == example.prompt
        assert judge.is_solved(task, target)
        assert task.question.read(target) is not None
    trivial = [FAMILIES[family].trivial(example) for example in examples]
    solved = [judge.is_solved(task, text) for task, text in zip(found, trivial, strict=True)]
    assert sum(solved) < len(solved) * 0.6
    assert [task.question.id for task in found] == [f"{family}-{i:03d}" for i in range(12)]


@pytest.mark.parametrize("family", POCKET_FAMILIES)
def test_visible_and_hidden_tests_share_no_call(family: str) -> None:
    """Code has both kinds, and more hidden ones; facts and sums have neither."""
    for task in pocket.tasks(family, 30):
        visible = {call_of(test, "python") for test in task.question.visible}
        hidden = {call_of(test, "python") for test in task.hidden}
        assert not visible & hidden
        if family in ("code", "fix"):
            assert len(visible) == 2
            assert len(hidden) >= 4
        else:
            assert not visible
            assert not hidden
            assert task.is_right is not None


def test_a_task_whose_hidden_test_is_visible_is_refused() -> None:
    """However it is spelled."""
    question = Question(
        id="x", prompt="x", max_tokens=1, read=read_text, visible=("assert f(3) == 4",), language="python"
    )
    with pytest.raises(WorkloadError, match=r"task x: f\(3\) is tested visibly and hidden"):
        Task(question=question, family="x", hidden=("assert f( 3 )==4",))


def test_a_task_has_one_judge() -> None:
    """Tests or a grade, not both and not neither."""
    question = Question(id="x", prompt="x", max_tokens=1, read=read_text)
    with pytest.raises(WorkloadError, match="give one of them"):
        Task(question=question, family="x")
    with pytest.raises(WorkloadError, match="give one of them"):
        Task(question=question, family="x", hidden=("assert f(1) == 1",), is_right=bool)


def test_an_unknown_family_names_those_there_are() -> None:
    """The message is the remedy."""
    with pytest.raises(UsageError, match="family 'poems': no such tasks; use code, fix, math, extract"):
        pocket.tasks("poems", 1)


def test_answers_are_compared_in_one_form() -> None:
    """Layout and comments do not count; what cannot be read is no answer."""
    assert read_program("def f(x):\n    return x+1  # one") == read_program(
        "```python\ndef f(x): return x + 1\n```"
    )
    assert read_program("def f(x") is None
    assert read_program("# nothing") is None
    assert read_source("fn f() {\n 1\n}") == read_source("```rust\nfn f() { 1 }\n```")
    assert read_text("  a  b ") == "a b"
    assert read_text(" ") is None
    assert read_number("it is 1,234.") == "1234"
    assert read_number("none") is None
