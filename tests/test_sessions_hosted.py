"""The engine behind the contract: what it says of keys and values that went when memory was short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from harness.errors import BudgetError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine
from harness.sessions.hosted import HostedEngine
from tests.tiny_engine import ask, tiny_model

SLAB_TOKENS = 20
EVERYTHING = 2**32 - 1


@pytest.fixture
def engine() -> Iterator[Engine]:
    """With room for two sessions, of which those that wait are dropped for others."""
    model = tiny_model()
    budget = DeviceBudget.create(model.weight_bytes + 2 * SLAB_TOKENS * model.slab_shape.token_bytes)
    with Engine(model, budget, max_session_tokens=SLAB_TOKENS, policy="drop") as engine:
        yield engine
    budget.remove()


def test_keys_and_values_that_were_dropped_are_not_given_as_none_at_all(engine: Engine) -> None:
    """A client that puts back what it gets would go on from an empty session, and from other tokens."""
    hosted = HostedEngine(engine)
    hosted.open("a", SLAB_TOKENS)
    ask(engine, "a", [1, 2, 3], 2)
    before = hosted.read_kv("a", 0, EVERYTHING)
    assert len(before.token_ids) == 4
    for other in ("b", "c"):
        hosted.open(other, SLAB_TOKENS)
    with pytest.raises(BudgetError, match="4 tokens were dropped"):
        hosted.read_kv("a", 0, EVERYTHING)
    ask(engine, "a", [], 1)
    after = hosted.read_kv("a", 0, 4)
    assert list(after.token_ids) == list(before.token_ids)


def test_a_session_without_a_turn_has_no_keys_and_values(engine: Engine) -> None:
    """Nothing was dropped: there was nothing."""
    hosted = HostedEngine(engine)
    hosted.open("a", SLAB_TOKENS)
    assert not hosted.read_kv("a", 0, EVERYTHING).token_ids
