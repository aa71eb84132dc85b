"""Test-time strategies: what to do with more than one answer to a question.

===================  ===================  =================================================================
module               class                spends
===================  ===================  =================================================================
`single`             `Single`             one greedy answer
`reread`             `Reread`             one answer to the question given twice
`diverse`            `Diverse`            one answer per temperature of a ladder
`best_of_n`          `BestOfN`            n answers, and a verifier that scores them
`self_consistency`   `SelfConsistency`    n answers, and their vote
`escalate`           `Escalate`           a cheap step first, the next where its answer scores too low
===================  ===================  =================================================================

`base` is what they share: question, budget, candidate, outcome. `sampler` draws from a backend, `solving`
keeps the account of one question, `choosing` holds the rules, `verifiers` the scores that a strategy may see,
`answers` the form in which answers are compared, `estimators` what can be said of n samples.
"""

from __future__ import annotations

from harness.strategies.base import (
    Budget,
    Call,
    Candidate,
    Failure,
    Outcome,
    Question,
    Reply,
    Sampler,
    StepChoice,
    Strategy,
    Verifier,
)
from harness.strategies.best_of_n import BestOfN
from harness.strategies.choosing import rechosen
from harness.strategies.diverse import Diverse
from harness.strategies.escalate import Escalate, Step
from harness.strategies.reread import Reread
from harness.strategies.sampler import BackendSampler
from harness.strategies.self_consistency import SelfConsistency
from harness.strategies.single import Single
from harness.strategies.verifiers import LogProb, VisibleTests

__all__ = [
    "BackendSampler",
    "BestOfN",
    "Budget",
    "Call",
    "Candidate",
    "Diverse",
    "Escalate",
    "Failure",
    "LogProb",
    "Outcome",
    "Question",
    "Reply",
    "Reread",
    "Sampler",
    "SelfConsistency",
    "Single",
    "Step",
    "StepChoice",
    "Strategy",
    "Verifier",
    "VisibleTests",
    "rechosen",
]
