from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.grading import grade_exact, grade_numeric, grade_text
from harness.grading.numeric import last_number
from harness.grading.text import missing_facts, rouge_l, words


def test_rouge_l_is_the_f1_of_the_common_subsequence() -> None:
    """Lin's example: "police killed the gunman" against "police kill the gunman" shares 3 of 4 words."""
    assert rouge_l("police kill the gunman", "Police killed the gunman.") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(0.5)


TEXT = st.lists(st.sampled_from(["a", "B", "c1", "ü", ".", "-", "\n"]), max_size=12).map(" ".join)


@given(TEXT, TEXT)
def test_rouge_l_is_a_symmetric_share(a: str, b: str) -> None:
    """It lies between 0 and 1, does not depend on the order, and is 1 for the same words."""
    assert 0.0 <= rouge_l(a, b) <= 1.0
    assert rouge_l(a, b) == rouge_l(b, a)
    assert rouge_l(a, a.upper() + " !") == 1.0
    assert (rouge_l(a, b) == 1.0) == (words(a) == words(b))


@given(TEXT, TEXT)
def test_rouge_l_agrees_with_the_textbook_recurrence(a: str, b: str) -> None:
    """The library finds the same longest common subsequence as dynamic programming does."""
    x, y = words(a), words(b)
    row = [0] * (len(y) + 1)
    for word in x:
        above = row
        row = [0]
        for j, other in enumerate(y):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    expected = 2 * row[-1] / (len(x) + len(y)) if x or y else 1.0
    assert rouge_l(a, b) == pytest.approx(expected)


def test_facts_occur_in_any_case_and_either_form() -> None:
    """`a|b` is met by either, inside a word too, and what is missing is named."""
    assert missing_facts("Two DOTS in a row", ["consecutive|in a row", "dot"]) == []
    assert missing_facts("dots", ["dot", "comma|semicolon"]) == ["comma|semicolon"]
    assert missing_facts("a.b", ["a+b"]) == ["a+b"]


def test_text_is_ok_by_its_facts_and_scored_by_its_overlap() -> None:
    """Overlap alone does not make a text ok, and facts alone do not make its score."""
    assert grade_text("x y", "x y", ["z"]) == (1.0, False, "does not mention z")
    assert grade_text("it is z", "x y", ["z"]) == (0.0, True, None)


def test_exact_ignores_only_outer_white_space() -> None:
    """Inner spaces and case count."""
    assert grade_exact(" a b\n", "a b").ok
    assert not grade_exact("a  b", "a b").ok
    assert grade_exact("A b", "a b") == (0.0, False, "got 'A b'")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it is 1,234.50.", 1234.5),
        ("first 3, then -4", -4.0),
        ("−5", -5.0),
        ("costs $42!", 42.0),
        ("about 1.5e3", 1500.0),
        (".5", 0.5),
        ("x2 and v1.2", None),
        ("none", None),
        ("", None),
    ],
)
def test_the_last_number_is_the_answer(text: str, number: float | None) -> None:
    """Thousands separators, signs and exponents are read; digits of a name are not."""
    assert last_number(text) == number


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_is_found_again(number: float) -> None:
    """Any number that Python writes is read back."""
    assert grade_numeric(f"So the answer is {number!r}.", number).ok


def test_a_wrong_number_is_told_from_none() -> None:
    """The reason says which it was."""
    assert grade_numeric("7", 8.0).reason == "got 7"
    assert grade_numeric("seven", 7.0).reason == "no number"
