"""The answer that a text gives, in one form for all texts that give it: what a vote is counted by."""

from __future__ import annotations

import ast

from harness.grading.numeric import last_number_text
from harness.workflow.prompts import extract_code

__all__ = ["read_number", "read_program", "read_source", "read_text"]


def read_number(text: str) -> str | None:
    """The last number in plain digits, as is usual for GSM8K; `None` without one."""
    return last_number_text(text)


def read_text(text: str) -> str | None:
    """The text with single blanks; `None` when it is blank."""
    return " ".join(text.split()) or None


def read_source(text: str) -> str | None:
    """The code in it with single blanks, for languages that are not taken apart here; `None` without any."""
    return read_text(extract_code(text))


def read_program(text: str) -> str | None:
    """The syntax tree of the Python in it, so that layout and comments do not count; `None` if it has none.

    Two programs that do the same in other words are two answers: a vote here is a vote on the wording.
    """
    source = extract_code(text)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return ast.dump(tree) if tree.body else None
