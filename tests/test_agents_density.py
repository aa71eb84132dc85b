"""How many agents fit, by arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agents.density import (
    Density,
    Footprint,
    density,
    own_models,
    sessions,
)
from harness.errors import UsageError

LLAMA_2_7B = Footprint(weight_bytes=2 * 6_738_415_616, kv_token_bytes=524_288, tokens=72 + 50 + 32 + 50)
POCKET = Footprint(weight_bytes=134_793_216, kv_token_bytes=32_768, tokens=256 + 16 + 32 + 16)
"""33.7 million weights of four bytes, 8 layers of 512, and the prompt of the density rows."""

footprints = st.builds(
    Footprint,
    weight_bytes=st.integers(1, 10**12),
    kv_token_bytes=st.integers(1, 10**7),
    tokens=st.integers(1, 10**5),
    process_bytes=st.integers(0, 10**10),
)
capacities = st.integers(0, 10**13)


def test_the_published_device_holds_five_models_and_so_at_most_6_4_times_as_many_of_32_sessions() -> None:
    """80 GB and Llama-2-7B in fp16: the memory itself would hold hundreds of sessions."""
    found = density(80_000_000_000, LLAMA_2_7B)
    assert found == Density(own_models=5, sessions=621)
    assert 32 / found.own_models == 6.4


def test_in_fp32_two_models_fit_which_is_the_origins_own_threshold() -> None:
    """Out of memory at the third agent takes weights of four bytes; then 32 sessions are 16 times as many."""
    wide = replace(LLAMA_2_7B, weight_bytes=4 * 6_738_415_616, kv_token_bytes=2 * 524_288)
    assert own_models(80_000_000_000, wide) == 2
    assert sessions(80_000_000_000, wide) > 32


def test_the_pockets_budget_refuses_the_fourth_model_and_holds_32_sessions() -> None:
    """Up to 440 tokens a budget does both: for longer histories one that holds 32 holds four models too."""
    found = density(455 * 2**20, POCKET)
    assert (found.own_models, found.sessions) == (3, 32)
    for tokens, own in ((440, 3), (441, 4)):
        agent = replace(POCKET, tokens=tokens)
        assert own_models(agent.weight_bytes + 32 * agent.kv_bytes, agent) == own


def test_a_device_without_room_holds_none_and_has_no_ratio() -> None:
    """Not even the weights fit."""
    assert density(10, POCKET) == Density(0, 0)
    assert density(10, POCKET).ratio is None


@given(capacities, footprints)
def test_what_fits_is_within_the_device_and_one_more_is_not(capacity: int, agent: Footprint) -> None:
    """Both ways, to the byte."""
    one = agent.process_bytes + agent.weight_bytes
    own, shared = density(capacity, agent)
    assert own * (one + agent.kv_bytes) <= capacity < (own + 1) * (one + agent.kv_bytes)
    if shared:
        assert one + shared * agent.kv_bytes <= capacity
    assert capacity < one + (shared + 1) * agent.kv_bytes


@given(capacities, footprints)
def test_sharing_never_holds_fewer(capacity: int, agent: Footprint) -> None:
    """One model less for every agent but the first."""
    assert sessions(capacity, agent) >= own_models(capacity, agent)


@given(capacities, footprints, st.integers(1, 10))
def test_longer_histories_never_fit_more(capacity: int, agent: Footprint, factor: int) -> None:
    """And a larger device never fewer."""
    longer = replace(agent, tokens=agent.tokens * factor)
    assert own_models(capacity, longer) <= own_models(capacity, agent) <= own_models(2 * capacity, agent)
    assert sessions(capacity, longer) <= sessions(capacity, agent) <= sessions(2 * capacity, agent)


@pytest.mark.parametrize("wrong", [{"weight_bytes": 0}, {"tokens": -1}, {"process_bytes": -1}])
def test_a_footprint_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    """Nothing weighs less than nothing, and an agent has a history."""
    with pytest.raises(UsageError, match="footprint"):
        replace(POCKET, **wrong)
