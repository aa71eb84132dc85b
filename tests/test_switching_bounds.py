"""What a total, an arena and a count allow of switching."""

from __future__ import annotations

from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.residency.catalogue import published
from harness.residency.policies import bound_bytes
from harness.residency.traces import committed
from reports.claims import load
from reports.errors import ClaimError
from reports.physics import bound

BY_ID = {c.id: c for c in load(Path(__file__).parents[1] / "bench" / "claims" / "switching.toml")}
SIZES = {name: model.layout.num_bytes for name, model in published().items()}
ARENA = 25 * 10**9
H100 = {"bandwidth_bytes_per_s": 3.35e12, "device": "H100"}
PHI_READ_BYTES = SIZES["phi-2"] * (1 - 51_200 * 2_560 / 2.78e9)
LEFT = {"total_s": 4.302, "tokens": 50, "weight_bytes": PHI_READ_BYTES, "published_s": 4.3, **H100}

sizes = st.floats(0.1, 30)


def of_row(name: str) -> Any:
    claim = BY_ID[name]
    return bound(claim.floor or "", claim.floor_inputs)


@pytest.mark.parametrize("name", ["pinned-pays-4.3s", "vllm-pays-18.2s", "hit-below-10ms-in-total"])
def test_a_token_reads_the_smallest_model_but_for_its_embedding(name: str) -> None:
    """No published model reads fewer bytes, so that each floor is the lowest."""
    read = BY_ID[name].floor_inputs["weight_bytes"]
    assert read == pytest.approx(PHI_READ_BYTES, rel=2e-4)
    assert read < min(SIZES.values())


def test_a_median_of_4302_ms_leaves_4228_for_the_transfer_however_4_3_is_rounded() -> None:
    """74 ms of decoding; 4.25 s would round to 4.3 and is beyond it too."""
    found = bound("time_left", LEFT)
    assert found.value == pytest.approx(4.302 - 0.074, abs=5e-4)
    assert not found.allows(4.25, inf)
    assert found.allows(4.2, inf)
    assert "at most 1 of the 50 tokens" in found.condition


def test_a_median_of_18213_ms_leaves_less_than_18_2_for_the_engine() -> None:
    """18.15 would round to 18.2."""
    found = of_row("vllm-pays-18.2s")
    assert found.value == pytest.approx(18.139, abs=5e-4)
    assert not found.allows(18.15, inf)


def test_the_pinned_rate_is_that_of_the_sources_own_medians() -> None:
    """A reload less a hit: 12.6 GB in 2.91 s; with all of PCIe 5 the request takes 2 s."""
    claim = BY_ID["p99-by-19gb"]
    assert claim.floor_inputs["bytes_per_s"] == pytest.approx(12.6e9 / (4.302 - 1.392), rel=1e-3)
    assert of_row("p99-by-19gb").value == pytest.approx((19 + 13.5) / 4.33 + 1.392)
    fast = bound("copies_s", {**claim.floor_inputs, "bytes_per_s": 55e9})
    assert fast.value == pytest.approx(1.98, abs=0.01)


def test_before_llama_the_trace_asks_for_mistral_alone() -> None:
    """So from an empty arena no more than its 13.5 GB can be evicted."""
    trace = committed()
    first = trace.models.index("llama-7b")
    resident = sum(SIZES[name] for name in set(trace.models[:first]))
    assert resident == pytest.approx(13.5e9)
    assert of_row("cold-start-evicts-19gb").value == pytest.approx(resident)


def test_no_content_of_the_arena_has_to_give_more_than_6_3_gb() -> None:
    """Over every set of models that fits, for every model that may come."""
    needed = [
        max(0, SIZES[model] - (ARENA - sum(SIZES[name] for name in others)))
        for model in SIZES
        for num in (1, 2)
        for others in combinations(set(SIZES) - {model}, num)
        if sum(SIZES[name] for name in others) <= ARENA
    ]
    assert max(needed) == pytest.approx(6.3e9)
    assert of_row("19gb-make-room").value == pytest.approx(max(needed))


