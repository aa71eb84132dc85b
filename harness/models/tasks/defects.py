"""Defects: a loop over a list has one wrong line. Say which, and repair it.

Unlike in `flow.py` the first line of the question says what the function is for, so the defect can
be found by reading alone.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from harness.models.tasks import words
from harness.models.tasks.base import Example
from harness.models.tasks.program import LISTS, behaviour

__all__ = ["Analyse", "Repair"]

_LIMITS = (2, 1, 2, 5, 4, 7, 3)
"""The second argument that goes with each input list."""
_INPUTS = tuple(zip(LISTS, _LIMITS, strict=True))

_CONDITIONS = {
    "above {k}": "{x} > {k}",
    "below {k}": "{x} < {k}",
    "equal to {k}": "{x} == {k}",
    "other than {k}": "{x} != {k}",
    "not below {k}": "{x} >= {k}",
    "divisible by {k}": "{x} % {k} == 0",
}
"""Which items count: in words, and as Python."""


class _Loop(NamedTuple):
    verb: str
    start: str
    update: str


_LOOPS = (
    _Loop("count the items", "0", "{n} += 1"),
    _Loop("add up the items", "0", "{n} += {x}"),
    _Loop("multiply the items", "1", "{n} *= {x}"),
    _Loop("add up the squares of the items", "0", "{n} += {x} * {x}"),
    _Loop("collect the items", "[]", "{n}.append({x})"),
    _Loop("collect the doubles of the items", "[]", "{n}.append({x} * 2)"),
    _Loop("subtract the items", "0", "{n} -= {x}"),
)


class _Defect(NamedTuple):
    function: str
    purpose: str
    reference: str
    buggy: str
    analysis: str

    @property
    def sources(self) -> tuple[str, str]:
        return self.reference, self.buggy


class Analyse:
    """Name the wrong line and what it should be."""

    name = "analyse"
    max_tokens = 40
    chance = 0.0
    baseline = "the comparison turned round"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        defect = _draw_defect(rng)
        return Example(
            prompt=f"Analyze. {defect.purpose}\n{defect.buggy}",
            target=defect.analysis,
            sources=defect.sources,
            facts={"buggy": defect.buggy},
        )

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        return answer.strip() == example.target

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        line = example.facts["buggy"].split("\n")[3].strip()
        turned = line.replace(">", "\0").replace("<", ">").replace("\0", "<")
        return f"line 4: {line} should be {turned}"


class Repair:
    """Write the function with the named line replaced."""

    name = "repair"
    max_tokens = 90
    chance = 0.0
    baseline = "the function as it is"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        defect = _draw_defect(rng)
        return Example(
            prompt=f"Rewrite.\n{defect.analysis}\n{defect.buggy}",
            target=defect.reference,
            sources=defect.sources,
            facts={"function": defect.function, "buggy": defect.buggy},
        )

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        function = example.facts["function"]
        return behaviour(answer, function, _INPUTS) == behaviour(example.target, function, _INPUTS)

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return str(example.facts["buggy"])


def _draw_defect(rng: random.Random) -> _Defect:
    """Draw a loop and put another operator, start, update or result into one of its lines."""
    while True:
        names = {
            "f": rng.choice(words.FUNCTION_NAMES),
            "n": rng.choice(("total", "acc", "out", "res")),
            "x": rng.choice(("x", "v", "item")),
            "xs": rng.choice(("xs", "nums", "data")),
            "k": rng.choice(("k", "lim", "cut")),
        }
        loop, words_for = rng.choice(_LOOPS), rng.choice(list(_CONDITIONS))
        lines = [line.format(**names) for line in _lines(loop, _CONDITIONS[words_for])]
        place, wrong = _draw_wrong_line(rng, loop, words_for)
        broken = [*lines[:place], wrong.format(**names), *lines[place + 1 :]]
        reference, buggy = "\n".join(lines), "\n".join(broken)
        if behaviour(reference, names["f"], _INPUTS) != behaviour(buggy, names["f"], _INPUTS):
            purpose = f"{names['f']} should {loop.verb} {words_for.format(**names)}."
            analysis = f"line {place + 1}: {broken[place].strip()} should be {lines[place].strip()}"
            return _Defect(names["f"], purpose, reference, buggy, analysis)


def _lines(loop: _Loop, condition: str) -> list[str]:
    return [
        "def {f}({xs}, {k}):",
        "    {n} = " + loop.start,
        "    for {x} in {xs}:",
        f"        if {condition}:",
        f"            {loop.update}",
        "    return {n}",
    ]


def _draw_wrong_line(rng: random.Random, loop: _Loop, words_for: str) -> tuple[int, str]:
    """Choose a line (counted from 0) and what stands there instead."""
    place = rng.choice((1, 3, 3, 4, 5))
    if place == 1:
        return place, "    {n} = " + rng.choice(
            [start for start in ("0", "1", "[]", "2") if start != loop.start]
        )
    if place == 3:
        other = rng.choice([condition for words, condition in _CONDITIONS.items() if words != words_for])
        return place, f"        if {other}:"
    if place == 4:
        same_type = [
            other for other in _LOOPS if (other.start == "[]") == (loop.start == "[]") and other != loop
        ]
        return place, f"            {rng.choice(same_type).update}"
    return place, "    return " + rng.choice(("{xs}", "{k}", "{x}"))
