"""Agents' rows are whole, ask for what is recorded, and keep the published numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reports.claims import Claim, load, needed_variants
from reports.coverage import read_published
from reports.decisions.evidence import by_request
from reports.physics import bound
from reports.verdicts import Stored, judge
from tests.synthetic_agents import CHECKS, REQUESTS, ROUNDS, control_of, ran

BENCH = Path(__file__).parents[1] / "bench" / "claims"
CLAIMS = load(BENCH / "agents.toml")
BY_ID = {claim.id: claim for claim in CLAIMS}
POCKET = ["profile:pocket"]
RAY = ("ray-keepalive", "ray-serverless")
NAMED = re.compile(
    r"(ray-keepalive|ray-serverless|shared-recompute|shared|engine-prefix-cache)-\d+"
    r"|(shared|engine-prefix-cache)-prompt-512|shared-prompt-(256|1024)|curve-density|curve-prompt"
    r"|shared-32-rate|retention-[a-z-]+"
)
OF_RAY = {"ray-keepalive": "own_process", "ray-serverless": "fresh_process"}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_names_variants_that_there_are_with_the_control_that_they_have(claim: Claim) -> None:
    """What nothing is paired with is compared request by request, and only so."""
    assert all(NAMED.fullmatch(name) for name in needed_variants(claim))
    if claim.form != "monotone" and claim.quantity != "value" and claim.over == "rounds":
        assert claim.control == control_of(claim.treatment) is not None
    if claim.against is not None:
        assert claim.over == "requests"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_metrics_and_checks_that_its_variant_records(claim: Claim) -> None:
    """Own and fresh processes are Ray's, and so is nothing that a server counts as reused."""
    of_points = {"reason_over_reflect_ttft" if claim.treatment == "curve-prompt" else "step_total_s"}
    known = {"requests": REQUESTS, "sweep": of_points}.get(claim.over, ROUNDS | {"density_ratio"})
    assert set(claim.metrics) <= known
    assert ("density_ratio" in claim.metrics) == (claim.treatment == "curve-density")
    assert claim.provenance
    assert set(claim.provenance) <= CHECKS
    if claim.treatment.startswith(RAY):
        assert "reuse_counted" not in claim.provenance
    if found := set(claim.provenance) & set(OF_RAY.values()):
        assert found == {OF_RAY[claim.treatment.rpartition("-")[0]]}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_a_published_row_covers_a_statement_and_ours_a_threshold_of_its_own(claim: Claim) -> None:
    """Published ones ask for the machine that the source names, unless they say what an arm is."""
    assert bool(claim.covers) == (claim.scope is None)
    assert claim.id.startswith("pocket-") == (claim.scope == "pocket")
    anywhere = {
        *("no-reuse-no-faster-reflect", "no-reuse-no-faster-reflect-together", "reflect-sends-only-new"),
        *("session-is-reused", "keepalive-own-actor", "serverless-fresh-task", "serverless-cold-start"),
    }
    assert claim.id.startswith("node-") == (claim.scope == "node")
    if claim.scope == "pocket":
        assert claim.requires == ("profile:pocket", "model:llama-34m")
    elif claim.id in anywhere:
        assert claim.requires == ()
    else:
        assert "profile:node" in claim.requires
        assert any(need.startswith("device:") for need in claim.requires)
        assert ("device:cuda" in claim.requires) == (claim.scope == "node")
        assert any(need.startswith("model:llama-2-7b") for need in claim.requires)


def test_published_numbers_are_kept() -> None:
    """As the source has them, in our units."""
    published = {
        "reflect-ttft": (5.0, 20.0),
        "reflect-total": (5.0, 20.0),
        "reflect-ttft-20x": 20.0,
        "density-20x": 20.0,
        "keepalive-oom-fp16": 3.0,
        "serverless-5s": 5.0,
        "serverless-8s": 8.0,
        "shared-150ms": 0.15,
        "shared-200ms": 0.2,
        "shared-scales-to-32": 32.0,
        "latency-10x": 10.0,
    }
    assert {name: BY_ID[name].published for name in published} == published


