"""Whose prompt is computed first, that nobody's waits for ever, and that no token hangs on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Event, Model, Turn
from harness.sessions.core.loading import random_llama
from harness.sessions.core.scheduler import MAX_PASSED

CHUNK = 16


@pytest.fixture(scope="module")
def model() -> Model:
    donor = random_llama(
        2, vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    return Model.from_transformers("tiny", donor.double())


def engine_of(model: Model) -> Engine:
    return Engine(model, DeviceBudget.create(1 << 26), max_session_tokens=200, prefill_chunk=CHUNK)


@pytest.fixture
def engine(model: Model) -> Iterator[Engine]:
    with engine_of(model) as made:
        yield made


def submit(engine: Engine, session_id: str, num_tokens: int, num_new: int = 1) -> None:
    engine.open(session_id, 200)
    engine.submit(Turn(session_id, [(7 * n + len(session_id)) % 61 for n in range(num_tokens)], num_new))


def steps_until(engine: Engine, session_id: str, limit: int = 500) -> int:
    """How many steps until the session's turn has ended."""
    for number in range(1, limit):
        if any(event.session_id == session_id and event.is_last for event in engine.step()):
            return number
    raise AssertionError(f"{session_id} has not ended after {limit} steps")


def test_a_few_tokens_wait_for_no_long_prompt(engine: Engine) -> None:
    """Four agents reason when one reflects: it is answered by the next step."""
    for number in range(4):
        submit(engine, f"reason-{number}", 160)
    engine.step()
    submit(engine, "reflect", 9)
    assert steps_until(engine, "reflect") == 1


def test_of_equal_prompts_the_first_that_came_is_done_first(engine: Engine) -> None:
    """One after the other, not all at the end."""
    for name in "abc":
        submit(engine, name, 48)
    ends = []
    while not engine.is_idle:
        ends += [event.session_id for event in engine.step()]
    assert ends == ["a", "b", "c"]


def test_a_prompt_that_has_begun_goes_before_one_as_long(engine: Engine) -> None:
    """What is left counts."""
    submit(engine, "b", 48)
    engine.step()
    submit(engine, "a", 48)
    assert steps_until(engine, "b") == 2


def test_short_turns_without_end_do_not_starve_a_long_prompt(engine: Engine) -> None:
    """Each of its chunks is passed over so often and no more."""
    submit(engine, "long", 10 * CHUNK)
    for number in range(10 * (MAX_PASSED + 1)):
        submit(engine, f"short-{number}", CHUNK)
        events: list[Event] = engine.step()
        for event in events:
            if event.session_id == "long":
                return
            engine.close(event.session_id)
    raise AssertionError("the long prompt was never done")


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=12))
def test_every_prompt_is_done_in_its_time(model: Model, lengths: list[int]) -> None:
    """Whatever comes together, no step is without a chunk, and the tokens are those of each alone."""
    with engine_of(model) as engine:
        for number, length in enumerate(lengths):
            submit(engine, str(number), length)
        found = {}
        # Two chunks that do not fit together are two steps.
        for _ in range(sum(-(-length // CHUNK) for length in lengths)):
            found |= {event.session_id: event.token_id for event in engine.step()}
        assert len(found) == len(lengths)
        for number, length in enumerate(lengths):
            engine.close(str(number))
            submit(engine, str(number), length)
            while not engine.is_idle:
                assert [event.token_id for event in engine.step()] in ([], [found[str(number)]])
