"""The cascade's rows are whole, and keep the published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.claims import Claim, load
from reports.physics import bound
from reports.verdicts import judge

CASCADE = Path(__file__).parents[1] / "bench" / "claims" / "cascade.toml"
CLAIMS = load(CASCADE)
BY_ID = {claim.id: claim for claim in CLAIMS}
CHECKS = {
    "attribution_sums",
    "caps_sent",
    "client_not_bottleneck",
    "prompts_not_cached",
    "counts_from_server",
    "edges_carry_data",
    "greedy_deterministic",
    "models_as_labelled",
    "no_fallback",
    "routed_as_named",
}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_bound_can_be_computed_from_its_row(claim: Claim) -> None:
    if claim.floor is not None:
        assert bound(claim.floor, claim.floor_inputs).arithmetic


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_provenance_by_a_known_name(claim: Claim) -> None:
    assert claim.provenance
    assert set(claim.provenance) <= CHECKS


@pytest.mark.parametrize("seed", ["sglang", "ollama"])
def test_the_token_count_of_the_tables_is_impossible_whatever_ran(seed: str) -> None:
    verdict = judge(BY_ID[f"{seed}-token-count"], [])
    assert verdict.verdict == "impossible"
    for part in ("4,600", "prompts", "tokenizer", "possible as"):
        assert part in verdict.reason


def test_only_the_token_counts_are_impossible() -> None:
    impossible = {claim.id for claim in CLAIMS if judge(claim, []).verdict == "impossible"}
    assert impossible == {"sglang-token-count", "ollama-token-count"}


def test_published_rows_on_real_engines_are_out_of_scope_in_the_pocket_and_say_what_they_need() -> None:
    verdict = judge(BY_ID["sglang-total-time"], [], ["profile:pocket"])
    assert verdict.verdict == "out of scope"
    assert "large:mistral-7b-instruct-v0.3" in verdict.reason


def test_the_cells_of_both_tables_keep_their_published_numbers() -> None:
    cells = {
        "total-time": 0.33,
        "analysis-latency": 0.75,
        "summary-latency": 0.75,
        "token-count": 0.37,
        "cost": 0.37,
    }
    for seed in ("sglang", "ollama"):
        assert {cell: BY_ID[f"{seed}-{cell}"].published for cell in cells} == cells


def test_a_published_row_has_no_scope_and_covers_a_statement() -> None:
    for claim in CLAIMS:
        assert bool(claim.covers) == (claim.scope is None), claim.id