def test_these_statements_are_impossible_whatever_runs() -> None:
    """Each shows its sum, and when it would be possible."""
    found = {v.id: v.reason for c in CLAIMS if (v := judge(c, [])).verdict == "impossible"}
    assert found.keys() == {
        *("reflect-ttft-20x", "reflect-ttft-h100", "reflect-total", "density-20x"),
        *("density-by-own-threshold", "keepalive-oom-fp16", "shared-150ms", "shared-200ms"),
        *("shared-200ms-h100", "latency-33x"),
    }
    assert "5× are possible from 739 tokens of prompt on" in found["reflect-ttft-h100"]
    assert "from 15,379 tokens of prompt on, beyond the model's 4,096" in found["reflect-total"]
    assert "⌊80 GB ÷ 13.58 GB⌋ = 5 with a model each: ≤ 6.4×" in found["density-20x"]
    assert "2 with a model each: ≤ 16×" in found["density-by-own-threshold"]
    assert "= 324 ms, weights alone" in found["shared-200ms"]
    assert "= 222 ms, weights, and keys and values of 32" in found["shared-200ms-h100"]
    assert "more than 26.7 GB" in found["keepalive-oom-fp16"]


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.floor], ids=lambda c: c.id)
def test_every_bound_is_computed_for_the_models_own_bytes(claim: Claim) -> None:
    """Llama-2-7B: with its embedding where memory is held, without where a token reads it."""
    inputs, params, embedding = claim.floor_inputs, 6_738_415_616, 32_000 * 4096
    kv_token, tokens = 32 * 2 * 4096 * 2, 72 + 50 + 32 + 50
    assert bound(claim.floor or "", inputs).arithmetic
    read = {2 * (params - embedding), 2 * (params - embedding) + 32 * kv_token * (72 + 25)}
    held = {2 * params, 4 * params}
    wanted = held if "capacity_bytes" in inputs else read
    assert any(inputs["weight_bytes"] == pytest.approx(size, rel=2e-4) for size in wanted)
    if "kv_bytes" in inputs:
        width = inputs["weight_bytes"] / params / 2
        assert inputs["kv_bytes"] == pytest.approx(kv_token * tokens * width, rel=1e-3)


def test_all_that_is_published_of_agents_stands_in_the_second_half_of_its_source() -> None:
    """85 names, from Ray's arms on."""
    found = [p.id for p in read_published(BENCH / "published_surface.csv") if p.experiment == "agents"]
    assert found == [f"surface-{number}" for number in range(346, 431)]


def decided_here() -> list[Claim]:
    """Our own rows, and those of the source that any machine decides."""
    return [c for c in CLAIMS if c.scope == "pocket" or not c.requires]


def stored_for(claim: Claim) -> list[Stored]:
    return [ran(name) for name in needed_variants(claim)]


@pytest.mark.parametrize("claim", decided_here(), ids=lambda c: c.id)
def test_our_own_rows_hold_where_only_arithmetic_does(claim: Claim) -> None:
    """Thresholds were derived from it; nothing was measured for this."""
    verdict = judge(claim, stored_for(claim), POCKET)
    assert verdict.verdict == "confirmed", verdict.reason
    assert verdict.not_against == claim.also_beats  # it computes the same, so that sessions gain nothing


@pytest.mark.parametrize("claim", decided_here(), ids=lambda c: c.id)
def test_they_can_fail(claim: Claim) -> None:
    """Where each number is on the other side, by far."""
    stored = stored_for(claim)
    seconds = claim.quantity == "ratio" and claim.form != "equivalent"  # a longer time is a smaller ratio
    upward = claim.form in ("at_most", "equivalent", "exact") or seconds
    (record,) = [s.record for s in stored if s.nodeid == claim.treatment and s.record is not None]

    def worse(value: Any) -> float:
        return (value or 0.0) * 100 + 100 if upward else (value or 0.0) / 100

    for point in record.sweep:
        if claim.form == "monotone" and point["name"] == "point":
            point["step_total_s"] /= point["agents"] ** 3
        if claim.over == "requests" and point["name"] == "request":
            point |= {name: worse(point[name]) for name in claim.metrics}
    for one in record.rounds:
        values = one.treatment or {}
        values |= {name: worse(values.get(name)) for name in claim.metrics}
    assert judge(claim, stored, POCKET).verdict == "refuted"


def test_a_gain_over_ray_that_any_engine_that_stays_up_has_too_says_so() -> None:
    """The engine with prefix caching is the alternative that the headline has to beat."""
    verdict = judge(BY_ID["pocket-latency-10x"], stored_for(BY_ID["pocket-latency-10x"]), POCKET)
    assert verdict.word == "confirmed, but"
    assert verdict.sentence == "confirmed, but not against engine-prefix-cache-4"
    assert verdict.n == 8  # two steps of each of four agents, in the one round of the dear arm


def test_requests_stand_beside_those_of_the_same_agent_phase_and_round() -> None:
    """A control's beside its treatment's; where nothing was paired there is none."""
    (paired,) = by_request([ran("shared-2")])
    assert paired.record is not None
    tasks = {task.id: task for task in paired.record.tasks}
    assert len(tasks) == 4 * 2 * 2
    both = tasks["reflect-1-3"]
    assert both.control is not None
    assert (both.treatment["reused_tokens"], both.control["reused_tokens"]) == (207, 0)
    (alone,) = by_request([ran("ray-serverless-2")])
    assert alone.record is not None
    assert all(task.control is None for task in alone.record.tasks)


def test_a_simulation_confirms_nothing() -> None:
    """Replayed agents are labelled, and no measured claim is confirmed by them."""
    claim = BY_ID["pocket-reflect-5x"]
    verdict = judge(claim, [ran(claim.treatment, evidence="simulated")], POCKET)
    assert (verdict.verdict, "simulated" in verdict.reason) == ("out of scope", True)


def test_a_published_row_says_in_the_pocket_what_it_needs() -> None:
    """The machine, the model and the lengths."""
    claim = BY_ID["shared-scales-to-32"]
    verdict = judge(claim, stored_for(claim), POCKET)
    assert verdict.verdict == "out of scope"
    assert all(need in verdict.reason for need in claim.requires)
