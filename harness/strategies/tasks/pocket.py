"""Tasks for the pocket models: held-out examples of four of their families.

`code` and `fix` are run: two inputs are visible, as in `swe-mini`, and the other five or more are hidden.
`extract` and `math` have no visible tests, since a test of a fact is the fact: they are judged by their
family's own grade, and can be chosen among by a scorer or a vote alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from harness.errors import UsageError
from harness.models.tasks import FAMILIES, Example, held_out
from harness.models.tasks.program import behaviour
from harness.strategies.answers import read_program, read_text
from harness.strategies.base import Question
from harness.strategies.tasks.base import Task

__all__ = ["POCKET_FAMILIES", "SEED", "VISIBLE", "tasks"]

SEED = 8
"""Of the held-out draw; the card's is 20, the workload's 7."""
VISIBLE = ([5, 5, 8, -2, 7], [3, 1, 2], "banana split", "abc")
"""Inputs that a verifier may run an answer on; two of them fit any one function."""


class _Code(NamedTuple):
    function: str
    reference: str
    inputs: tuple[tuple[Any, ...], ...]


def tasks(family: str, count: int, *, seed: int = SEED) -> list[Task]:
    """Held-out tasks of one family with distinct prompts; the same for every call.

    Raises
    ------
    UsageError: the family has no tasks here.
    """
    if family not in POCKET_FAMILIES:
        raise UsageError(f"family {family!r}: no such tasks; use {', '.join(POCKET_FAMILIES)}")
    build = POCKET_FAMILIES[family]
    examples = held_out(FAMILIES[family], count=count, seed=seed)
    return [build(family, f"{family}-{number:03d}", example) for number, example in enumerate(examples)]


def _coded(family: str, name: str, example: Example) -> Task:
    code = _code_of(family, example)
    visible = [value for value in code.inputs if value[0] in VISIBLE]
    hidden = [value for value in code.inputs if value[0] not in VISIBLE]
    question = Question(
        id=name,
        prompt=example.prompt,
        max_tokens=FAMILIES[family].max_tokens,
        read=read_program,
        visible=_asserts(code, visible),
        language="python",
    )
    return Task(question=question, family=family, hidden=_asserts(code, hidden))


def _graded(family: str, name: str, example: Example) -> Task:
    question = Question(
        id=name, prompt=example.prompt, max_tokens=FAMILIES[family].max_tokens, read=_READERS[family]
    )
    return Task(question=question, family=family, is_right=partial(FAMILIES[family].is_correct, example))


def _code_of(family: str, example: Example) -> _Code:
    if family == "fix":
        case = example.facts["case"]
        return _Code(case.function, case.reference, case.inputs)
    return _Code(example.facts["function"], example.target, example.facts["inputs"])


def _asserts(code: _Code, inputs: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    """One test per input for which the reference has a value, and no exception."""
    results = behaviour(code.reference, code.function, tuple(inputs)) or []
    return tuple(
        f"assert {code.function}({arguments[0]!r}) == {result}"
        for arguments, result in zip(inputs, results, strict=True)
        if _is_value(result)
    )


def _is_value(result: str) -> bool:
    try:
        ast.literal_eval(result)
    except (ValueError, SyntaxError):
        return False
    return True


def _read_result(text: str) -> str | None:
    """The number after the last colon, where the columns end; `None` without a colon or a number."""
    numbers = re.findall(r"\d+", text.rsplit(":", 1)[-1]) if ":" in text else ()
    return numbers[-1] if numbers else None


_READERS: dict[str, Callable[[str], str | None]] = {"extract": read_text, "math": _read_result}
POCKET_FAMILIES: dict[str, Callable[[str, str, Example], Task]] = {
    "code": _coded,
    "fix": _coded,
    "math": _graded,
    "extract": _graded,
}
"""Family → how its examples become tasks, those with visible tests first."""
