"""The number that an answer ends with is compared within a stated tolerance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.grading.numeric import grade_numeric, last_number_text

ENDINGS = ("{}", "So it is {}.", "7 + 18 = {}", "**{}**\n", "\\boxed{{{}}}", "```\n{}\n```", "= {}!")


@given(st.integers(-(10**9), 10**9), st.sampled_from(ENDINGS), st.booleans())
def test_the_right_number_is_right_in_any_words(number: int, ending: str, has_separators: bool) -> None:
    """With and without thousands separators."""
    spelled = f"{number:,}" if has_separators else str(number)
    assert grade_numeric(f"First 3 and 4: {ending.format(spelled)}", number).ok


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.sampled_from(ENDINGS))
def test_any_other_number_is_wrong(said: int, right: int, ending: str) -> None:
    """A whole number next to it is another, whatever came before."""
    grade = grade_numeric(f"{right}, no: {ending.format(said)}", right)
    assert grade.ok == (said == right)


@pytest.mark.parametrize(
    ("said", "right", "tolerance", "is_ok"),
    [
        ("0.3333", 1 / 3, 1e-3, True),
        ("0.3333", 1 / 3, 1e-6, False),
        ("25", 25, 0.0, True),
        ("25.0001", 25, 0.0, False),
        ("", 25, 1e-6, False),
        ("twenty-five", 25, 1e-6, False),
    ],
)
def test_the_tolerance_is_what_was_stated(said: str, right: float, tolerance: float, is_ok: bool) -> None:
    """Relative, and none where it is 0."""
    assert grade_numeric(said, right, tolerance).ok == is_ok


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7+5=12 2+1+1=4: 42", "42"),
        ("it is 1,234.", "1234"),
        ("−5", "-5"),
        ("+5", "5"),
        ("2.50", "2.50"),
        ("none", None),
    ],
)
def test_the_last_number_travels_in_plain_digits(text: str, number: str | None) -> None:
    """Without separators, so that the next model reads one number."""
    assert last_number_text(text) == number
