"""A right JSON value is right in any layout, any other value is wrong; a label is right alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.grading.exact import NOTHING, first_json, grade_json, grade_label, is_same_json

SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)
LAYOUTS = (
    "{}",
    " \n{}\n",
    "```json\n{}\n```",
    "```\n{}\n```",
    "Here it is:\n```json\n{}\n```\nDone.",
    "It is {}.",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday")


def laid_out(value: dict[str, Any], layout: str, indent: int | None, is_reversed: bool) -> str:
    pairs = reversed(value.items()) if is_reversed else value.items()
    return layout.replace("{}", json.dumps(dict(pairs), indent=indent, ensure_ascii=False))


@given(OBJECTS, st.sampled_from(LAYOUTS), st.sampled_from([None, 0, 2]), st.booleans())
def test_a_right_value_is_right_in_any_layout(
    value: dict[str, Any], layout: str, indent: int | None, is_reversed: bool
) -> None:
    """Fences, words around it, indentation and the order of keys do not count."""
    grade = grade_json(laid_out(value, layout, indent, is_reversed), value)
    assert grade == (1.0, True, None)


@given(OBJECTS, VALUES, st.sampled_from(LAYOUTS))
def test_any_other_value_is_wrong(value: dict[str, Any], other: Any, layout: str) -> None:
    """Whatever is not equal by value scores nothing; a string with brackets is told from them when alone."""
    assume(layout == "{}" or not (isinstance(other, str) and set(other) & set("{[")))
    if not is_same_json(value, other):
        assert not grade_json(layout.replace("{}", json.dumps(other)), value).ok


@given(OBJECTS, st.text(max_size=4), VALUES)
def test_a_key_too_many_is_wrong(value: dict[str, Any], key: str, extra: Any) -> None:
    """And so is one that is missing."""
    if key not in value:
        more = {**value, key: extra}
        assert not grade_json(json.dumps(more), value).ok
        assert not grade_json(json.dumps(value), more).ok


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("3.0", 3),
        ('{"A": 3.0, "B": 4}', {"A": 3, "B": 4}),
        ("The age is 47.", 47),
        ('It is "Porto".', "Porto"),
        ("**true**", True),
        ('The set {A, B} is {"A": 1}', {"A": 1}),
        ('{"A": 1} or {"A": 2}', {"A": 1}),
        ("\ufeff[1, 2]", [1, 2]),
    ],
)
def test_the_first_value_is_read(answer: str, wanted: Any) -> None:
    """An object or array before a plain value; braces that hold no JSON are words."""
    assert grade_json(answer, wanted).ok


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("1", True),
        ("true", 1),
        ("0", False),
        ("null", 0),
        ('"3"', 3),
        ("2026-02-21", 2026),
        ("1,000", 1),
        ("3.5.2", 3.5),
        ("XA47", 47),
        ("Porto", "Porto"),
        ('{"A": 3, "A": 4}', {"A": 4}),
        ('{"A": NaN}', {"A": None}),
        ("{'A': 3}", {"A": 3}),
        ('{"A": 3', {"A": 3}),
        ("", None),
        ("[1]", 1),
        ('"{}"', {}),
    ],
)
def test_what_only_looks_like_the_value_is_wrong(answer: str, wanted: Any) -> None:
    """Other types, parts of a longer word, a key given twice, Python, and half an object."""
    assert grade_json(answer, wanted).score == 0


def test_text_without_json_says_so() -> None:
    """Also where reading it would take for ever, or nest too deep."""
    assert first_json("no value here") is NOTHING
    assert "no JSON value" in str(grade_json("[" * 100_000, [1]).reason)
    assert first_json('{"A": ' * 50_000) is NOTHING


@given(
    st.sampled_from(WEEKDAYS),
    st.sampled_from(WEEKDAYS),
    st.sampled_from(["{}", "It is a {}.", "**{}**", "({})"]),
)
def test_a_label_is_right_alone(right: str, said: str, layout: str) -> None:
    """In any case, as a whole word."""
    for spelled in (said, said.lower(), said.upper()):
        assert grade_label(layout.format(spelled), right, WEEKDAYS).ok == (said == right)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Monday or Tuesday", "names Monday and Tuesday"),
        ("Mondays", "names no label"),
        ("", "names no label"),
        ("Tuesday", "names Tuesday"),
    ],
)
def test_two_labels_or_none_are_wrong(answer: str, reason: str) -> None:
    """Naming all of them is no answer."""
    assert grade_label(answer, "Monday", WEEKDAYS) == (0.0, False, reason)


def test_a_label_inside_a_longer_one_is_another() -> None:
    """`line 4` is not named by `line 42`."""
    assert not grade_label("line 42", "line 4", ("line 4", "line 5")).ok
    assert grade_label("line 4: if x > 5", "line 4", ("line 4", "line 5")).ok
