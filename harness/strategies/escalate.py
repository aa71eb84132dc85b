"""Escalation: the cheap step first, the next one where the verifier does not accept its answer.

A step is a strategy on a sampler: one greedy answer before eight sampled ones, or a small model before a
large one. The first answer whose score reaches `accept` ends it. Where none does, the highest score among the
steps' choices wins, and of equals the last step's, the dearest. All steps share one budget and one account.

Source: Chen et al. 2023, FrugalGPT, arXiv 2305.05176, §3 (a cascade of models with a scorer).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.clock import now_s
from harness.errors import UsageError
from harness.strategies.base import (
    Budget,
    Call,
    Candidate,
    Failure,
    Outcome,
    Question,
    Sampler,
    StepChoice,
    Strategy,
    Verifier,
)
from harness.strategies.choosing import ESCALATION, escalation

__all__ = ["Escalate", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A strategy, and who answers for it."""

    strategy: Strategy
    sampler: Sampler | None = None
    """`None` takes the one that `solve` is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """Steps from cheap to dear."""

    steps: tuple[Step, ...]
    accept: float = 1.0
    """The least score that ends it: 1 for every visible test."""
    name: str = "escalate"

    def __post_init__(self) -> None:
        if len(self.steps) < 2:
            raise UsageError(f"{self.name}: {len(self.steps)} steps; give a cheap one and a dearer one")

    async def solve(
        self,
        question: Question,
        sampler: Sampler,
        budget: Budget,
        verifier: Verifier | None = None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """Take steps until an answer is accepted or the budget is spent; see `Strategy.solve`."""
        if verifier is None:
            raise UsageError(f"{self.name}: no verifier to accept by; give VisibleTests or LogProb")
        account = _Account(question, budget, verifier, seed, self.accept)
        for step in self.steps:
            left = account.left()
            if left is None:
                break
            solver = step.sampler or sampler
            account.add(await step.strategy.solve(question, solver, left, verifier, seed=account.next_seed))
            if account.is_accepted:
                break
        return account.outcome(self.name)


class _Account:
    """The steps so far, as one outcome."""

    def __init__(
        self, question: Question, budget: Budget, verifier: Verifier, seed: int, accept: float
    ) -> None:
        self.question, self.budget, self.verifier, self.accept = question, budget, verifier, accept
        self.next_seed = seed
        self._taken: list[Outcome] = []
        self._candidates: list[Candidate] = []
        self._calls: list[Call] = []
        self._failures: list[Failure] = []
        self._steps: list[StepChoice] = []
        self._verify_s = 0.0
        self._stopped: str | None = None
        self._began_s = now_s()

    @property
    def is_accepted(self) -> bool:
        """Whether the last step's choice scores enough."""
        place = self._steps[-1].chosen
        score = None if place is None else self._candidates[place].score
        return score is not None and score >= self.accept

    def left(self) -> Budget | None:
        """The budget of the next step; `None` when nothing is left."""
        tokens, seconds = self.budget.tokens, self.budget.seconds
        if tokens is not None:
            tokens -= sum(call.charged_tokens(self.question.max_tokens) for call in self._calls)
        if seconds is not None:
            seconds -= now_s() - self._began_s
        for name, value in (("tokens", tokens), ("seconds", seconds)):
            if value is not None and value <= 0:
                self._stopped = name
                return None
        return Budget(tokens=tokens, seconds=seconds)

    def add(self, taken: Outcome) -> None:
        """Take a step's outcome in; a choice that it did not score is scored here."""
        first, num_calls = len(self._candidates), len(self._calls)
        self._candidates += [replace(one, call=one.call + num_calls) for one in taken.candidates]
        chosen = None if taken.chosen is None else first + taken.chosen
        if chosen is not None and self._candidates[chosen].score is None:
            began_s = now_s()
            score = self.verifier.score(self.question, self._candidates[chosen])
            self._candidates[chosen] = replace(self._candidates[chosen], score=score)
            self._verify_s += now_s() - began_s
        self._steps.append(
            StepChoice(taken.strategy, taken.rule, first, len(self._candidates), chosen),
        )
        self._calls += taken.calls
        self._failures += taken.failures
        self._stopped = taken.stopped
        self.next_seed += sum(call.num for call in taken.calls)
        self._taken.append(taken)

    def outcome(self, strategy: str) -> Outcome:
        """All steps as one."""
        return Outcome(
            strategy=strategy,
            question=self.question.id,
            candidates=tuple(self._candidates),
            chosen=escalation(self._candidates, self._steps, self.accept),
            rule=ESCALATION,
            calls=tuple(self._calls),
            failures=tuple(self._failures),
            began_s=self._began_s,
            done_s=now_s(),
            sample_s=sum(taken.sample_s for taken in self._taken),
            verify_s=self._verify_s + sum(taken.verify_s for taken in self._taken),
            stopped=self._stopped,
            steps=tuple(self._steps),
            accept=self.accept,
        )
