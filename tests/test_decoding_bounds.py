"""What weights, memory and link allow per token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import ClaimError
from reports.physics import bound

LLAMA_2_7B = 13.477e9
LINK = {"bytes_per_token": 1.0, "link_bps": 1.0, "token_s": 1.0, "published": 2.0}
AMOUNTS = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    ("bandwidth", "floor_ms", "is_possible"),
    [(2.039e12, 6.6, False), (3.35e12, 4.0, False), (4.8e12, 2.8, True)],
)
def test_three_ms_per_token_are_beyond_an_a100_and_an_h100(
    bandwidth: float, floor_ms: float, is_possible: bool
) -> None:
    """Llama-2-7B in fp16; an H200 could, by its memory."""
    inputs = {"weight_bytes": LLAMA_2_7B, "bandwidth_bytes_per_s": bandwidth, "published_s": 0.003}
    found = bound("token_floor", inputs)
    assert 1e3 * found.value == pytest.approx(floor_ms, abs=0.05)
    assert found.allows(0.003, 0.003) == is_possible
    assert "from 4,492 GB/s on" in found.condition


def test_fifty_tokens_take_fifty_times_one() -> None:
    """331 ms on an A100, which no 200 ms can hold."""
    inputs = {"weight_bytes": LLAMA_2_7B, "bandwidth_bytes_per_s": 2.039e12, "published_s": 0.2, "tokens": 50}
    found = bound("token_floor", inputs)
    assert found.value == pytest.approx(0.3305, abs=1e-4)
    assert not found.allows(float("-inf"), 0.2)
    assert "50 tokens × 13.48 GB ÷ 2.039 TB/s" in found.arithmetic


def test_a_time_per_token_says_how_fast_memory_was_read() -> None:
    """832 GB/s at 16.2 ms, not 1.2."""
    inputs = {"weight_bytes": LLAMA_2_7B, "token_s": 0.0162, "published_bytes_per_s": 1.2e9}
    found = bound("weight_traffic", inputs)
    assert found.value == pytest.approx(832e9, rel=1e-3)
    assert not found.allows(0.0, 1.32e9)
    assert "= 832 GB/s, not 1.2 GB/s" in found.arithmetic
    assert "11.2 s per token" in found.condition


@given(
    bytes_per_token=AMOUNTS, gbps=AMOUNTS, floor_ms=AMOUNTS, slower=st.floats(1, 100), used=st.floats(0.1, 1)
)
def test_no_transfer_that_uses_the_link_makes_a_larger_ratio(
    bytes_per_token: float, gbps: float, floor_ms: float, slower: float, used: float
) -> None:
    """Whatever a token takes beyond its floor, it takes in both modes."""
    token_s, link_bps = 1e-3 * floor_ms * slower, 1e9 * gbps
    inputs = {
        "bytes_per_token": 1e6 * bytes_per_token,
        "link_bps": link_bps,
        "token_s": 1e-3 * floor_ms,
        "published": 2.0,
        "link_share": used,
    }
    crossing_s = 8e6 * bytes_per_token / (link_bps * used)
    assert (token_s + crossing_s) / token_s <= bound("link_ratio", inputs).value * (1 + 1e-9)


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.floats(0.01, 1))
def test_no_mode_that_ships_the_bytes_makes_a_smaller_ratio(
    bytes_per_token: float, gbps: float, most_ms: float, faster: float
) -> None:
    """Against a fast mode that takes at most so long."""
    inputs = {"bytes_per_token": 1e6 * bytes_per_token, "link_bps": 1e9 * gbps, "token_s": 1e-3 * most_ms}
    token_s, crossing_s = 1e-3 * most_ms * faster, 8e-3 * bytes_per_token / gbps
    least = bound("link_ratio_least", {**inputs, "published": 2.0}).value
    assert (token_s + crossing_s) / token_s >= least * (1 - 1e-9)


def test_the_link_at_which_a_ratio_begins_is_named() -> None:
    """At that rate the ratio is the published one."""
    inputs = {"bytes_per_token": 101.7e6, "link_bps": 25e9, "token_s": 0.00648, "published": 30.0}
    found = bound("link_ratio", {**inputs, "what": "keys and values"})
    assert found.value == pytest.approx(6.02, abs=0.01)
    assert "101.7 MB of keys and values" in found.arithmetic
    assert "no more than 4.33 Gbps" in found.condition
    assert bound("link_ratio", {**inputs, "link_bps": 4.33e9}).value == pytest.approx(30, abs=0.02)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("token_floor", {"weight_bytes": 0, "bandwidth_bytes_per_s": 1, "published_s": 1}),
        ("weight_traffic", {"weight_bytes": 1, "token_s": -1, "published_bytes_per_s": 1}),
        ("link_ratio", {**LINK, "published": 1}),
        ("link_ratio", {**LINK, "link_share": 1.1}),
        ("link_ratio_least", {**LINK, "link_bps": float("nan")}),
        ("link_ratio_least", {**LINK, "link_share": 0.5}),
    ],
)
def test_amounts_that_make_no_sense_are_a_claim_error(name: str, inputs: dict[str, Any]) -> None:
    """With the bound's name."""
    with pytest.raises(ClaimError, match=name):
        bound(name, inputs)
