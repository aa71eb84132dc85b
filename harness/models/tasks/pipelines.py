"""Code: write a function of one to three steps and an end from its description.

The operations here are also the material of the workflow tasks in `flow.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from harness.models.tasks import words
from harness.models.tasks.base import Example
from harness.models.tasks.program import LISTS, TEXTS, behaviour

__all__ = ["Code", "Dialect", "Step", "draw_dialect", "draw_step", "function_source"]


class Step(NamedTuple):
    """One operation with its constants filled in."""

    phrase: str
    """What it does, in words."""
    expression: str
    """What it does, as a Python expression over the variable."""


class _Operation(NamedTuple):
    phrase: str
    expression: str

    @property
    def has_constant(self) -> bool:
        return "{k}" in self.phrase or "{c}" in self.phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Programs over lists of numbers, or over text."""

    variables: tuple[str, ...]
    operations: tuple[_Operation, ...]
    ends: tuple[_Operation, ...]
    inputs: tuple[tuple[object, ...], ...]
    """Arguments on which two programs are compared."""


_OVER_LISTS = Dialect(
    variables=("xs", "nums", "items"),
    operations=(
        _Operation("keep only the even items", "[x for x in {v} if x % 2 == 0]"),
        _Operation("keep only the odd items", "[x for x in {v} if x % 2 == 1]"),
        _Operation("keep items above {k}", "[x for x in {v} if x > {k}]"),
        _Operation("keep items below {k}", "[x for x in {v} if x < {k}]"),
        _Operation("add {k} to each item", "[x + {k} for x in {v}]"),
        _Operation("multiply each item by {k}", "[x * {k} for x in {v}]"),
        _Operation("subtract {k} from each item", "[x - {k} for x in {v}]"),
        _Operation("square each item", "[x * x for x in {v}]"),
        _Operation("sort the items", "sorted({v})"),
        _Operation("reverse the items", "{v}[::-1]"),
        _Operation("drop the first {k} items", "{v}[{k}:]"),
        _Operation("take the first {k} items", "{v}[:{k}]"),
        _Operation("remove duplicates", "list(dict.fromkeys({v}))"),
    ),
    ends=(
        _Operation("return the list", "{v}"),
        _Operation("return the sum", "sum({v})"),
        _Operation("return the count", "len({v})"),
        _Operation("return the largest or 0", "max({v}, default=0)"),
        _Operation("return the smallest or 0", "min({v}, default=0)"),
    ),
    inputs=tuple((value,) for value in LISTS),
)
_OVER_TEXT = Dialect(
    variables=("s", "text", "word"),
    operations=(
        _Operation("uppercase the text", "{v}.upper()"),
        _Operation("lowercase the text", "{v}.lower()"),
        _Operation("reverse the text", "{v}[::-1]"),
        _Operation("strip spaces", "{v}.strip()"),
        _Operation("remove every {c}", "{v}.replace('{c}', '')"),
        _Operation("replace {c} by {d}", "{v}.replace('{c}', '{d}')"),
        _Operation("repeat the text {k} times", "{v} * {k}"),
        _Operation("take the first {k} letters", "{v}[:{k}]"),
    ),
    ends=(
        _Operation("return it", "{v}"),
        _Operation("return its length", "len({v})"),
        _Operation("return the number of {c} letters", "{v}.count('{c}')"),
    ),
    inputs=tuple((value,) for value in TEXTS),
)


class Code:
    """Write the function that a sentence describes."""

    name = "code"
    max_tokens = 90
    chance = 0.0
    baseline = "a function that returns its argument"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        dialect, function = draw_dialect(rng), rng.choice(words.FUNCTION_NAMES)
        variable = rng.choice(dialect.variables)
        operations = [*rng.sample(dialect.operations, rng.randint(1, 3)), rng.choice(dialect.ends)]
        steps = [draw_step(rng, operation, variable) for operation in operations]
        source = function_source(function, variable, steps)
        return Example(
            prompt=f"Write {function}({variable}): {', then '.join(step.phrase for step in steps)}.",
            target=source,
            sources=(source,),
            facts={"function": function, "variable": variable, "inputs": dialect.inputs},
        )

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        function, inputs = example.facts["function"], example.facts["inputs"]
        return behaviour(answer, function, inputs) == behaviour(example.target, function, inputs)

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return "def {function}({variable}):\n    return {variable}".format(**example.facts)


def draw_dialect(rng: random.Random) -> Dialect:
    """Choose programs over lists (two of three) or over text."""
    return _OVER_LISTS if rng.random() < 0.67 else _OVER_TEXT


def draw_step(rng: random.Random, operation: _Operation, variable: str) -> Step:
    """Fill an operation's constants: k in 2…9, c and d single letters."""
    values = {
        "v": variable,
        "k": rng.randint(2, 9),
        "c": rng.choice("abcdeilnorst"),
        "d": rng.choice("uvwxyz"),
    }
    return Step(operation.phrase.format(**values), operation.expression.format(**values))


def function_source(function: str, variable: str, steps: list[Step]) -> str:
    """Write the steps as a function; the last one is what it returns."""
    body = [f"    {variable} = {step.expression}" for step in steps[:-1]]
    return "\n".join([f"def {function}({variable}):", *body, f"    return {steps[-1].expression}"])
