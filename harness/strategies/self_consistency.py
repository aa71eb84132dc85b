"""Self-consistency: n answers at one temperature, the one that most of them give.

Answers are compared in the form that the question's reader gives them: a number, a text, a program's syntax
tree. Ties go to the answer that was drawn first; a text without an answer has no vote.

Source: Wang et al. 2022, arXiv 2203.11171, §2. The origin's: 5 answers at temperature 0.7.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.strategies.base import Budget, Outcome, Question, Sampler, Verifier
from harness.strategies.solving import Solving, check_sampled

__all__ = ["SelfConsistency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfConsistency:
    """`num` answers and their vote; needs no verifier, and asks none."""

    num: int = 5
    temperature: float = 0.7
    name: str = "self-consistency"

    def __post_init__(self) -> None:
        check_sampled(self.name, self.num, self.temperature)

    async def solve(
        self,
        question: Question,
        sampler: Sampler,
        budget: Budget,
        verifier: Verifier | None = None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """Draw and vote; see `Strategy.solve`."""
        solving = Solving(question, sampler, budget, None, seed)
        await solving.draw(self.num, self.temperature)
        return solving.outcome(self.name, "majority", solving.choose("majority"))
