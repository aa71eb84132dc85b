"""The quality-aware cascade: small first, large when the answer looks wrong.

The published cascade fixes the model by stage. A cascade in the older sense (FrugalGPT, Chen et al. 2023,
§3; "Cascade Routing", Dekoninck et al. 2024) fixes it by answer: ask the small model, score the answer, defer
to the large one below a threshold. Two scorers are used here, neither of which sees a hidden test:

- the visible tests, on the stage that is graded as code;
- confidence, the smallest log-probability of an output token, on stages where the engine reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.backends.base import Completion
from harness.routers.base import LARGE, SMALL
from harness.workflow.workload import StageSpec, Task

__all__ = ["EscalatingRouter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalatingRouter:
    """Small first; large when a visible test fails or the least confident token is too unlikely."""

    passes: Callable[[str, Sequence[str]], bool]
    """Whether a source passes every one of the given tests (`CodeGrader`, on visible tests only)."""
    min_logprob: float | None = None
    """Defer a text stage whose least likely token is below this; `None` switches confidence off."""
    name: str = "escalate"

    @property
    def wants_logprobs(self) -> bool:
        """Confidence needs log-probabilities."""
        return self.min_logprob is not None

    def route(self, task: Task, stage: StageSpec) -> str:
        """Always the small model first."""
        return SMALL

    def review(
        self, task: Task, stage: StageSpec, role: str, completion: Completion, output: str
    ) -> str | None:
        """Large when a small answer fails its scorer."""
        if role == LARGE:
            return None
        if stage.grade == "code" and not self.passes(output, task.visible_tests):
            return LARGE
        logprobs = completion.token_logprobs
        if self.min_logprob is not None and logprobs and min(logprobs) < self.min_logprob:
            return LARGE
        return None
