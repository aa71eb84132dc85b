"""What a task family is: a deterministic generator of examples, and a grade for an answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.models import split

__all__ = ["Example", "Family", "examples", "held_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question, the answer to learn, and what grading needs."""

    prompt: str
    """The user's message, exactly as the model sees it."""
    target: str
    """The answer to learn."""
    sources: tuple[str, ...] = ()
    """The programs the example shows or asks for, the reference first; empty where there is no code."""
    follow_ups: tuple[tuple[str, str], ...] = ()
    """More questions (prompt, target) about the same text, for training only."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the family's grader needs."""

    @property
    def is_trainable(self) -> bool:
        """Whether nothing in the example is held out."""
        if self.sources:
            return not any(split.is_held_out_source(source) for source in self.sources)
        return not split.is_held_out_key(self.prompt)

    @property
    def is_held_out(self) -> bool:
        """Whether the example may be used for grading: its reference is held out."""
        if self.sources:
            return split.is_held_out_source(self.sources[0])
        return split.is_held_out_key(self.prompt)


class Family(Protocol):
    """A family of tasks. Everything random comes from the generator that is passed in."""

    name: str
    max_tokens: int
    """Output cap that every target fits into."""
    chance: float
    """Score of a guess that knows the form of the answer, and nothing else."""
    baseline: str
    """What the trivial baseline does, in words."""

    def sample(self, rng: random.Random) -> Example:
        """Draw one example, of either side of the split."""

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""

    def trivial(self, example: Example) -> str:
        """The answer of the trivial baseline: no learning, only the prompt."""


def examples(family: Family, rng: random.Random) -> Iterator[Example]:
    """Yield training examples without end; none shows anything held out."""
    while True:
        example = family.sample(rng)
        if example.is_trainable:
            yield example


def held_out(family: Family, *, count: int, seed: int) -> list[Example]:
    """Draw `count` held-out examples with distinct prompts; the same for every call.

    The seed is mixed with the family's name, so families are independent of one another.
    """
    rng = random.Random(f"{family.name}/{seed}")
    drawn: dict[str, Example] = {}
    while len(drawn) < count:
        example = family.sample(rng)
        if example.is_held_out:
            drawn.setdefault(example.prompt, example)
    return list(drawn.values())
