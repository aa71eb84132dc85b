"""What is believed of the models before anything is measured: by row of a fleet, or made worse on purpose.

A router is only as good as its priors. To see how much of a result is owed to them they are degraded by seed:
noise on each of them, or a shuffle of models within a type, so that the priors are wrong but as spread as
before. Degraded priors are what the routers are told; what is true of the models stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.errors import UsageError
from harness.routers.planning.published import BYTES_PER_GB, FleetRow, ModelRow
from harness.workflow.jobs.graph import TASK_TYPES

__all__ = ["ModelPrior", "Weights", "noisy", "priors_of", "shuffled", "weights_of"]

MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrior:
    """One model, as believed.

    Raises
    ------
    UsageError: a quality is not within 0 to 1 or of an unknown type, or a cost or load time is negative.
    """

    name: str
    quality: Mapping[str, float]
    """by task type, at difficulty 1"""
    cost_per_ktoken: float
    """in units of quality, before `lambda_token`"""
    load_s: float | None = None
    """None: not known until measured"""

    def __post_init__(self) -> None:
        for kind, value in self.quality.items():
            if kind not in TASK_TYPES or not 0 <= value <= 1:
                raise UsageError(
                    f"{self.name}: prior of {kind} is {value}; give 0 to 1 for {', '.join(TASK_TYPES)}"
                )
        if not self.cost_per_ktoken >= 0 or (self.load_s is not None and not self.load_s >= 0):
            raise UsageError(
                f"{self.name}: cost {self.cost_per_ktoken}, load {self.load_s} s; give both ≥ 0, or no load"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How quality, tokens and loads are weighed against each other.

        utility   = quality − lambda_token × cost_per_ktoken × tokens / 1000
        load_cost = lambda_switch × load_s / switch_s, or lambda_switch × bytes / switch_bytes

    Source of the form: seeds/routing.md §8; constants in harness/routers/planning/fleets.toml.
    """

    lambda_token: float
    lambda_switch: float
    difficulty_slope: float
    """quality lost per unit of difficulty above 1"""
    switch_s: float | None = None
    """seconds of loading that cost `lambda_switch`"""
    switch_bytes: float | None = None
    """bytes that do, where a load is counted by size and not by time"""
    num_tokens: Mapping[str, int] | None = None
    """by task type, in the place of the tasks' own estimates"""

    def __post_init__(self) -> None:
        if (self.switch_s is None) == (self.switch_bytes is None):
            raise UsageError("weights: give one of switch_s and switch_bytes")
        if not min(self.lambda_token, self.lambda_switch, self.difficulty_slope) >= 0:
            raise UsageError(f"weights {self}: give numbers ≥ 0")
        if not (self.switch_s or self.switch_bytes or 0) > 0:
            raise UsageError(f"weights {self}: give a switch above 0")


def priors_of(models: Sequence[ModelRow]) -> tuple[ModelPrior, ...]:
    """The rows of a fleet as priors; names without the fleet's."""
    return tuple(
        ModelPrior(
            name=row.name.partition("/")[2],
            quality={
                kind: value for kind in TASK_TYPES if (value := getattr(row.priors, kind, None)) is not None
            },
            cost_per_ktoken=row.cost_per_ktoken,
            load_s=None if row.load_ms is None else row.load_ms / MS_PER_S,
        )
        for row in models
    )


def weights_of(row: FleetRow) -> Weights:
    """The weights of a fleet."""
    kinds = () if row.tokens is None else row.tokens.__slots__
    return Weights(
        lambda_token=row.lambda_token,
        lambda_switch=row.lambda_switch,
        difficulty_slope=row.difficulty_slope,
        switch_s=None if row.switch_ms is None else row.switch_ms / MS_PER_S,
        switch_bytes=None if row.switch_gb is None else row.switch_gb * BYTES_PER_GB,
        num_tokens={kind: getattr(row.tokens, kind) for kind in kinds} or None,
    )


def noisy(priors: Sequence[ModelPrior], deviation: float, *, seed: int) -> tuple[ModelPrior, ...]:
    """The same with normal noise on every quality, cut to 0 to 1.

    deviation: standard deviation of the noise. With one seed the noise only grows with it: no other numbers
    are drawn.

    Raises
    ------
    UsageError: the deviation is negative.
    """
    if not deviation >= 0:
        raise UsageError(f"noise of {deviation}; give a standard deviation ≥ 0")

    def worse(prior: ModelPrior, kind: str) -> float:
        drawn = random.Random(repr((seed, prior.name, kind))).gauss(0, 1)
        return min(1.0, max(0.0, prior.quality[kind] + deviation * drawn))

    return tuple(
        replace(prior, quality={kind: worse(prior, kind) for kind in prior.quality}) for prior in priors
    )


def shuffled(priors: Sequence[ModelPrior], share: float, *, seed: int) -> tuple[ModelPrior, ...]:
    """The same with the qualities of some types dealt out anew among the models that have one.

    share: of the types, 0 to 1; at 1 every type is shuffled, each by itself. With one seed the types of a
    smaller share are among those of a larger one.

    Raises
    ------
    UsageError: the share is not within 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"share {share} of types to shuffle; give 0 to 1")
    kinds = sorted({kind for prior in priors for kind in prior.quality})
    random.Random(repr((seed, "order"))).shuffle(kinds)
    qualities = {prior.name: dict(prior.quality) for prior in priors}
    for kind in kinds[: round(share * len(kinds))]:
        having = sorted(name for name, quality in qualities.items() if kind in quality)
        values = [qualities[name][kind] for name in having]
        random.Random(repr((seed, kind))).shuffle(values)
        for name, value in zip(having, values, strict=True):
            qualities[name][kind] = value
    return tuple(replace(prior, quality=qualities[prior.name]) for prior in priors)
