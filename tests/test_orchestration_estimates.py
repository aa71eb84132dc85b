"""Estimates give planners the published numbers, and learn from grades by the stated rule alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError, WorkloadError
from harness.routers.orchestration import (
    Estimates,
    ModelPrior,
    Weights,
    noisy,
    priors_of,
    shuffled,
    weights_of,
)
from harness.routers.orchestration.loadable import SimulatedModel
from harness.routers.planning import fleet, jobs, problem_of
from harness.workflow.jobs import TaskNode
from tests.orchestrated import TYPES, WEIGHTS, prior

FLEETS = ("agents_heavy", "fitted")


def task(kind: str = "code", difficulty: float = 1.0) -> TaskNode:
    return TaskNode(id="s0", type=kind, difficulty=difficulty, num_tokens=200)


@pytest.mark.parametrize("name", FLEETS)
def test_published_fleets_give_the_published_problems(name: str) -> None:
    """To the last digit what planning the constants alone gives, so that live and pure plans are the same."""
    row, models = fleet(name)
    estimates = Estimates(priors_of(models), weights_of(row))
    for graph in jobs():
        pure = problem_of(graph, row, models)
        sizes = dict(zip(pure.fleet.models, pure.fleet.size_bytes, strict=True))
        ours = estimates.problem(
            graph.tasks, sizes, pure.fleet.budget_bytes, layers=graph.layers(), edges=graph.indexed_edges()
        )
        assert ours.fleet == pure.fleet
        assert np.array_equal(ours.micro, pure.micro)
        assert ours.load_micro == pure.load_micro


@given(
    scores=st.lists(st.tuples(st.floats(0, 1), st.floats(1, 5)), max_size=30),
    strength=st.floats(0.5, 50),
)
def test_quality_is_the_mean_of_the_prior_and_the_grades(
    scores: list[tuple[float, float]], strength: float
) -> None:
    """The prior counts as so many grades; a grade at a difficulty counts with the slope added back."""
    estimates = Estimates((prior("a", code=0.6),), WEIGHTS, is_frozen=False, prior_strength=strength)
    for score, difficulty in scores:
        estimates.learn_grade("a", task(difficulty=difficulty), score)
    total = 0.6 * strength + sum(score + 0.06 * (difficulty - 1) for score, difficulty in scores)
    assert estimates.snapshot()["a"]["code"] == pytest.approx(total / (strength + len(scores)))
    assert estimates.snapshot()["a"]["math"] == 0.5
    assert 0 <= estimates.quality("a", "code", 3.0) <= 1


def test_many_grades_overcome_a_wrong_prior() -> None:
    """A model that is believed bad and is right nine times out of ten is found out."""
    estimates = Estimates((prior("a", code=0.1),), WEIGHTS, is_frozen=False)
    for number in range(200):
        estimates.learn_grade("a", task(difficulty=2.0), float(number % 10 != 0))
    assert estimates.quality("a", "code", 2.0) == pytest.approx(0.9, abs=0.05)


def test_the_first_measured_load_replaces_the_prior_and_later_ones_join_by_half() -> None:
    """The prior is of other hardware; absent times, of engines that stay up, teach nothing."""
    estimates = Estimates((prior("a", load_s=0.1), prior("b", load_s=None)), WEIGHTS)
    estimates.learn_load("a", None)
    assert estimates.load_s("a") == 0.1
    for measured, known in ((3.0, 3.0), (1.0, 2.0), (2.0, 2.0)):
        estimates.learn_load("a", measured)
        assert estimates.load_s("a") == known
    assert estimates.load_cost("a", 1) == pytest.approx(0.2 * 2.0 / 1.5)
    assert estimates.load_s("b") is None
    with pytest.raises(UsageError, match="b: its load time is not known"):
        estimates.load_cost("b", 1)


def test_noise_grows_with_its_deviation_and_keeps_its_direction() -> None:
    """One seed gives one direction for each prior, so that a sweep changes one thing."""
    priors = priors_of(fleet("agents_heavy")[1])
    assert noisy(priors, 0.0, seed=1) == priors
    little, much = noisy(priors, 0.05, seed=1), noisy(priors, 0.1, seed=1)
    assert noisy(priors, 0.05, seed=1) == little != noisy(priors, 0.05, seed=2)
    for true, near, far in zip(priors, little, much, strict=True):
        for kind, value in true.quality.items():
            assert 0 <= far.quality[kind] <= 1
            assert abs(near.quality[kind] - value) <= abs(far.quality[kind] - value)


def test_shuffling_deals_the_same_qualities_to_other_models() -> None:
    """Within a type, and for as many types as asked; a smaller share's types are among a larger one's."""
    priors = priors_of(fleet("agents_heavy")[1])
    assert shuffled(priors, 0.0, seed=1) == priors
    changed = []
    for share in (0.5, 1.0):
        worse = shuffled(priors, share, seed=1)
        kinds = set()
        for kind in priors[0].quality:
            values = [each.quality[kind] for each in priors]
            dealt = [each.quality[kind] for each in worse]
            assert sorted(values) == sorted(dealt)
            kinds |= {kind} if values != dealt else set()
        changed.append(kinds)
    assert set() < changed[0] < changed[1]


def test_wrong_numbers_are_refused() -> None:
    """Each with what to give instead."""
    for quality in ({"code": 1.5}, {"code": float("nan")}, {"cooking": 0.5}):
        with pytest.raises(UsageError, match="give 0 to 1"):
            ModelPrior(name="a", quality=quality, cost_per_ktoken=0)
    with pytest.raises(UsageError, match="give both ≥ 0"):
        ModelPrior(name="a", quality={}, cost_per_ktoken=-1)
    for switch in ({}, {"switch_s": 1.0, "switch_bytes": 1.0}):
        with pytest.raises(UsageError, match="one of switch_s and switch_bytes"):
            Weights(lambda_token=0, lambda_switch=0, difficulty_slope=0, **switch)
    for weights in ({"switch_s": 0.0}, {"switch_s": 1.0, "lambda_token": -1}):
        with pytest.raises(UsageError, match="weights"):
            Weights(**{"lambda_token": 0, "lambda_switch": 0, "difficulty_slope": 0} | weights)
    for priors in ((), (prior("a"), prior("a"))):
        with pytest.raises(UsageError, match="each once"):
            Estimates(priors, WEIGHTS)
    with pytest.raises(UsageError, match="above 0"):
        Estimates((prior("a"),), WEIGHTS, prior_strength=0)
    estimates = Estimates((prior("a"),), WEIGHTS)
    with pytest.raises(UsageError, match="no prior of model 'z'; use a"):
        estimates.quality("z", "code", 1.0)
    with pytest.raises(WorkloadError, match="a: no prior for tasks of type 'creative'"):
        estimates.quality("a", "creative", 1.0)
    with pytest.raises(UsageError, match="noise of -1"):
        noisy((prior("a"),), -1, seed=0)
    with pytest.raises(UsageError, match="share 2"):
        shuffled((prior("a"),), 2, seed=0)


def test_a_published_model_is_simulated_with_its_own_size_and_load_time() -> None:
    """Tokens come from the device's bandwidth: one reading of the weights each."""
    model = SimulatedModel.published(fleet("agents_heavy")[1][0])
    assert (model.name, model.num_bytes, model.load_s) == ("gemma2:2b", 2 * 10**9, 0.6)
    assert model.timing.read_s == pytest.approx(2e9 / 1.008e12)
    assert set(TYPES) < set(priors_of(fleet("agents_heavy")[1])[0].quality)
