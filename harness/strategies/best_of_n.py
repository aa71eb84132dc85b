"""Best of n: n answers at one temperature, the one that the verifier scores highest, the first of equals.

What it can gain is bounded twice: by the oracle (was any of the n right?) and by the verifier (does the
highest score go to a right one?). With the visible tests as verifier the second gap is what those tests miss;
with log-probabilities it is what confidence does not know. The origin compares scores that nothing sets, so
that its candidate 0 always wins.

Source: Chen et al. 2021, arXiv 2107.03374, §3.3 (ranking by mean log-probability, and by tests); Cobbe et al.
2021, arXiv 2110.14168, §4 (a verifier).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UsageError
from harness.strategies.base import Budget, Outcome, Question, Sampler, Verifier
from harness.strategies.solving import Solving, check_sampled

__all__ = ["BestOfN"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """`num` answers, and a verifier. Published: 3 answers at temperature 0.3."""

    num: int = 3
    temperature: float = 0.8
    name: str = "best-of-n"

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
        """Draw, score and choose; see `Strategy.solve`."""
        if verifier is None:
            raise UsageError(f"{self.name}: no verifier to choose by; give VisibleTests or LogProb")
        solving = Solving(question, sampler, budget, verifier, seed)
        solving.score(await solving.draw(self.num, self.temperature))
        return solving.outcome(self.name, "best score", solving.choose("best score"))
