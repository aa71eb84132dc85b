"""Jobs of WorkflowBench's three shapes in words, for real models: other numbers, functions and dates.

    wb1  read A and B from a text with other numbers in it → combine them → write the function that does
    wb2  write a function of a sequence → work out one of its values ‖ put its recurrence into words
    wb3  read a date from a text with other dates in it → which weekday is it → a sentence that names both

Answers are computed here, never typed. Chance: a weekday is one of seven, so 1/7; all else is next to 0.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from harness.workflow.jobs.job import CodeKey, Job, JobTask, JsonKey, Key, LabelKey, NumberKey, TextKey

__all__ = ["worded_job"]

SOURCE = "harness/workflow/jobs/worded.py: the shapes of seeds/routing.md section 3; answers are computed"
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FENCED = "Answer with one code block."
MAX_COMPUTED = 40
MAX_TESTED = 20
"""A naive recursion ends in its second up to there."""
ENDING = "End your answer with the number."


class _Formula(NamedTuple):
    """A function of two numbers."""

    name: str
    words: str
    """what it does with A and B"""
    expression: str
    """the same in Python, over a and b"""


FORMULAS = (
    _Formula("hyp_sq", "the square of A plus the square of B", "a * a + b * b"),
    _Formula("cube_sum", "the cube of A plus the cube of B", "a**3 + b**3"),
    _Formula("square_gap", "the square of A minus the square of B", "a * a - b * b"),
    _Formula("perimeter", "twice the sum of A and B", "2 * (a + b)"),
    _Formula("surface", "twice A times B plus twice the square of A", "2 * a * b + 2 * a * a"),
    _Formula("weighted", "three times A plus five times B", "3 * a + 5 * b"),
    _Formula("offset_product", "the product of A and B minus their sum", "a * b - (a + b)"),
    _Formula("sum_squared", "the square of the sum of A and B", "(a + b) ** 2"),
)


class _Sequence(NamedTuple):
    """A sequence of whole numbers."""

    name: str
    rule: str
    """its definition"""
    body: str
    """the lines of the function, after its head"""
    sentence: str
    facts: tuple[str, ...]
    largest: int
    """up to where its value can be worked out on paper"""


_PREVIOUS = "previous|preceding|prior|before|last|n-1|n - 1"
SEQUENCES = (
    _Sequence(
        "fib",
        "fib(0) = 0, fib(1) = 1, and each later value is the sum of the two before it",
        "a, b = 0, 1\nfor _ in range(n):\n    a, b = b, a + b\nreturn a",
        "Each value is the sum of the two previous values, starting from 0 and 1.",
        ("sum|add|+", _PREVIOUS, "two|n-2|n - 2"),
        16,
    ),
    _Sequence(
        "lucas",
        "lucas(0) = 2, lucas(1) = 1, and each later value is the sum of the two before it",
        "a, b = 2, 1\nfor _ in range(n):\n    a, b = b, a + b\nreturn a",
        "Each value is the sum of the two previous values, starting from 2 and 1.",
        ("sum|add|+", _PREVIOUS, "2", "1|one"),
        14,
    ),
    _Sequence(
        "tribonacci",
        "tribonacci(0) = 0, tribonacci(1) = 0, tribonacci(2) = 1, and each later value is the sum of the "
        "three before it",
        "a, b, c = 0, 0, 1\nfor _ in range(n):\n    a, b, c = b, c, a + b + c\nreturn a",
        "Each value is the sum of the three previous values, starting from 0, 0 and 1.",
        ("sum|add|+", _PREVIOUS, "three|n-3|n - 3"),
        13,
    ),
    _Sequence(
        "factorial",
        "factorial(0) = 1, and each later value is n times the one before it",
        "result = 1\nfor k in range(1, n + 1):\n    result *= k\nreturn result",
        "Each value is n times the previous value, starting from 1.",
        ("times|multipl|product|*|×", _PREVIOUS + "|from 1 to|up to"),
        8,
    ),
    _Sequence(
        "triangular",
        "triangular(0) = 0, and each later value is n more than the one before it",
        "total = 0\nfor k in range(1, n + 1):\n    total += k\nreturn total",
        "Each value is n plus the previous value, starting from 0.",
        ("sum|add|+|plus|more", _PREVIOUS + "|from 1 to|up to|first"),
        40,
    ),
    _Sequence(
        "pell",
        "pell(0) = 0, pell(1) = 1, and each later value is twice the one before it plus the one before that",
        "a, b = 0, 1\nfor _ in range(n):\n    a, b = b, 2 * b + a\nreturn a",
        "Each value is twice the previous value plus the one before it, starting from 0 and 1.",
        ("twice|double|2 *|2*|2 ×|two times|2 times", "sum|add|+|plus"),
        10,
    ),
)


def worded_job(name: str, shape: str, rng: random.Random) -> Job:
    """Draw a job of a shape; the same for the same state of the generator."""
    tasks, edges = _SHAPES[shape](rng)
    return Job(id=name, shape=shape, tasks=tasks, edges=edges, source=SOURCE)


_Drawn = tuple[tuple[JobTask, ...], tuple[tuple[str, str], ...]]
_CHAIN = (("s0", "s1"), ("s1", "s2"))
_TEXTS = (
    "A is {a} metres long and B is {b} metres long; the fence around them has {other} posts.",
    "Of the {other} crates, row A took {a}. Row B took {b}.",
    "Valve B was opened {b} times and valve A {a} times within {other} minutes.",
    "Order {other}: quantity of B: {b}, quantity of A: {a}.",
)
_DATED = (
    "The meeting was announced on {early} and takes place on {date}; minutes follow by {late}.",
    "Moved: not {early} but {date} is the day of the meeting. The room is booked until {late}.",
    "Invitations go out on {early}, the report is due on {late}, and we meet on {date}.",
)


def _wb1(rng: random.Random) -> _Drawn:
    formula, a, b = rng.choice(FORMULAS), rng.randint(3, 29), rng.randint(3, 29)
    text = rng.choice(_TEXTS).format(a=a, b=b, other=rng.randint(30, 99))
    result = _value(formula.expression, a, b)
    source = f"def {formula.name}(a, b):\n    return {formula.expression}\n\nEXAMPLE = {result}"
    pairs = [(rng.randint(0, 50), rng.randint(0, 50)) for _ in range(3)] + [(-5, 12)]
    tests = [f"assert {formula.name}{pair} == {_value(formula.expression, *pair)}" for pair in pairs]
    in_code = formula.words.replace("A", "a").replace("B", "b")
    ask = (
        f'{text}\nGive A and B as JSON with the keys "A" and "B". Answer with the JSON alone.',
        f"Given {{s0}}, compute {formula.words}. {ENDING}",
        f"Write a Python function {formula.name}(a, b) that returns {in_code}. "
        f"Below it, set the constant EXAMPLE to {{s1}}, its value in one case. {FENCED}",
    )
    code = CodeKey(
        reference=source,
        entry_point=formula.name,
        visible_tests=(tests[0],),
        hidden_tests=(*tests[1:], f"assert EXAMPLE == {result}"),
    )
    return (
        _task("s0", "extraction", 1.5, 200, 64, ask[0], JsonKey(value={"A": a, "B": b})),
        _task("s1", "math", 2.0, 150, 384, ask[1], NumberKey(value=result)),
        _task("s2", "code", 2.0, 350, 256, ask[2], code),
    ), _CHAIN


def _wb2(rng: random.Random) -> _Drawn:
    sequence = rng.choice(SEQUENCES)
    name, asked = sequence.name, rng.randint(5, sequence.largest)
    body = sequence.body.replace("\n", "\n    ")
    source = f"def {name}(n):\n    {body}"
    values = _values(source, name, MAX_COMPUTED + 1)
    hidden = sorted({0, 1, 2, asked, MAX_TESTED})
    code = CodeKey(
        reference=source,
        entry_point=name,
        visible_tests=tuple(f"assert {name}({n}) == {values[n]}" for n in (3, 4)),
        hidden_tests=tuple(f"assert {name}({n}) == {values[n]}" for n in hidden),
    )
    shown = "This is a Python function:\n{s0}\n"
    ask = (
        f"Write a Python function {name}(n): {sequence.rule}. {FENCED}",
        f"{shown}What does it return for n = {asked}? {ENDING}",
        f"{shown}Say in one sentence how each of its values follows from earlier ones, and where it starts.",
    )
    text = TextKey(reference=sequence.sentence, facts=sequence.facts)
    return (
        _task("s0", "code", 3.0, 450, 256, ask[0], code),
        _task("s1", "math", 2.0, 120, 512, ask[1], NumberKey(value=values[asked])),
        _task("s2", "summarize", 2.0, 180, 128, ask[2], text),
    ), (("s0", "s1"), ("s0", "s2"))


def _wb3(rng: random.Random) -> _Drawn:
    day = datetime.date(2020, 1, 1) + datetime.timedelta(days=rng.randrange(3650))
    early, late = day - datetime.timedelta(rng.randint(3, 40)), day + datetime.timedelta(rng.randint(3, 40))
    date, weekday = day.isoformat(), WEEKDAYS[day.weekday()]
    text = rng.choice(_DATED).format(early=early.isoformat(), date=date, late=late.isoformat())
    ask = (
        f'{text}\nGive the date of the meeting as JSON with the key "date". Answer with the JSON alone.',
        "Given {s0}: which day of the week is that date? End your answer with the name of the day, and name "
        "no other day.",
        "Someone asked for the weekday of a meeting. The answer was: {s1}. Say in one sentence on which day "
        "of the week the meeting is, naming no other day.",
    )
    said = TextKey(reference=f"The meeting is on a {weekday}.", facts=(weekday,))
    return (
        _task("s0", "extraction", 1.5, 180, 64, ask[0], JsonKey(value={"date": date})),
        _task("s1", "reasoning", 2.5, 120, 384, ask[1], LabelKey(value=weekday, labels=WEEKDAYS)),
        _task("s2", "summarize", 1.5, 120, 96, ask[2], said),
    ), _CHAIN


def _task(
    name: str, kind: str, difficulty: float, num_tokens: int, max_tokens: int, prompt: str, key: Key
) -> JobTask:
    return JobTask(
        id=name,
        type=kind,
        difficulty=difficulty,
        num_tokens=num_tokens,
        max_tokens=max_tokens,
        prompt=prompt,
        key=key,
    )


def _value(expression: str, a: int, b: int) -> int:
    return int(eval(expression, {"a": a, "b": b}))


def _values(source: str, name: str, count: int) -> list[int]:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return [namespace[name](n) for n in range(count)]


_SHAPES: Mapping[str, Callable[[random.Random], _Drawn]] = {"wb1": _wb1, "wb2": _wb2, "wb3": _wb3}
