"""Whether an answer is an instance of its schema."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.backends.prometheus import parse_samples
from harness.backends.schema import schema_error
from harness.errors import UsageError

SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["kg", "m"]}, "value": {"type": "integer", "maximum": 9}},
    "required": ["unit", "value"],
    "additionalProperties": False,
}


def test_an_instance_has_no_error() -> None:
    """Blanks around it do not matter."""
    assert schema_error(' {"unit": "kg", "value": 3}\n', SCHEMA) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"unit": "kg"}', "$: 'value' is a required property"),
        ('{"unit": "kg", "value": 12}', "$.value: 12 is greater than the maximum of 9"),
        ('{"unit": "s", "value": 3}', "$.unit: 's' is not one of ['kg', 'm']"),
        ("7", "$: 7 is not of type 'object'"),
        ("Sure! {}", "no JSON (Expecting value: line 1 column 1 (char 0)): 'Sure! {}'"),
        ("", "no JSON (Expecting value: line 1 column 1 (char 0)): ''"),
        ("[" * 100_000, "no JSON (maximum recursion depth exceeded"),
    ],
    ids=["missing", "too large", "not listed", "another type", "talk", "nothing", "nested"],
)
def test_what_is_none_is_told_by_place_and_reason(text: str, says: str) -> None:
    """One line, short whatever the answer's length."""
    error = schema_error(text, SCHEMA)
    assert error is not None
    assert error.startswith(says)
    assert "\n" not in error
    assert len(error) < 300


def test_an_object_that_was_cut_off_says_so() -> None:
    """The tokens ran out: no fault of the schema's."""
    error = schema_error('{"unit": "k', SCHEMA, finish_reason="length")
    assert error is not None
    assert error.startswith("cut off after max_tokens, in the middle of the object: …")
    assert error.endswith("raise max_tokens")


def test_a_whole_object_at_the_last_token_is_whole() -> None:
    """An answer may end with its last token and still be one."""
    assert schema_error('{"unit": "kg", "value": 3}', SCHEMA, finish_reason="length") is None


def test_a_schema_that_is_none_is_our_mistake() -> None:
    """No answer is blamed for it."""
    with pytest.raises(UsageError, match="the JSON schema is none: 'nonsense' is not valid"):
        schema_error("{}", {"type": "nonsense"})


def test_the_library_is_not_loaded_until_a_schema_is_asked_for() -> None:
    """It costs those nothing who ask for none."""
    program = (
        "import sys, harness.backends.llamacpp, harness.backends.ollama; print('jsonschema' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_counters_in_another_form_are_refused() -> None:
    """A line that is neither comment nor sample is shown."""
    with pytest.raises(ValueError, match="no sample: '<html>'"):
        parse_samples("up 1\n<html>\n")