def test_evicting_whole_models_is_what_makes_19_of_6_3_gb() -> None:
    """18.7 GB can go, where Mistral and Phi are there."""
    two = {"mistral-7b": 13.5e9, "phi-2": 5.2e9}
    found = bound("evictable", {"resident_bytes": two, "published_bytes": 18.5e9})
    assert found.allows(18.5e9, inf)
    assert "13.5 GB (mistral-7b) + 5.2 GB (phi-2) = 18.7 GB at most" in found.arithmetic


def test_cold_models_miss_once_each_by_any_policy() -> None:
    """27 of 30; Belady's own bytes of the published trace hold each model once, at any size of arena."""
    assert of_row("hits-100-percent-cold").value == 27 / 30
    assert bound_bytes(committed().models, SIZES, 40 * 10**9) == sum(SIZES.values())


@pytest.mark.parametrize(
    ("share", "of", "value"), [(0.07, 30, 2), (0.53, 30, 16), (0.4, 30, 12), (0.27, 30, 8), (0.5, 2, 1)]
)
def test_a_rounded_share_of_30_is_whole_requests(share: float, of: int, value: int) -> None:
    """The source's own shares, and the counts that it gives beside them."""
    found = bound("whole_requests", {"share": share, "of": of, "published": 1.0})
    assert found.value == value


@given(st.integers(1, 30), st.integers(1, 30))
def test_no_count_rounds_to_a_share_below_its_bound(count: int, of: int) -> None:
    """Whatever the count, the share that it rounds to is allowed it."""
    if count > of:
        count, of = of, count
    share = round(count / of, 2)
    found = bound("whole_requests", {"share": share, "of": of, "published": float(count)})
    assert found.value <= count


def test_ten_minutes_are_twelve() -> None:
    """And PyTorch Pageable is not even among the parts."""
    found = of_row("runtime-10-min")
    assert found.value == 75 + 117 + 410 + 118 == 720
    assert not found.allows(545, 660)
    assert found.allows(545, 720)


@given(sizes, sizes, sizes)
def test_room_needed_is_what_is_missing_and_never_negative(
    model: float, resident: float, free: float
) -> None:
    """An arena of what is resident and what is free."""
    inputs = {"model_bytes": model, "resident_bytes": resident, "arena_bytes": resident + free}
    found = bound("room_needed", {**inputs, "published_bytes": 1.0})
    assert found.value == pytest.approx(max(0.0, model - free), abs=1e-9)


@given(sizes, sizes, st.floats(1, 60))
def test_no_request_that_keeps_to_its_rate_is_beyond_the_copies(out: float, into: float, rate: float) -> None:
    """However much faster its link is."""
    inputs = {"out_bytes": out * 1e9, "in_bytes": into * 1e9, "bytes_per_s": rate * 1e9, "compute_s": 1.0}
    found = bound("copies_s", {**inputs, "published_s": 2.0})
    assert (out + into) / (rate * 1.5) + 1.0 <= found.value


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("time_left", {**LEFT, "total_s": 0.05}),
        ("time_left", {**LEFT, "tokens": 0}),
        ("copies_s", {"out_bytes": 1, "in_bytes": 1, "bytes_per_s": 1, "compute_s": 2, "published_s": 1}),
        ("cold_hits", {"requests": 2, "models": 3}),
        ("evictable", {"resident_bytes": {}, "published_bytes": 1}),
        ("room_needed", {"model_bytes": 1, "resident_bytes": 3, "arena_bytes": 2, "published_bytes": 1}),
        ("whole_requests", {"share": 1.5, "of": 30, "published": 1}),
        ("sum_of_parts", {"parts": {"a": 0.0}, "published": 1}),
        ("sum_of_parts", {"parts": {}, "published": 1}),
    ],
)
def test_amounts_that_make_no_sense_are_a_claim_error(name: str, inputs: dict[str, Any]) -> None:
    """With the bound's name."""
    with pytest.raises(ClaimError, match=name):
        bound(name, inputs)
