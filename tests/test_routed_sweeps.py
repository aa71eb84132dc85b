"""Each sweep changes what it names and nothing else, at values that every fleet can run."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fixtures.fleets import FLEETS, PLANNER, role_of
from fixtures.jobs import Beliefs
from fixtures.nodes import POCKET, load_node
from fixtures.routers import ROUTERS
from fixtures.sweeps import LEADING, SWEEPS, Setting, job_scores, leads, point
from harness.backends import parse_backend
from harness.routers.orchestration.loadable import EmbeddedModel
from harness.routers.orchestration.priors import priors_of, weights_of
from harness.routers.planning.published import fleet
from tests.routed_runs import GB, SIZES, chain_run, ran

FLEET_NAMES = sorted(set(FLEETS.values()))


def base_of(name: str) -> Setting:
    row, models = fleet(name)
    beliefs = Beliefs(priors=priors_of(models), weights=weights_of(row))
    return Setting(beliefs=beliefs, budget_bytes=round(row.budget_gb * GB))


def flattened(setting: Setting) -> dict[str, object]:
    """Everything that routers are told, by name."""
    weights = setting.beliefs.weights
    return {
        "budget_bytes": setting.budget_bytes,
        "models": tuple(prior.name for prior in setting.beliefs.priors),
        "quality": {p.name: dict(p.quality) for p in setting.beliefs.priors},
        "costs": {p.name: (p.cost_per_ktoken, p.load_s) for p in setting.beliefs.priors},
        **{name: getattr(weights, name) for name in weights.__slots__},
    }


@pytest.mark.parametrize("fleet_name", FLEET_NAMES)
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lambda_token", {"lambda_token"}),
        ("lambda_switch", {"lambda_switch"}),
        ("budget", {"budget_bytes"}),
        ("num_models", {"models", "quality", "costs"}),
        ("prior_quality", {"quality"}),
    ],
)
def test_a_sweep_changes_what_it_names_alone(fleet_name: str, name: str, changes: set[str]) -> None:
    """At its fleet's own value it changes nothing, elsewhere just that."""
    base = base_of(fleet_name)
    own = {"budget": 1.0, "num_models": len(base.beliefs.priors), "prior_quality": 1.0}
    own_value = own.get(name, getattr(base.beliefs.weights, name, None))
    before = flattened(base)
    for value in SWEEPS[name].values:
        after = flattened(SWEEPS[name].at(base, value, 0))
        changed = {key for key in before if before[key] != after[key]}
        assert changed == (set() if value == own_value else changes), value
    assert own_value in SWEEPS[name].values
    assert flattened(base) == before


@pytest.mark.parametrize("name", ["lambda_token", "lambda_switch"])
def test_a_weight_is_the_value_itself(name: str) -> None:
    """Not a multiple of the fleet's."""
    for value in SWEEPS[name].values:
        assert getattr(SWEEPS[name].at(base_of("pocket"), value, 0).beliefs.weights, name) == value


def test_fewer_models_are_the_first_of_the_fleet() -> None:
    """As they were, in the order of their rows; as many as the value says."""
    base = base_of("agents_heavy")
    for value in SWEEPS["num_models"].values:
        assert SWEEPS["num_models"].at(base, value, 0).beliefs.priors == base.beliefs.priors[: int(value)]


@pytest.mark.parametrize("fleet_name", FLEET_NAMES)
def test_worse_priors_deal_out_the_same_numbers_anew(fleet_name: str) -> None:
    """A type's qualities stay, their models change: more of them, the lower the value, over all draws."""
    sweep, own = SWEEPS["prior_quality"], base_of(fleet_name).beliefs.priors
    kinds = own[0].quality.keys()
    moved = []
    for value in sorted(sweep.values, reverse=True):
        moved.append(0)
        for draw in range(sweep.num_draws):
            priors = sweep.at(base_of(fleet_name), value, draw).beliefs.priors
            pairs = list(zip(own, priors, strict=True))
            changed = [kind for kind in kinds if any(a.quality[kind] != b.quality[kind] for a, b in pairs)]
            for kind in kinds:
                assert sorted(a.quality[kind] for a, _ in pairs) == sorted(b.quality[kind] for _, b in pairs)
            assert len(changed) <= round((1 - value) * len(kinds))
            moved[-1] += sum(a.quality[kind] != b.quality[kind] for a, b in pairs for kind in kinds)
    assert moved[0] == 0
    assert all(less < more for less, more in pairwise(moved))


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_only_drawn_sweeps_differ_by_draw(name: str) -> None:
    """Where a value is one setting, it is run once."""
    sweep, base = SWEEPS[name], base_of("agents_heavy")
    settings = [sweep.at(base, min(sweep.values), draw) for draw in range(max(2, sweep.num_draws))]
    assert any(setting != settings[0] for setting in settings) == (sweep.num_draws > 1)


