"""What prompts, weights and memory allow agents that wait."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import ClaimError
from reports.physics import bound

PARAMS = 6_738_415_616
A100 = {"bandwidth_bytes_per_s": 2.039e12, "peak_flops_per_s": 312e12, "device": "A100"}
H100 = {"bandwidth_bytes_per_s": 3.35e12, "peak_flops_per_s": 989.5e12, "device": "H100"}
STEP = {"params": PARAMS, "weight_bytes": 2 * PARAMS, "published": 5.0, "max_tokens": 4096}
MEMORY = {"capacity_bytes": 80e9, "weight_bytes": 2 * PARAMS, "kv_bytes": 0.107e9}


@pytest.mark.parametrize(
    ("device", "new_tokens", "from_prompt"),
    [
        (A100, 1, 383), (A100, 5, 1607), (A100, 50, 15_379),
        (H100, 1, 739), (H100, 5, 3102), (H100, 50, 29_685),
    ],
)  # fmt: skip
def test_a_second_step_is_5x_faster_from_this_prompt_on(
    device: dict[str, Any], new_tokens: int, from_prompt: int
) -> None:
    """To the token: one less is below 5, when the prompt is computed at half of the device's peak."""
    at = {**STEP, **device, "new_tokens": new_tokens}
    found = bound("reflect_ratio", {**at, "prompt_tokens": from_prompt})
    assert found.allows(5.0, float("inf"))
    assert not bound("reflect_ratio", {**at, "prompt_tokens": from_prompt - 1}).allows(5.0, float("inf"))
    assert f"from {from_prompt:,} tokens of prompt on" in found.condition


@pytest.mark.parametrize(("device", "ceiling"), [(A100, 2.05), (H100, 1.53)])
def test_the_published_step_of_50_tokens_cannot_be_5x_within_the_models_context(
    device: dict[str, Any], ceiling: float
) -> None:
    """1.00× at the published 72 tokens of prompt, and at the context's end the ceiling of the facts."""
    found = bound("reflect_ratio", {**STEP, **device, "prompt_tokens": 72, "new_tokens": 50})
    assert found.value == pytest.approx(1.0)
    assert f"beyond the model's 4,096, where the ceiling is {ceiling:.2f}×" in found.condition
    longest = bound("reflect_ratio", {**STEP, **device, "prompt_tokens": 4096, "new_tokens": 50})
    assert longest.value == pytest.approx(ceiling, abs=0.006)


amounts = st.floats(1e-2, 1e2)


@given(amounts, amounts, st.integers(1, 5000), st.integers(1, 200), st.floats(0.1, 1), st.floats(1, 50))
def test_no_pair_of_steps_within_the_roofline_beats_the_bound(
    bandwidth: float, peak: float, prompt: int, new: int, share: float, slower: float
) -> None:
    """Prompts computed at `share` of the peak or better, decoding at its floor or slower in both steps."""
    inputs: dict[str, Any] = {
        "params": PARAMS, "weight_bytes": 2 * PARAMS, "published": 5.0, "prompt_tokens": prompt,
        "new_tokens": new, "bandwidth_bytes_per_s": 1e12 * bandwidth, "peak_flops_per_s": 1e14 * peak,
        "prefill_share": share,
    }  # fmt: skip
    floor_s = 2 * PARAMS / (1e12 * bandwidth)
    prefill_s = max(2 * PARAMS * prompt / (1e14 * peak * share), floor_s)
    decode_s = floor_s * slower
    ratio = (prefill_s + (new - 1) * decode_s) / (new * decode_s)
    assert ratio <= bound("reflect_ratio", inputs).value * (1 + 1e-9)


def test_20x_density_takes_a_hundred_sessions_and_not_32() -> None:
    """5 models fit 80 GB, so 32 agents are 6.4 times as many; two fit by the source, so 16."""
    found = bound("density_ratio", {**MEMORY, "most_agents": 32, "published": 20.0})
    assert found.value == 6.4
    assert "⌊80 GB ÷ 13.58 GB⌋ = 5 with a model each: ≤ 6.4×" in found.arithmetic
    assert "with 100 sessions or more (memory holds ⌊(C − W) ÷ kv⌋ = 621)" in found.condition
    assert "no more than 1 with a model each fit" in found.condition
    by_source = bound("density_ratio", {**MEMORY, "most_agents": 32, "published": 20.0, "own_agents": 2})
    assert by_source.value == 16
    assert not by_source.allows(20, float("inf"))


def test_the_sixth_agent_is_the_first_to_be_refused_and_the_third_one_in_fp32() -> None:
    """The origin's 2 to 3 go with weights of four bytes, or a device of 40 GB."""
    found = bound("refused_at", {**MEMORY, "published": 3.0, "dtype": "fp16"})
    assert found.value == 6
    assert "more than 26.7 GB, or on a device below 40.8 GB" in found.condition
    assert bound("refused_at", {**MEMORY, "published": 3.0, "process_bytes": 3e9}).value == 5
    wide = {**MEMORY, "weight_bytes": 4 * PARAMS, "kv_bytes": 0.214e9, "published": 3.0}
    assert bound("refused_at", wide).value == 3


def test_53x_over_8_s_is_beyond_decoding_and_10x_is_not() -> None:
    """The source's own 5 to 8 s against 150 ms; fifty tokens take 331 ms on an A100."""
    inputs = {"tokens": 50, "weight_bytes": 2 * PARAMS, "bandwidth_bytes_per_s": 2.039e12, "slow_s": 8.0}
    found = bound("latency_ratio", {**inputs, "published": 33.0})
    assert found.value == pytest.approx(24.2, abs=0.05)
    assert not found.allows(33, float("inf"))
    assert found.allows(10, float("inf"))
    assert "≥ 10.9 s" in found.condition


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("reflect_ratio", {**STEP, **A100, "prompt_tokens": 0, "new_tokens": 1}),
        ("reflect_ratio", {**STEP, **A100, "prompt_tokens": 1, "new_tokens": 1, "prefill_share": 1.5}),
        ("density_ratio", {**MEMORY, "capacity_bytes": 1e9, "most_agents": 32, "published": 20.0}),
        ("refused_at", {**MEMORY, "published": 0.0}),
        ("latency_ratio", {"slow_s": 0, "tokens": 1, "published": 1, "weight_bytes": 1,
                           "bandwidth_bytes_per_s": 1}),
    ],
)  # fmt: skip
def test_amounts_that_make_no_sense_are_a_claim_error(name: str, inputs: dict[str, Any]) -> None:
    """With the bound's name."""
    with pytest.raises(ClaimError, match=name):
        bound(name, inputs)
