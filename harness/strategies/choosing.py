"""The rules by which an answer is chosen, as functions of the candidates alone, so that they can be redone.

Candidates stand in the order in which they were drawn, and that order breaks every tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from harness.strategies.base import Candidate, Outcome, StepChoice

__all__ = ["ESCALATION", "RULES", "Rule", "best_score", "escalation", "first", "majority", "rechosen"]

ESCALATION = "escalation"

Rule = Callable[[Sequence[Candidate]], int | None]
"""Candidates in the order drawn → the chosen one's place; `None` when none can be chosen."""


def first(candidates: Sequence[Candidate]) -> int | None:
    """The first one drawn."""
    return 0 if candidates else None


def best_score(candidates: Sequence[Candidate]) -> int | None:
    """The highest score; of equal ones the first drawn. One without a score is not chosen."""
    scored = [(-one.score, place) for place, one in enumerate(candidates) if one.score is not None]
    return min(scored)[1] if scored else None


def majority(candidates: Sequence[Candidate]) -> int | None:
    """The first to give the answer that most give; of answers equally often given, the first given.

    A text that gives no answer has no vote. Where none gives one, the first drawn is chosen.
    Source: Wang et al. 2022, arXiv 2203.11171, §2 (unweighted sum, their best with the normalized one).
    """
    votes = Counter(one.answer for one in candidates if one.answer is not None)
    if not votes:
        return first(candidates)
    most = max(votes.values())
    return next(
        place for place, one in enumerate(candidates) if one.answer is not None and votes[one.answer] == most
    )


def escalation(candidates: Sequence[Candidate], steps: Sequence[StepChoice], accept: float) -> int | None:
    """The first step's choice that scores `accept` or more; else the highest score, of equals the last one.

    A choice without a score is never accepted, and wins only where no step's choice has one.
    """
    chosen = [step.chosen for step in steps if step.chosen is not None]
    scores = {place: candidates[place].score for place in chosen}
    accepted = next((p for p in chosen if (score := scores[p]) is not None and score >= accept), None)
    if accepted is not None or not chosen:
        return accepted
    known = [(score, place) for place in chosen if (score := scores[place]) is not None]
    return max(known)[1] if known else chosen[-1]


def rechosen(outcome: Outcome) -> int | None:
    """What the stated rule chooses among an outcome's candidates, computed again from them alone."""
    if outcome.rule != ESCALATION:
        return RULES[outcome.rule](outcome.candidates)
    assert outcome.accept is not None, "an escalation says what it accepts"
    redone = []
    for step in outcome.steps:
        place = RULES[step.rule](outcome.candidates[step.first : step.end])
        redone.append(step._replace(chosen=None if place is None else step.first + place))
    return escalation(outcome.candidates, redone, outcome.accept)


RULES: Mapping[str, Rule] = {"first": first, "best score": best_score, "majority": majority}
