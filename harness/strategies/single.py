"""One answer: what every other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from harness.strategies.base import Budget, Outcome, Question, Sampler, Verifier
from harness.strategies.solving import Solving

__all__ = ["Single"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """One call, one answer; greedy unless a temperature is given.

    The origin's baseline is one call at temperature 0.3, which it never sends.
    """

    temperature: float = 0.0
    name: str = "single"

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
        drawn = await solving.draw(1, self.temperature)
        if verifier is not None:
            solving.score(drawn)
        return solving.outcome(self.name, "first", solving.choose("first"))
