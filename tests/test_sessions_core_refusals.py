"""What the session engine refuses: in words that say what to do, and without a change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Model, Place, Turn
from tests.tiny_engine import DEVICES, VOCAB_SIZE, ask, run, tiny_model


@pytest.fixture(scope="module", params=DEVICES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    made = DeviceBudget.create(1 << 24)
    yield made
    assert made.used_bytes == 0, "the engine kept bytes"
    made.remove()


@pytest.fixture
def engine(model: Model, budget: DeviceBudget) -> Iterator[Engine]:
    with Engine(model, budget, max_session_tokens=200, max_sessions=40, prefill_chunk=16) as made:
        yield made


def test_keys_and_values_that_do_not_fit_are_refused(engine: Engine) -> None:
    """And change nothing."""
    engine.open("a", 20)
    ask(engine, "a", [3, 4, 5], 6)
    text, kv = engine.token_ids("a"), engine.read_kv("a")
    with pytest.raises(UsageError, match="one per token"):
        engine.write_kv("a", [1, 2], kv)
    with pytest.raises(UsageError, match="do not fit"):
        engine.write_kv("a", text[:8], kv, 15)
    with pytest.raises(UsageError, match="do not fit"):
        engine.write_kv("a", text[:8], kv[:1])
    with pytest.raises(UsageError, match="ask for less"):
        engine.read_kv("a", 3, 12)
    engine.submit(Turn("a", [1], 2))
    with pytest.raises(UsageError, match="has a turn"):
        engine.read_kv("a")
    run(engine)
    assert engine.token_ids("a")[:9] == text


def test_what_makes_no_sense_is_refused(engine: Engine) -> None:
    """With the culprit, the value and the remedy; the session is as before."""
    engine.open("a", 20)
    refused = [
        (Turn("nobody", [1], 1), "'nobody' is not open"),
        (Turn("a", [], 1), "send at least one"),
        (Turn("a", [1], 0), "max_new_tokens is 0; give at least 1"),
        (Turn("a", [1, VOCAB_SIZE], 1), f"token id {VOCAB_SIZE} is not in 0 to {VOCAB_SIZE - 1}"),
        (Turn("a", [-1], 1), "token id -1"),
        (Turn("a", ["x"], 1), "integers"),  # type: ignore[list-item]
        (Turn("a", [1] * 10, 11), "holds 0 tokens; 10 new and 11 to decode exceed its 20"),
    ]
    for turn, said in refused:
        with pytest.raises(UsageError, match=said):
            engine.submit(turn)
    engine.submit(Turn("a", [1] * 10, 10))
    with pytest.raises(UsageError, match="has a turn already"):
        engine.submit(Turn("a", [1], 1))
    assert len(run(engine)) == 10
    for session_id, max_tokens, said in [
        ("a", 10, "open already"),
        ("b", 0, "give 1 to 200"),
        ("b", 201, "give 1 to 200"),
        ("", 10, "a name"),
        ("x\n", 10, "a name"),
        ("x" * 129, 10, "has 129 characters; give at most 128"),
    ]:
        with pytest.raises(UsageError, match=said):
            engine.open(session_id, max_tokens)
    with pytest.raises(UsageError, match="'b' is not open"):
        engine.close("b")


def test_limits_that_make_no_sense_are_refused(model: Model, budget: DeviceBudget) -> None:
    """Before anything is drawn."""
    for limits, said in [
        ({"max_session_tokens": 257}, "max_session_tokens is 257; give 1 to 256"),
        ({"max_sessions": 0}, "max_sessions is 0"),
        ({"prefill_chunk": 0}, "prefill_chunk is 0"),
        ({"max_batch": True}, "max_batch is True"),
        ({"policy": "hope"}, "choose one of keep, drop, offload, least-waste"),
        ({"host_capacity_bytes": -1}, "host_capacity_bytes is -1"),
    ]:
        with pytest.raises(UsageError, match=said):
            Engine(model, budget, **{"max_session_tokens": 100, **limits})  # type: ignore[arg-type]


def test_more_sessions_than_allowed_are_refused(model: Model, budget: DeviceBudget) -> None:
    """However much memory is left."""
    with Engine(model, budget, max_session_tokens=100, max_sessions=1) as engine:
        engine.open("a", 10)
        with pytest.raises(BudgetError, match="raise max_sessions"):
            engine.open("b", 10)
        assert engine.info("a").place is Place.DEVICE