@pytest.mark.parametrize("profile", sorted(FLEETS))
def test_the_smallest_budget_and_the_fewest_models_still_run(profile: str) -> None:
    """The smallest model fits, the asked model fits, and one of the models that are left does."""
    row, models = fleet(FLEETS[profile])
    gb = {model.name.partition("/")[2]: model.gb for model in models}
    least_gb = min(SWEEPS["budget"].values) * row.budget_gb
    assert min(gb.values()) <= least_gb
    if profile == "pocket":
        planner = EmbeddedModel(f"{PLANNER}={POCKET[PLANNER]}")
        assert planner.num_bytes <= least_gb * GB
        for name, size in gb.items():  # as told, so engines take
            assert EmbeddedModel(f"{name}={POCKET[role_of(name)]}").num_bytes == round(size * GB)
    elif profile == "node":
        spec = load_node("seed")[PLANNER].spec
        assert gb[spec.model or ""] <= least_gb
        assert parse_backend(f"{PLANNER}=ollama:///{spec.model}").model == spec.model
    first = list(gb.values())[: int(min(SWEEPS["num_models"].values))]
    assert min(first) <= row.budget_gb
    assert max(SWEEPS["num_models"].values) == len(models)


def test_swept_routers_are_variants_and_the_leading_one_is_swept() -> None:
    """Each by its name; the model that is asked comes last, whose record it is."""
    for sweep in SWEEPS.values():
        assert set(sweep.routers) <= {*ROUTERS, PLANNER}
        assert LEADING in sweep.routers
        assert sweep.routers[-1] == PLANNER


def test_a_point_is_the_mean_over_jobs_with_its_interval() -> None:
    """Loads and cost by job, violations by step; a job that was not graded as a whole is no unit."""
    runs = [chain_run(scores=scores) for scores in ((1.0, 0.5, 0.0), (1.0, 1.0, 0.4), (1.0, None, 1.0))]
    found = point("lp", 0.5, [ran(*runs)])
    assert (found["planner"], found["along"], found["jobs"], found["draws"]) == ("lp", 0.5, 2, 1)
    assert found["score"] == pytest.approx(0.65)
    assert found["score_low"] < 0.65 < found["score_high"]
    assert (found["violating_share"], found["loads"], found["token_cost"]) == (0.0, 0.0, 1.5)


def test_a_point_of_several_draws_is_the_mean_over_draws() -> None:
    """However many jobs each has: the draw is the unit."""
    same, other = chain_run(scores=(1.0, 1.0, 1.0)), chain_run(scores=(0.0, 0.0, 0.6))
    found = point("lp", 0.5, [ran(same, same), ran(other, other)])
    assert (found["score"], found["draws"]) == (pytest.approx(0.6), 2)
    assert found["score_low"] < 0.2 < 1.0 < found["score_high"]


def test_a_point_without_grades_or_costs_has_none() -> None:
    """One score has a mean and no interval."""
    bare = chain_run(scores=(None, None, None), planner_token_cost=None)
    found = point("lp", 0.0, [ran(bare)])
    assert (found["score"], found["score_low"], found["token_cost"], found["jobs"]) == (None, None, None, 0)
    single = point("lp", 0.0, [ran(chain_run())])
    assert (single["score"], single["score_low"], single["jobs"]) == (1.0, None, 1)


def test_a_lead_is_over_the_asked_model_job_by_job() -> None:
    """Memory is that of the models that answered; a job that failed has none, and no lead."""
    mine = chain_run(("big", "big", "small"), (1.0, 1.0, 0.4))
    (found,) = leads(2.0, [ran(mine)], [ran(chain_run(scores=(0.5, 0.5, 0.5)))])
    assert found["lp_lead"] == pytest.approx(0.3)
    assert found["lp_model_gb"] == pytest.approx((2 * SIZES["big"] + SIZES["small"]) / 3 / GB)
    broken = chain_run(error="loading big: no")
    for step in broken.steps:
        step.tasks = ()
    (found,) = leads(2.0, [ran(broken)], [ran(mine)])
    assert (found["lp_score"], found["lp_lead"], found["lp_model_gb"]) == (None, None, None)


def test_leads_and_jobs_of_several_draws_are_means() -> None:
    """A lead per draw over its jobs, a score per job over its draws; one that failed makes it absent."""
    good, bad = chain_run(), chain_run(scores=(0.0, 0.0, 0.0))
    mine, theirs = [ran(good, bad), ran(good, good)], [ran(bad, bad), ran(bad, good)]
    found = leads(0.5, mine, theirs)
    assert [(row["draw"], row["lp_lead"]) for row in found] == [(0, 0.5), (1, 0.5)]
    jobs = [(row["arm"], row["score"]) for row in job_scores(mine, theirs)]
    assert jobs == [("treatment", 1.0), ("treatment", 0.5), ("control", 0.0), ("control", 0.5)]
    failed = ran(good, chain_run(scores=(1.0, None, 1.0)))
    assert [row["score"] for row in job_scores([mine[0], failed], theirs)][:2] == [1.0, None]
    assert leads(0.5, [mine[0], failed], theirs)[1]["lp_lead"] is None
