"""What planners are told: the quality of each model at each task, less tokens, and what a load costs.

Quality is learned from grades, and from nothing else: an answer without an error is no evidence (the origin
counted it as one). The rule is that of a Beta prior worth `prior_strength` graded answers:

    base(model, type) = (n₀·prior + Σ (score + slope·max(0, difficulty − 1))) / (n₀ + number of grades)
    quality           = clamp(base − slope·max(0, difficulty − 1), 0, 1)

so a grade at a difficulty counts as evidence of the quality at difficulty 1, by the same slope by which
quality is read back. Frozen estimates keep their priors.

Load times are learned always, since they are measured and not judged: the first measurement replaces the
prior (which is of other hardware: the origin's were 20 to 30 times too small), later ones join by
`load_s ← load_s + ½·(measured − load_s)`. A model whose engine stays up has no load time and keeps its prior.

Trap: learned load times make plans depend on the machine's moods. Where one plan is to be had from one seed,
use simulated or kept models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UsageError, WorkloadError
from harness.routers.orchestration.priors import ModelPrior, Weights
from harness.routers.planning.base import Fleet, Problem
from harness.workflow.jobs.graph import TaskNode

__all__ = ["Estimates"]

LOAD_STEP = 0.5
PRIOR_STRENGTH = 8.0


@dataclass(slots=True)
class _Belief:
    """A mean and how many grades it is worth."""

    mean: float
    weight: float

    def add(self, value: float) -> None:
        self.weight += 1
        self.mean += (value - self.mean) / self.weight


class Estimates:
    """Beliefs about the models that tasks are routed to."""

    def __init__(
        self,
        priors: Sequence[ModelPrior],
        weights: Weights,
        *,
        is_frozen: bool = True,
        prior_strength: float = PRIOR_STRENGTH,
    ) -> None:
        """Begin with the priors.

        Parameters
        ----------
        is_frozen: whether grades change nothing.
        prior_strength: graded answers that a prior is worth.

        Raises
        ------
        UsageError: no model, two of one name, or a strength that is not positive.
        """
        self.priors = {prior.name: prior for prior in priors}
        if not priors or len(self.priors) < len(priors):
            raise UsageError(f"priors of {[p.name for p in priors]}: give at least one model, each once")
        if not prior_strength > 0:
            raise UsageError(f"prior strength {prior_strength}; give a number of answers above 0")
        self.weights = weights
        self.is_frozen = is_frozen
        self._quality = {
            (prior.name, kind): _Belief(mean, prior_strength)
            for prior in priors
            for kind, mean in prior.quality.items()
        }
        self._load_s: dict[str, float] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """Models that tasks are routed to."""
        return tuple(self.priors)

    def quality(self, model: str, kind: str, difficulty: float) -> float:
        """Expected score, 0 to 1.

        Raises
        ------
        WorkloadError: the model has no prior for the type.
        """
        return min(1.0, max(0.0, self._belief(model, kind).mean - self._handicap(difficulty)))

    def utility(self, model: str, task: TaskNode) -> float:
        """Expected score less the cost of the task's tokens."""
        num_tokens = (self.weights.num_tokens or {}).get(task.type, task.num_tokens)
        cost = self.weights.lambda_token * self._prior(model).cost_per_ktoken * num_tokens / 1000
        return self.quality(model, task.type, task.difficulty) - cost

    def load_s(self, model: str) -> float | None:
        """Expected seconds of a load, measured or else believed; None where nothing is known."""
        return self._load_s.get(model, self._prior(model).load_s)

    def load_cost(self, model: str, size_bytes: int) -> float:
        """What a load costs, in units of quality.

        Raises
        ------
        UsageError: loads count by time, and the model's is not known.
        """
        if self.weights.switch_bytes is not None:
            return self.weights.lambda_switch * size_bytes / self.weights.switch_bytes
        load_s = self.load_s(model)
        if load_s is None or self.weights.switch_s is None:
            raise UsageError(f"{model}: its load time is not known; give its prior a load_s, or load it once")
        return self.weights.lambda_switch * load_s / self.weights.switch_s

    def token_cost(self, model: str, num_tokens: int | None) -> float | None:
        """What tokens cost, in units of quality before `lambda_token`; None where they were not counted."""
        return None if num_tokens is None else self._prior(model).cost_per_ktoken * num_tokens / 1000

    def learn_load(self, model: str, load_s: float | None) -> None:
        """Take a measured load time; None, of an engine that stays up, teaches nothing."""
        if load_s is None or model not in self.priors:
            return
        known = self._load_s.get(model, load_s)
        self._load_s[model] = known + LOAD_STEP * (load_s - known)

    def learn_grade(self, model: str, task: TaskNode, score: float) -> None:
        """Take the grade of an answer, 0 to 1; frozen estimates ignore it."""
        if not self.is_frozen:
            self._belief(model, task.type).add(score + self._handicap(task.difficulty))

    def problem(
        self,
        tasks: Sequence[TaskNode],
        sizes: Mapping[str, int],
        budget_bytes: int,
        *,
        resident: Sequence[str] = (),
        layers: tuple[tuple[int, ...], ...] = (),
        edges: tuple[tuple[int, int], ...] = (),
        has_more: bool = False,
    ) -> Problem:
        """Some tasks as a planning problem.

        sizes: bytes by model. resident: models that are loaded; others than ours are left out. has_more:
        whether work follows that is not among the tasks.

        Raises
        ------
        BudgetError: no model fits. WorkloadError: a model has no prior for a task's type.
        UsageError: a load time is not known.
        """
        models = self.models
        return Problem(
            fleet=Fleet(
                models=models,
                size_bytes=tuple(sizes[model] for model in models),
                budget_bytes=budget_bytes,
            ),
            utility=np.array([[self.utility(model, task) for model in models] for task in tasks]),
            load_cost=tuple(self.load_cost(model, sizes[model]) for model in models),
            resident=frozenset(models.index(name) for name in resident if name in self.priors),
            layers=layers,
            edges=edges,
            has_more=has_more,
        )

    def snapshot(self) -> dict[str, dict[str, float]]:
        """model → type → quality at difficulty 1, as believed now."""
        return {
            name: {kind: self._belief(name, kind).mean for kind in prior.quality}
            for name, prior in self.priors.items()
        }

    def _prior(self, model: str) -> ModelPrior:
        if model not in self.priors:
            raise UsageError(f"no prior of model {model!r}; use {', '.join(self.priors)}")
        return self.priors[model]

    def _belief(self, model: str, kind: str) -> _Belief:
        self._prior(model)
        if (model, kind) not in self._quality:
            raise WorkloadError(f"{model}: no prior for tasks of type {kind!r}; add it to the fleet's row")
        return self._quality[model, kind]

    def _handicap(self, difficulty: float) -> float:
        return self.weights.difficulty_slope * max(0.0, difficulty - 1)
