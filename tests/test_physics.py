"""Bounds bound, and show their sum."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import ClaimError
from reports.physics import BOUNDS, bound

TOKENS: dict[str, Any] = {
    "tasks": 20,
    "caps": {"analysis": 50, "code": 150, "summary": 30},
    "routed": ["analysis", "summary"],
    "baseline_tokens": 40_000,
    "cascade_tokens": 25_000,
    "tokenizer_ratio": 0.6,
    "template_tokens": 50,
}


@given(
    issue=st.integers(20, 1500),
    source=st.integers(0, 400),
    templates=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    before=st.tuples(st.integers(0, 50), st.integers(0, 30)),
    after=st.tuples(st.integers(0, 50), st.integers(0, 30)),
    code=st.integers(0, 150),
    ratio=st.floats(0.6, 1.2),
)
def test_no_workload_of_that_shape_saves_more_tokens_than_the_bound(
    issue: int,
    source: int,
    templates: tuple[int, int],
    before: tuple[int, int],
    after: tuple[int, int],
    code: int,
    ratio: float,
) -> None:
    """One task, counted: the same prompts in both arms, outputs of any length up to their caps."""
    routed = [issue + t for t in templates]
    kept = issue + source + code
    baseline = sum(routed) + sum(before) + kept
    cascade = ratio * sum(routed) + sum(after) + kept
    inputs = {
        **TOKENS,
        "tasks": 1,
        "baseline_tokens": baseline,
        "cascade_tokens": cascade,
        "tokenizer_ratio": 0.6,
    }
    assert 1 - cascade / baseline <= bound("token_budget", inputs).value + 1e-9


def test_the_published_token_count_lies_beyond_its_bound() -> None:
    found = bound("token_budget", TOKENS)
    assert found.value == pytest.approx((80 + 0.4 * 2 * (2000 - 80 + 50) / 3) / 2000)
    assert not found.allows(0.37, float("inf"))
    assert "≤ 20 × (50 + 150 + 30) = 4,600 tokens" in found.arithmetic


def test_the_token_bound_names_the_tokenizer_and_the_price_that_would_do() -> None:
    condition = bound("token_budget", TOKENS).condition
    assert "≤ 0.49 tokens per token" in condition
    at_the_edge = bound("token_budget", {**TOKENS, "tokenizer_ratio": 0.489})
    assert at_the_edge.value == pytest.approx(0.375, abs=0.002)


def test_amdahl_bounds_the_saving_by_the_routed_share() -> None:
    found = bound("amdahl", {"total_s": 2.597, "routed_s": 0.92})
    assert found.value == pytest.approx(0.354, abs=5e-4)
    assert found.allows(0.33, float("inf"))
    assert not found.allows(0.36, float("inf"))
    assert bound("amdahl", {"total_s": 1.0, "routed_s": 0.4, "speedup": 4.0}).value == pytest.approx(0.3)


def test_offload_and_amdahl_are_one_bound_in_two_words() -> None:
    share = bound("amdahl", {"total_s": 178.0, "routed_s": 88.0}).value
    assert bound("offload", {"total": 178.0, "routed": 88.0}).value == pytest.approx(1 / (1 - share))


def test_a_smaller_model_saves_at_most_the_weights_it_does_not_read() -> None:
    assert bound("decode_ratio", {"large_bytes": 14.5e9, "small_bytes": 1e9}).value == pytest.approx(
        0.931, abs=1e-3
    )


def test_decoding_takes_at_least_the_weights_through_the_memory() -> None:
    inputs = {"tokens": 4600, "weight_bytes": 14.5e9, "bandwidth_bytes_per_s": 4.8e12, "published_s": 45.0}
    found = bound("decode_floor", inputs)
    assert found.value == pytest.approx(13.9, abs=0.1)
    assert found.allows(40.0, 50.0)
    assert not found.allows(8.0, 12.0)
    assert "1,482 GB/s" in found.condition


def test_models_held_at_once_take_the_sum_of_their_sizes() -> None:
    found = bound("held_at_once", {"models_gb": {"phi4:14b": 12.5}, "budget_gb": 8.0})
    assert not found.allows(float("-inf"), 8.0)
    assert found.allows(float("-inf"), 12.5)
    assert "12.5 GB (phi4:14b), and the budget is 8 GB" in found.arithmetic
    two = bound("held_at_once", {"models_gb": {"a": 2.0, "b": 6.5}, "budget_gb": 8.0})
    assert two.value == pytest.approx(8.5)


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    budget=st.integers(1, 20),
    answers=st.lists(st.integers(0, 5), min_size=1, max_size=5),
)
def test_no_job_without_a_violation_uses_more_models_than_the_bound(
    sizes: list[int], budget: int, answers: list[int]
) -> None:
    """Any assignment of tasks to models that fit one by one stays within the bound."""
    fitting = [m for m, size in enumerate(sizes) if size <= budget]
    models = {f"m{m}": float(size) for m, size in enumerate(sizes)}
    inputs = {"models_gb": models, "budget_gb": budget, "tasks": len(answers)}
    if not fitting:
        with pytest.raises(ClaimError, match="compliant_sum"):
            bound("compliant_sum", inputs)
        return
    used = {fitting[a % len(fitting)] for a in answers}
    assert sum(sizes[m] for m in used) <= bound("compliant_sum", inputs).value


@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
def test_mean_scores_lie_no_further_apart_than_the_counts_allow(pairs: list[tuple[float, float]]) -> None:
    better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    found = bound("counted_gap", {"tasks": len(pairs), "better": better, "worse": worse})
    assert sum(a - b for a, b in pairs) / len(pairs) <= found.value + 1e-9


def test_the_counts_of_run_141650_cannot_give_its_gap() -> None:
    """Better on two of nine tasks and worse on one: less than 22.2 points, and 29.7 are published."""
    found = bound("counted_gap", {"tasks": 9, "better": 2, "worse": 1})
    assert not found.allows(0.741 - 0.444, float("inf"))
    assert "less than 2 × 1 ÷ 9 = 0.222" in found.arithmetic


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("amdahll", {}),
        ("held_at_once", {"models_gb": {}, "budget_gb": 8.0}),
        ("counted_gap", {"tasks": 2, "better": 2, "worse": 1}),
        ("amdahl", {"total_s": 1.0}),
        ("amdahl", {"total_s": 1.0, "routed_s": 0.5, "speed": 2}),
        ("amdahl", {"total_s": 1.0, "routed_s": 2.0}),
        ("amdahl", {"total_s": 0.0, "routed_s": 0.0}),
        ("token_budget", {**TOKENS, "routed": ["analyses"]}),
        ("decode_floor", {"tokens": 1, "weight_bytes": 1, "bandwidth_bytes_per_s": 0, "published_s": 1}),
    ],
)
def test_a_bound_that_cannot_be_computed_is_a_claim_error(name: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(ClaimError, match=name):
        bound(name, inputs)


def test_every_bound_is_documented_where_it_is_listed() -> None:
    import reports.physics

    for name in BOUNDS:
        assert f"    {name} " in (reports.physics.__doc__ or "")
