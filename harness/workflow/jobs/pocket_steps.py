"""The tasks that pocket jobs are made of: a constant is given, and a question is drawn that leads to it.

Constants are 2 to 9, because the models never saw others in a function. A constant is only used where every
other one would fail a hidden test, so that a wrong number on an edge makes the code wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from harness.errors import UsageError
from harness.models import split
from harness.models.tasks import FAMILIES, Example, words
from harness.models.tasks.flow import Case, draw_case
from harness.models.tasks.program import LISTS, behaviour
from harness.workflow.jobs.job import CodeKey, JsonKey, Key, NumberKey, TextKey

__all__ = [
    "CONSTANTS",
    "Step",
    "difference",
    "drawn",
    "function_to_write",
    "held_out_record",
    "pinned_case",
    "product",
    "repair_key",
    "reported_repair",
    "with_field",
]

CONSTANTS = range(2, 10)
ITEMS = ("apples", "coins", "books", "cards", "shells", "pens")
MAX_DRAWS = 200_000
NUM_VISIBLE = 2
EXTRA_LISTS: tuple[tuple[Any, ...], ...] = (([9, 8, 7, 3, 3, 1, 12],), ([-4, 0, 11, 6, 6],))
EXTRA_TEXTS: tuple[tuple[Any, ...], ...] = (("Round trip to Leeds  ",), ("  see a toad, an eel",))
"""Inputs beyond those that the families compare programs on."""
LIMITED: tuple[tuple[Any, ...], ...] = (
    *zip(LISTS, (2, 1, 2, 5, 4, 7, 3), strict=True),
    ([9, 8, 7, 3, 3, 1, 12], 3),
    ([-4, 0, 11, 6, 6], 6),
)
"""Lists, each with a limit: what the functions of `repair` take."""
WORKED = "0-0=0 0-0=0: "
"""As long as what the models write before a result."""

_T = TypeVar("_T")
_Inputs = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A task before it has its place in a job."""

    type: str
    family: str
    prompt: str
    """with `{fields}`"""
    answer: str
    """a right one, for the estimate of tokens"""
    difficulty: float
    key: Key
    table: Mapping[str, str] = field(default_factory=dict)
    brought: str = ""
    """what a field brings into the prompt, where it is long"""


class _Asked(NamedTuple):
    prompt: str
    difficulty: float


def drawn(draw: Callable[[], _T | None]) -> _T:
    """The first draw that is something; raises `UsageError` when there is none."""
    for _ in range(MAX_DRAWS):
        found = draw()
        if found is not None:
            return found
    raise UsageError(f"pocket jobs: {MAX_DRAWS} draws gave nothing that fits; the task families have changed")


def held_out_record(rng: random.Random, name: str) -> Example:
    """A held-out record that is asked for this field."""

    def draw() -> Example | None:
        example = FAMILIES["extract"].sample(rng)
        return example if example.prompt.endswith(f"What is the {name}?") and example.is_held_out else None

    return drawn(draw)


def difference(rng: random.Random, constant: int) -> tuple[Step, Step]:
    """A record with a number (an age, or the digits of a plate), and what leads from it to the constant."""

    def draw() -> tuple[Example, int, _Asked] | None:
        record = held_out_record(rng, rng.choice(("age", "code")))
        digits = re.search(r"[1-9]\d+$", record.target)
        asked = None if digits is None else _question(rng, int(digits[0]), constant)
        if digits is None or asked is None:
            return None
        right = asked.prompt.replace("{s0.number}", digits[0])
        return (record, int(digits[0]), asked) if split.is_held_out_key(right) else None

    record, number, asked = drawn(draw)
    is_plate = not record.target.isdigit()
    extraction = Step(
        type="extraction",
        family="extract",
        prompt=record.prompt,
        answer=record.target,
        difficulty=2.0 if is_plate else 1.5,
        key=TextKey(reference=record.target, facts=(record.target,)) if is_plate else JsonKey(value=number),
    )
    return extraction, _math(asked, constant)


def product(rng: random.Random, constant: int) -> Step:
    """A two-digit number times `{s0.number}`."""

    def draw() -> int | None:
        factor = rng.randint(11, 99)
        return factor if split.is_held_out_key(f"Compute {factor} * {constant}.") else None

    factor = drawn(draw)
    return _math(_Asked(f"Compute {factor} * {{s0.number}}.", 2.0), factor * constant)


def function_to_write(rng: random.Random) -> tuple[Step, int]:
    """A function in words, and that constant of it which stands as `{s1}`."""

    def draw() -> tuple[Example, int, int] | None:
        example = FAMILIES["code"].sample(rng)
        found = next(((place, c) for place, c in enumerate(_constants(example.prompt), start=1) if c), None)
        if found is None or not example.is_held_out:
            return None
        name, inputs = example.facts["function"], _inputs(example.facts["inputs"])
        return (example, *found) if _decides(example.target, *found, name, inputs) else None

    example, place, constant = drawn(draw)
    steps = example.prompt.split(", then ")
    steps[place - 1] = with_field(steps[place - 1], constant, "{s1}")
    name, inputs = example.facts["function"], _inputs(example.facts["inputs"])
    step = Step(
        type="code",
        family="code",
        prompt=", then ".join(steps),
        answer=example.target,
        difficulty=1.0 + len(steps) / 2,
        key=_code_key(example.target, name, inputs),
    )
    return step, constant


