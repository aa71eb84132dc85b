from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.models import split
from harness.models.tasks import FAMILIES, examples, held_out
from harness.models.tasks.flow import Case, draw_case, line_diff
from harness.models.tasks.program import LISTS, behaviour

CODE_FAMILIES = [name for name, family in FAMILIES.items() if family.sample(random.Random(0)).sources]
seeds = st.integers(min_value=0, max_value=2**32)


def test_code_families_are_those_that_show_code() -> None:
    """Six of the nine families show or ask for code, and are split by its skeleton."""
    assert CODE_FAMILIES == ["code", "analyse", "repair", "brief", "fix", "summary"]


@pytest.mark.parametrize("name", FAMILIES)
@given(seed=seeds)
@settings(max_examples=12, deadline=None)
def test_an_example_is_decided_by_its_seed(name: str, seed: int) -> None:
    """The same seed draws the same example, and its target is graded as right."""
    family = FAMILIES[name]
    example = family.sample(random.Random(seed))
    assert example == family.sample(random.Random(seed))
    assert family.is_correct(example, example.target)
    assert not family.is_correct(example, "")


@pytest.mark.parametrize("name", FAMILIES)
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_the_training_stream_shows_nothing_held_out(name: str, seed: int) -> None:
    """No program of a training example has a held-out skeleton; no prompt is both held out and trained."""
    for example in itertools.islice(examples(FAMILIES[name], random.Random(seed)), 20):
        assert not example.is_held_out
        for source in example.sources:
            assert not split.is_held_out_key(split.canonical_ast(source))


@pytest.mark.parametrize("name", CODE_FAMILIES)
def test_held_out_references_and_training_programs_share_no_skeleton(name: str) -> None:
    """Over thousands of draws the skeletons to grade by and those trained on stay apart."""
    graded = {split.canonical_ast(e.sources[0]) for e in held_out(FAMILIES[name], count=150, seed=1)}
    stream = itertools.islice(examples(FAMILIES[name], random.Random(2)), 1000)
    trained = {split.canonical_ast(source) for example in stream for source in example.sources}
    assert len(graded) >= 2
    assert not graded & trained


@pytest.mark.parametrize("name", FAMILIES)
def test_held_out_tasks_are_distinct_and_repeatable(name: str) -> None:
    """The tasks to grade by are the same in every call, and no prompt occurs twice."""
    tasks = held_out(FAMILIES[name], count=60, seed=3)
    assert tasks == held_out(FAMILIES[name], count=60, seed=3)
    assert len({task.prompt for task in tasks}) == 60


@pytest.mark.parametrize("name", FAMILIES)
def test_the_trivial_baseline_is_poor(name: str) -> None:
    """No family can be passed without learning: the trivial answer is right at most half the time."""
    family = FAMILIES[name]
    tasks = held_out(family, count=200, seed=4)
    assert sum(family.is_correct(task, family.trivial(task)) for task in tasks) <= 120


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_a_case_needs_its_brief(seed: int) -> None:
    """The buggy function fails, differs in one line, and does not say what that line should do."""
    case = draw_case(random.Random(seed))
    assert behaviour(case.buggy, case.function, case.inputs) != behaviour(
        case.reference, case.function, case.inputs
    )
    assert len(case.diff.splitlines()) == 2
    assert case.phrase in case.issue
    assert case.phrase in case.brief
    assert case.phrase not in case.buggy


def test_names_and_constants_do_not_change_a_skeleton() -> None:
    """Renamed functions, arguments and changed constants are the same example; operators are not."""
    source = "def run(xs):\n    xs = [x for x in xs if x > 3]\n    return sum(xs)"
    renamed = "def fold(nums):\n    nums = [y for y in nums if y > 8]\n    return sum(nums)"
    assert split.canonical_ast(source) == split.canonical_ast(renamed)
    assert split.canonical_ast(source) != split.canonical_ast(source.replace(">", "<"))
    assert split.canonical_ast(source) != split.canonical_ast(source.replace("sum", "len"))


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef f(x):\n    return x",
        "def f(x):\n    return x.__class__",
        "def f(x):\n    return 9 ** 9 ** 9",
        "def f(x):\n    while x:\n        x = x",
        "def f(x):\n    return x * 500",
        "def g(x):\n    return x",
        "def f(x:",
    ],
)
def test_a_program_outside_the_tiny_language_is_refused(source: str) -> None:
    """What could reach outside, run for long or fill the memory never runs."""
    assert behaviour(source, "f", (([1],),)) is None


def test_a_program_reaches_nothing_but_the_tiny_language() -> None:
    """Builtins outside the language are unknown names."""
    assert behaviour("def f(x):\n    return open('/etc/passwd')", "f", (([1],),)) == ["NameError"]


def test_a_loop_that_feeds_itself_ends() -> None:
    """A loop that appends to the list that it runs over sees a copy, and ends."""
    source = "def f(xs):\n    for x in xs:\n        xs.append(x)\n    return xs"
    assert behaviour(source, "f", (([1, 2],),)) == ["[1, 2, 1, 2]"]


def test_what_a_program_raises_is_its_behaviour() -> None:
    """A call that raises gives the exception's name, and the arguments are not changed for the next."""
    assert behaviour("def f(xs):\n    return xs[5]", "f", tuple((value,) for value in LISTS[:2])) == [
        "IndexError",
        "IndexError",
    ]


def test_a_diff_has_at_most_four_lines() -> None:
    """Lines are compared place by place and stripped; the diff stops after two changed places."""
    assert line_diff("a\n  b\nc", "a\n  d\nc") == "- b\n+ d"
    assert line_diff("a\nb\nc", "x\ny\nz") == "- a\n+ x\n- b\n+ y"
    assert isinstance(draw_case(random.Random(0)), Case)
