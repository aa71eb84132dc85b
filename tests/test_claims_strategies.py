"""Rows about strategies are whole, ask for what is recorded, and keep the published numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.strategies_checks import check_outcomes, check_tasks
from fixtures.strategies_values import BATCH_METRICS, ROUND_METRICS, TASK_METRICS
from fixtures.strategies_variants import BATCHED, MODELS, STRATEGIES, VARIANTS
from reports.claims import Claim, load, needed_variants
from reports.errors import ClaimError
from reports.physics import bound
from reports.verdicts import judge

CLAIMS = load(Path(__file__).parents[1] / "bench" / "claims" / "strategies.toml")
BY_ID = {claim.id: claim for claim in CLAIMS}
BATCHES = {f"{model}-{BATCHED}" for model in MODELS}
CHECKS = {check.name for check in (*check_outcomes(STRATEGIES["single"], [], {}), check_tasks([]))}
BATCH_CHECKS = {"equal_work", "drawn_in_one_call"}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_names_variants_that_there_are_with_their_control(claim: Claim) -> None:
    """The control is one greedy answer of the same model, or the requests one by one."""
    assert set(needed_variants(claim)) <= {*VARIANTS, *BATCHES}
    model = claim.treatment.partition("-")[0]
    if claim.control is not None:
        other = "one-by-one-8" if claim.treatment in BATCHES else "single"
        assert claim.control == f"{model}-{other}"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_metrics_and_checks_that_are_recorded(claim: Claim) -> None:
    """Of rounds, of tasks, or of batches."""
    is_batch = claim.treatment in BATCHES
    known = BATCH_METRICS if is_batch else TASK_METRICS if claim.over == "tasks" else ROUND_METRICS
    assert set(claim.metrics) <= set(known)
    assert claim.provenance
    assert set(claim.provenance) <= (BATCH_CHECKS if is_batch else CHECKS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_a_published_row_covers_a_statement_and_ours_has_a_threshold_of_its_own(claim: Claim) -> None:
    """What a strategy is can be seen on any model; all else needs the source's."""
    assert bool(claim.covers) == (claim.scope is None)
    assert claim.id.startswith("pocket-") == (claim.scope == "pocket")
    anywhere = {
        *("reread-verifies", "diverse-varies-temperature", "best-of-n-selects"),
        *("fewer-samples-are-faster", "num-predict-caps"),
    }
    if claim.scope == "pocket":
        assert claim.requires == ("profile:pocket", "workload:pocket")
    elif claim.id in anywhere:
        assert claim.requires == ()
    elif claim.id == "single-pass-below-4b":
        assert "large:7b" in claim.requires
    else:
        assert {"profile:node", "small:tinyllama"} <= set(claim.requires)


def test_published_numbers_are_kept() -> None:
    """Costs as ratios, cells as the table has them."""
    published = {
        "reread-cost-tokens": 0.6667,
        "diverse-cost-time": 0.3333,
        "best-of-n-cost-tokens": 0.3333,
        "baseline-tokens": (337.0, 425.0),
        "reread-tokens": (250.0, 400.0),
        "diverse-tokens": (900.0, 1100.0),
        "best-of-n-tokens": (1000.0, 1200.0),
        "baseline-latency": 15.0,
        "best-of-n-latency": 50.0,
        "baseline-throughput": (27.0, 30.0),
        "speed-50-70": (50.0, 70.0),
        "runtime-20-30-minutes": (1200.0, 1800.0),
    }
    assert {name: BY_ID[name].published for name in published} == published


def test_these_statements_are_ruled_out_by_the_sources_own_table() -> None:
    """Each shows its sum, and what it would take; the other throughputs fit their cells."""
    found = {v.id: v.reason for c in CLAIMS if (v := judge(c, [])).verdict == "impossible"}
    assert found.keys() == {"reread-throughput", "speed-50-70", "runtime-20-30-minutes"}
    assert "≤ 400 tokens ÷ 17 s = 23.5 tok/s" in found["reread-throughput"]
    assert "50 tok/s need 600 tokens in that time" in found["speed-50-70"]
    assert "2 tasks × (15 + 20 + 40 + 50) s = 250 s" in found["runtime-20-30-minutes"]


amounts = st.floats(0.1, 1e4)


@given(amounts, amounts, st.floats(0, 1), st.floats(1, 10))
def test_no_cell_of_a_table_beats_the_rate_of_its_extremes(
    tokens: float, seconds: float, fewer: float, slower: float
) -> None:
    """Fewer tokens or a longer time give a lower rate."""
    found = bound("stated_rate", {"max_tokens": tokens, "min_seconds": seconds, "published": 1.0})
    rate = tokens * fewer / (seconds * slower)
    assert found.allows(rate * (1 - 1e-9), rate)
    assert not found.allows(found.value * 1.001, found.value * 2)


def test_a_run_lasts_no_longer_than_its_cells() -> None:
    """And an empty table says nothing."""
    inputs = {"seconds": {"a": 10.0, "b": 5.0}, "tasks": 3, "published_s": 60.0}
    assert bound("summed_cells", inputs).value == 45.0
    with pytest.raises(ClaimError, match="no cells"):
        bound("summed_cells", {**inputs, "seconds": {}})
