"""Grade by equality: of texts, of JSON values, of one label among several.

JSON values are compared, not their spelling: 3 and 3.0 are equal, the order of keys is free, a key too many
is wrong. True and 1 are two values, although Python holds them equal. Models wrap a value in words and
fences, so the first object or array of the text counts, and the first plain value only where there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from harness.grading.base import Grade

__all__ = ["NOTHING", "first_json", "grade_exact", "grade_json", "grade_label", "is_same_json", "labels_in"]


class _Nothing:
    """No value at all, as null is one."""


NOTHING: Final = _Nothing()
_OPENING = re.compile(r"[{\[]")
_PLAIN = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_AROUND = ".,;:!?()*_`'"
"""Punctuation that may stand around a plain value in a sentence."""
_MAX_STARTS = 200
"""Places of one text at which a value is looked for: reading is quadratic in them."""
_MAX_SHOWN = 80


def grade_exact(output: str, reference: str) -> Grade:
    """Give 1 when `output` and `reference` are equal after stripping white space at both ends, else 0."""
    if output.strip() == reference.strip():
        return Grade(1.0, True)
    return Grade(0.0, False, f"got {output.strip()[:_MAX_SHOWN]!r}")


def grade_json(output: str, reference: Any) -> Grade:
    """Give 1 when the first JSON value of `output` equals `reference` by value, else 0."""
    found = first_json(output)
    if found is NOTHING:
        return Grade(0.0, False, f"no JSON value in {output.strip()[:_MAX_SHOWN]!r}")
    if is_same_json(found, reference):
        return Grade(1.0, True)
    return Grade(0.0, False, f"got {json.dumps(found)[:_MAX_SHOWN]}")


def grade_label(output: str, reference: str, labels: Iterable[str]) -> Grade:
    """Give 1 when `output` names `reference`, as whole words in any case, and no other of the labels."""
    named = labels_in(output, labels)
    if named == [reference]:
        return Grade(1.0, True)
    return Grade(0.0, False, f"names {' and '.join(named)}" if named else "names no label")


def labels_in(text: str, labels: Iterable[str]) -> list[str]:
    """The labels that `text` names, as whole words in any case."""
    lower = text.lower()
    return [label for label in labels if re.search(rf"(?<!\w){re.escape(label.lower())}(?!\w)", lower)]


def first_json(text: str) -> Any:
    """The first object or array in `text`, else its first plain value; `NOTHING` when there is none.

    A text that is one value as a whole is that value: `"{}"` is a string, and no object.
    """
    whole = _decoded(text.strip(), is_whole=True)
    if whole is not NOTHING:
        return whole
    for match in islice(_OPENING.finditer(text), _MAX_STARTS):
        found = _decoded(text[match.start() :])
        if found is not NOTHING:
            return found
    for match in islice(_PLAIN.finditer(text), _MAX_STARTS):
        word = match[0].strip(_AROUND)
        found = _decoded(word, is_whole=True)
        if found is not NOTHING:
            return found
    return NOTHING


def is_same_json(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; True is not 1, 3 is 3.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_same_json, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right if type(left) is type(right) else _is_same_number(left, right)


def _is_same_number(left: Any, right: Any) -> bool:
    return isinstance(left, int | float) and isinstance(right, int | float) and bool(left == right)


def _decoded(text: str, *, is_whole: bool = False) -> Any:
    """The JSON value at the start of a text, or `NOTHING`."""
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return NOTHING
    return NOTHING if is_whole and end < len(text) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)