def reported_repair(rng: random.Random, constant: int) -> Step:
    """A function to rewrite by one of several reports; `{s1}` is the number of the right one."""

    def draw() -> Example | None:
        example = FAMILIES["repair"].sample(rng)
        if not example.is_held_out:
            return None
        both = [behaviour(source, example.facts["function"], _hidden(LIMITED)) for source in example.sources]
        return example if both[0] != both[1] else None

    example = drawn(draw)
    head, report, *source = example.prompt.split("\n")

    def another() -> str | None:
        found = FAMILIES["repair"].sample(rng).prompt.split("\n")[1]
        return None if found == report else found

    reports = {str(number): report if number == constant else drawn(another) for number in CONSTANTS}
    return Step(
        type="code",
        family="repair",
        prompt="\n".join([head, "{s1.row}", *source]),
        brought=report,
        answer=example.target,
        difficulty=2.5,
        key=_code_key(example.target, example.facts["function"], LIMITED, buggy=example.facts["buggy"]),
        table=reports,
    )


def pinned_case(rng: random.Random, allowed: Collection[int] = CONSTANTS) -> tuple[Case, int]:
    """A held-out function of two steps, one of them wrong, and the constant that this should have.

    allowed: constants to choose from.
    """

    def draw() -> tuple[Case, int] | None:
        case = draw_case(rng)
        constant, is_short = _constants(case.phrase)[0], case.reference.count("\n") == 3
        if constant not in allowed or not is_short or not split.is_held_out_source(case.reference):
            return None
        inputs = _inputs(case.inputs)
        hidden = _hidden(inputs)
        wanted = behaviour(case.reference, case.function, hidden)
        if behaviour(case.buggy, case.function, hidden) == wanted:
            return None
        return (
            (case, constant) if _decides(case.reference, case.step, constant, case.function, inputs) else None
        )

    return drawn(draw)


def repair_key(case: Case) -> CodeKey:
    """How a repair is graded."""
    return _code_key(case.reference, case.function, _inputs(case.inputs), buggy=case.buggy)


def with_field(text: str, constant: int, name: str) -> str:
    """The text with the constant replaced by a field of a prompt."""
    return re.sub(rf"\b{constant}\b", name, text)


def _constants(phrases: str) -> list[int]:
    """The constant of each step, 0 where it has none."""
    found = [re.search(r"\d", phrase) for phrase in phrases.split(", then ")]
    return [0 if match is None else int(match[0]) for match in found]


def _question(rng: random.Random, number: int, constant: int) -> _Asked | None:
    """A difference or a word problem; None where the ranges of the training allow neither."""
    if number < 100 and rng.random() < 0.4:
        name, item, more = rng.choice(words.NAMES), rng.choice(ITEMS), rng.randint(10, 99)
        found, verb = rng.choice(("finds", "gets")), rng.choice(("gives away", "loses", "sells"))
        story = f"{name} has {{s0.number}} {item}, {found} {more} more and then {verb}"
        return _Asked(f"{story} {number + more - constant}. How many {item} now?", 2.5)
    if number - constant < 10:
        return None
    return _Asked(f"Compute {{s0.number}} - {number - constant}.", 1.5 if number < 100 else 2.0)


def _math(asked: _Asked, result: int) -> Step:
    return Step(
        type="math",
        family="math",
        prompt=asked.prompt,
        answer=f"{WORKED}{result}",
        difficulty=asked.difficulty,
        key=NumberKey(value=result),
    )


def _decides(source: str, line: int, constant: int, name: str, inputs: _Inputs) -> bool:
    """Whether every other constant in this line fails a hidden test."""
    lines, hidden = source.split("\n"), _hidden(inputs)
    wanted = behaviour(source, name, hidden)
    for other in CONSTANTS:
        changed = re.sub(rf"\b{constant}\b", str(other), lines[line])
        broken = "\n".join([*lines[:line], changed, *lines[line + 1 :]])
        if other != constant and behaviour(broken, name, hidden) == wanted:
            return False
    return True


def _inputs(inputs: _Inputs) -> _Inputs:
    return inputs + (EXTRA_TEXTS if isinstance(inputs[0][0], str) else EXTRA_LISTS)


def _hidden(inputs: _Inputs) -> _Inputs:
    """All but the third and fourth input, which a router may see: the first ones are empty."""
    return inputs[:NUM_VISIBLE] + inputs[2 * NUM_VISIBLE :]


def _code_key(source: str, name: str, inputs: _Inputs, buggy: str | None = None) -> CodeKey:
    def tests(some: _Inputs) -> tuple[str, ...]:
        results = behaviour(source, name, some) or []
        calls = (f"{name}({', '.join(map(repr, values))})" for values in some)
        return tuple(f"assert {call} == {result}" for call, result in zip(calls, results, strict=True))

    return CodeKey(
        reference=source,
        entry_point=name,
        hidden_tests=tests(_hidden(inputs)),
        visible_tests=tests(inputs[NUM_VISIBLE : 2 * NUM_VISIBLE]),
        buggy=buggy,
    )
