"""Diverse sampling: one answer at each temperature of a ladder, cool to hot.

The origin draws at 0.1, 0.5 and 0.9, sends none of the three to its server, and returns the first answer
whatever the others say. Here the temperatures are sent, and the rule is stated: the verifier's score where
there is a verifier, the majority of the answers where there is none. Ties go to the cooler answer. Answers at
different temperatures are different requests, so no batch can draw them together.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError
from harness.strategies.base import Budget, Outcome, Question, Sampler, Verifier
from harness.strategies.solving import Solving

__all__ = ["Diverse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverse:
    """One call per temperature."""

    temperatures: tuple[float, ...] = (0.1, 0.5, 0.9)
    name: str = "diverse"

    def __post_init__(self) -> None:
        if not self.temperatures or list(self.temperatures) != sorted(set(self.temperatures)):
            raise UsageError(f"{self.name}: temperatures are {self.temperatures}; give some, rising")

    async def solve(
        self,
        question: Question,
        sampler: Sampler,
        budget: Budget,
        verifier: Verifier | None = None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """Answer at each temperature and choose; see `Strategy.solve`."""
        solving = Solving(question, sampler, budget, verifier, seed)
        for temperature in self.temperatures:
            drawn = await solving.draw(1, temperature)
            if verifier is not None:
                solving.score(drawn)
        rule = "majority" if verifier is None else "best score"
        return solving.outcome(self.name, rule, solving.choose(rule))
