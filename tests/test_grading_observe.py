from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.grading.observe import judge, prepare
from harness.grading.sandbox.candidate import NOTE, _encode


def observe(test: str, scope: dict[str, Any]) -> str | None:
    """Run a prepared test here and judge what it noted."""
    prepared = prepare(test)
    notes: dict[int, Any] = {}

    def note(place: int, kind: str, value: Any) -> None:
        notes[place] = bool(value) if kind == "truth" else _encode(value)

    exec(prepared.source, {**scope, NOTE: note})
    return judge(prepared, notes)


@pytest.mark.parametrize(
    "test",
    [
        "assert f(3) == 4",
        "assert f(3) != 5 and f(3) < 5 and f(3) >= 4",
        "assert f(3) in (4, 5)",
        "assert f(3) not in {1, 2}, 'with a message'",
        "assert f(3) is not None",
        "assert not f(-1)",
        "assert f(0) == True",
        "assert f(3) == f(3)",
        "x = f(1)\nassert x == 2\nassert x == 2.0",
        "for i in range(3):\n    assert f(i) == i + 1",
        "f(3)",
    ],
)
def test_a_true_test_passes(test: str) -> None:
    """Splitting an assertion keeps its meaning."""
    assert observe(test, {"f": lambda x: x + 1}) is None


@pytest.mark.parametrize(
    "test",
    [
        "assert f(3) == 5",
        "assert f(3) == 4 and f(3) == 5",
        "assert f(3) is None",
        "assert f(3) is True",
        "assert f(-1)",
        "assert not f(3)",
        "assert f(3) < 'a'",
        "assert f(3) == f(4)",
        "assert f(3) == [4]",
        "if f(3) == 5:\n    pass\nassert f(3) > 4",
    ],
)
def test_a_false_test_fails_with_its_text(test: str) -> None:
    """The reason quotes the assertion that failed."""
    reason = observe(test, {"f": lambda x: x + 1})
    assert reason is not None
    assert reason.startswith("assert ")


def test_what_is_expected_does_not_travel() -> None:
    """The literal of a comparison, and whether truth or its opposite is wanted, stay behind."""
    assert "41" not in prepare("assert f(3) == [41]").source
    assert prepare("assert f(3)").source == prepare("assert not f(3)").source


def test_an_assertion_that_was_not_reached_fails() -> None:
    """Every assertion at the top level has to be reported."""
    assert judge(prepare("assert f(1) == 2"), {}) == "assert f(1) == 2: never reached"


def test_an_object_that_equals_everything_gains_nothing() -> None:
    """Values are compared outside, as plain data."""

    class Any_(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class Yes:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert observe("assert f() == 5", {"f": lambda: Any_(4)}) == "assert f() == 5: got 4"
    assert observe("assert f() == 5", {"f": Yes}) == "assert f() == 5: got a Yes, which is no plain value"


@pytest.mark.parametrize(
    "notes", [{0: None}, {0: []}, {0: ["int", "g"]}, {0: ["int"]}, {0: ["what", 1]}, {0: 5}]
)
def test_a_malformed_note_fails(notes: dict[int, Any]) -> None:
    """A report that cannot be read is no pass and no error of ours."""
    assert judge(prepare("assert f() == 5"), notes) is not None


def test_a_truth_must_be_a_boolean() -> None:
    """A forged note of another kind fails."""
    assert judge(prepare("assert f()"), {0: 1}) is not None


LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    LEAF | st.decimals(allow_nan=False) | st.fractions() | st.frozensets(st.integers()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(PLAIN)
def test_plain_values_survive_the_way_out(value: Any) -> None:
    """What the suite compares equals what the candidate returned, and is of the same plain type."""
    prepared = prepare("assert f() == None")
    seen: list[Any] = []
    watched = prepared.expectations[0]._replace(holds=lambda found, _: seen.append(found) or True)
    assert judge(prepared._replace(expectations=(watched,)), {0: _encode(value)}) is None
    assert seen == [value]
    assert type(seen[0]) is type(value)


@given(LEAF, LEAF)
def test_comparing_outside_agrees_with_python(value: Any, expected: Any) -> None:
    """A comparison with a literal passes exactly when the assertion itself would."""
    verdict = observe(f"assert value == {expected!r}", {"value": value, "inf": float("inf")})
    assert (verdict is None) == (value == expected)
