"""Math: sums, differences, products and word problems, worked column by column.

A tiny model cannot add three-digit numbers in one step, and can when it writes the columns down
first: `7+5=12 2+1+1=4: 42`. So the scratchpad is part of the answer, and the number after the
last colon is what is graded.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from harness.models.tasks import words
from harness.models.tasks.base import Example

__all__ = ["Columns"]

_ITEMS = ["apples", "coins", "books", "cards", "shells", "pens"]


class Columns:
    """Compute the result and show the columns."""

    name = "math"
    max_tokens = 72
    chance = 0.0
    baseline = "the first number of the question"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        draw = rng.choices((_addition, _subtraction, _product, _story), (3, 3, 2, 2))[0]
        problem = draw(rng)
        return Example(prompt=problem.prompt, target=problem.work, facts={"result": str(problem.result)})

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        numbers = re.findall(r"\d+", answer.rsplit(":", 1)[-1])
        return ":" in answer and bool(numbers) and bool(numbers[-1] == example.facts["result"])

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        first = re.search(r"\d+", example.prompt)
        return f": {first.group() if first else ''}"


class _Problem(NamedTuple):
    prompt: str
    work: str
    result: int


def _addition(rng: random.Random) -> _Problem:
    left, right = _number(rng), _number(rng)
    return _Problem(f"Compute {left} + {right}.", _add(left, right), left + right)


def _subtraction(rng: random.Random) -> _Problem:
    right, left = sorted((_number(rng), _number(rng)))
    return _Problem(f"Compute {left} - {right}.", _subtract(left, right), left - right)


def _product(rng: random.Random) -> _Problem:
    left, right = rng.randint(11, 99), rng.randint(2, 9)
    return _Problem(f"Compute {left} * {right}.", _multiply(left, right), left * right)


def _story(rng: random.Random) -> _Problem:
    start, more = rng.randint(10, 99), rng.randint(10, 99)
    total = start + more
    if rng.random() < 0.5:
        change, verb = rng.randint(10, total), rng.choice(("gives away", "loses", "sells"))
        result, last = total - change, _subtract(total, change)
    else:
        change, verb = rng.randint(10, 99), rng.choice(("buys", "wins"))
        result, last = total + change, _add(total, change)
    name, item, found = rng.choice(words.NAMES), rng.choice(_ITEMS), rng.choice(("finds", "gets"))
    prompt = f"{name} has {start} {item}, {found} {more} more and then {verb} {change}. How many {item} now?"
    return _Problem(prompt, f"{_add(start, more)}; {last}", result)


def _number(rng: random.Random) -> int:
    return rng.randint(10, 99) if rng.random() < 0.6 else rng.randint(100, 999)


def _digits(number: int) -> list[int]:
    """Digits of a number, the ones first."""
    return [int(digit) for digit in reversed(str(number))]


def _add(left: int, right: int) -> str:
    lefts, rights = _digits(left), _digits(right)
    width = max(len(lefts), len(rights))
    steps, carry = [], 0
    for a, b in zip(_padded(lefts, width), _padded(rights, width), strict=True):
        total = a + b + carry
        steps.append(f"{a}+{b}{'+1' if carry else ''}={total}")
        carry = total // 10
    return f"{' '.join(steps)}: {left + right}"


def _subtract(left: int, right: int) -> str:
    lefts = _digits(left)
    steps, borrow = [], 0
    for a, b in zip(lefts, _padded(_digits(right), len(lefts)), strict=True):
        rest = a - b - borrow
        lent = "1" if rest < 0 else ""
        steps.append(f"{lent}{a}-{b}{'-1' if borrow else ''}={rest + 10 if lent else rest}")
        borrow = 1 if lent else 0
    return f"{' '.join(steps)}: {left - right}"


def _multiply(left: int, right: int) -> str:
    steps, carry = [], 0
    for digit in _digits(left):
        total = digit * right + carry
        steps.append(f"{digit}*{right}{f'+{carry}' if carry else ''}={total}")
        carry = total // 10
    return f"{' '.join(steps)}: {left * right}"


def _padded(digits: list[int], width: int) -> list[int]:
    return digits + [0] * (width - len(digits))
