"""Re-reading (RE2): the question is given twice in one prompt, and answered once.

    {question}
    Read the question again: {question}

Source: Xu et al. 2023, arXiv 2309.06275, §3 and Table 1. It costs a second reading of the question, which is
prefill, and no second call: the published 1.5× is no property of the method, and "verification" is not what
it does. The origin's `ReReadAggregator` sends one call too, and counts a fixed 1.5.

A model that never saw a question twice is out of its distribution, and answers worse for that reason alone.
The pocket models are such models: their loss here is an artefact of their training, not a result about RE2.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.strategies.base import Budget, Outcome, Question, Sampler, Verifier
from harness.strategies.solving import Solving

__all__ = ["Reread", "twice"]

AGAIN = "Read the question again:"


def twice(prompt: str) -> str:
    """A question, given twice."""
    return f"{prompt}\n{AGAIN} {prompt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """One call with the question given twice; greedy unless a temperature is given."""

    temperature: float = 0.0
    name: str = "reread"

    async def solve(
        self,
        question: Question,
        sampler: Sampler,
        budget: Budget,
        verifier: Verifier | None = None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """Answer once; see `Strategy.solve`. A verifier scores the answer and chooses nothing."""
        solving = Solving(question, sampler, budget, verifier, seed)
        drawn = await solving.draw(1, self.temperature, prompt=twice(question.prompt))
        if verifier is not None:
            solving.score(drawn)
        return solving.outcome(self.name, "first", solving.choose("first"))
