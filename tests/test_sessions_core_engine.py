"""The session engine: turns, reuse, batches and undo."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from harness.errors import BudgetError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Model, Turn
from tests.tiny_engine import DEVICES, VOCAB_SIZE, ask, run, tiny_model, tokens


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


def test_later_turns_compute_only_what_is_new(engine: Engine) -> None:
    """And give the tokens of the whole text sent at once; what was reused is counted from the slab."""
    engine.open("a", 100)
    first = ask(engine, "a", [5, 6, 7], 4)
    second = ask(engine, "a", [8, 9], 4)
    engine.open("whole", 100)
    text = [5, 6, 7, *tokens(first), 8, 9]
    whole = ask(engine, "whole", text, 4)
    assert tokens(second) == tokens(whole)
    assert {(e.timings.reused_tokens, e.timings.prefilled_tokens) for e in first} == {(0, 3)}
    # The last token of the first turn was given out and not computed.
    assert {(e.timings.reused_tokens, e.timings.prefilled_tokens) for e in second} == {(6, 3)}
    assert {(e.timings.reused_tokens, e.timings.prefilled_tokens) for e in whole} == {(0, 9)}
    assert engine.token_ids("a") == text + tokens(second)
    assert engine.info("a").num_computed == len(text) + 3
    counts = engine.stats().counts
    assert (counts.reused_tokens, counts.prefilled_tokens, counts.recomputed_tokens) == (6, 15, 0)
    assert counts.decoded_tokens == 3 * 3


def test_a_turn_without_tokens_goes_on(engine: Engine) -> None:
    """Where the one before stopped."""
    engine.open("a", 100)
    engine.open("b", 100)
    halves = tokens(ask(engine, "a", [1, 2], 5)) + tokens(ask(engine, "a", [], 5))
    assert halves == tokens(ask(engine, "b", [1, 2], 10))


def test_sessions_together_give_what_each_gives_alone(engine: Engine) -> None:
    """Prompts of 1 to 60 tokens, submitted while others decode."""
    prompts = {f"s{i}": [(7 * i + j) % VOCAB_SIZE for j in range(1 + 2 * i)] for i in range(30)}
    found: dict[str, list[int]] = {name: [] for name in prompts}
    for name, prompt in prompts.items():
        engine.open(name, 100)
        engine.submit(Turn(name, prompt, 9))
        for event in engine.step():
            found[event.session_id].append(event.token_id)
    for event in run(engine):
        found[event.session_id].append(event.token_id)
    assert engine.stats().counts.decode_steps < 200, "nothing was batched"
    for name, prompt in prompts.items():
        engine.close(name)
        engine.open("alone", 100)
        assert found[name] == tokens(ask(engine, "alone", prompt, 9)), name
        engine.close("alone")


def test_a_long_prompt_delays_the_others_by_a_chunk_at_a_time(engine: Engine) -> None:
    """While 100 tokens prefill in chunks of 16, a session that decodes gets a token with every step."""
    engine.open("quick", 100)
    engine.open("long", 200)
    engine.submit(Turn("quick", [1], 20))
    engine.step()
    engine.submit(Turn("long", list(range(90)), 2))
    steps = [[event.session_id for event in engine.step()] for _ in range(6)]
    assert steps == [["quick"]] * 5 + [["quick", "long"]]


def test_the_last_event_says_why_it_is_the_last(engine: Engine) -> None:
    """`length`, or `stop` with the token that stops, which stays in the session."""
    engine.open("a", 100)
    free = ask(engine, "a", [3], 6)
    assert [e.finish_reason for e in free] == [None] * 5 + ["length"]
    assert [e.is_last for e in free] == [False] * 5 + [True]
    engine.open("b", 100)
    stop = free[2].token_id
    stopped = ask(engine, "b", [3], 6, stop_ids=(stop,))
    assert tokens(stopped) == tokens(free)[: tokens(free).index(stop) + 1]
    assert stopped[-1].finish_reason == "stop"
    assert engine.token_ids("b") == [3, *tokens(stopped)]


def test_logits_come_when_they_are_wanted(engine: Engine) -> None:
    """They chose the token, and are the caller's own memory."""
    engine.open("a", 100)
    events = ask(engine, "a", [3, 4], 3, want_logits=True)
    for event in events:
        assert event.logits.dtype == torch.float32
        assert event.logits.shape == (VOCAB_SIZE,)
        assert int(event.logits.argmax()) == event.token_id
    assert len({event.logits.data_ptr() for event in events}) == 3
    assert [event.logits for event in ask(engine, "a", [3], 2)] == [None, None]


def test_the_parts_of_an_event_sum_to_the_time_since_the_last(model: Model, budget: DeviceBudget) -> None:
    """By a clock that ticks a second per look; a batched step counts in full for each session."""
    ticks = itertools.count()
    now = [0.0]

    def clock() -> float:
        now[0] = float(next(ticks))
        return now[0]

    with Engine(model, budget, max_session_tokens=100, clock=clock) as engine:
        engine.open("a", 50)
        engine.open("b", 50)
        engine.submit(Turn("a", [1], 2))
        began = {"a": now[0]}
        engine.submit(Turn("b", [1], 2))
        began["b"] = now[0]
        for _ in range(2):
            events = engine.step()
            assert [event.session_id for event in events] == ["a", "b"]
            end = max(began[e.session_id] + sum(e.timings[:3]) for e in events)
            for event in events:
                assert event.timings.compute_s == 1.0
                assert began[event.session_id] + sum(event.timings[:3]) == end
            began = dict.fromkeys(began, end)


@pytest.mark.parametrize("num_steps", [0, 1, 3, 8])
def test_a_cancelled_turn_has_not_happened(engine: Engine, num_steps: int) -> None:
    """Queued, half prefilled, or half decoded: the session goes on as if it had not been sent."""
    for name in ("a", "b"):
        engine.open(name, 150)
        ask(engine, name, [3, 4, 5], 4)
    turn = engine.submit(Turn("a", list(range(60)), 20))
    for _ in range(num_steps):
        engine.step()
    assert engine.cancel(turn)
    assert engine.is_idle
    assert not engine.cancel(turn)
    assert engine.token_ids("a") == engine.token_ids("b")
    mine, other = ask(engine, "a", [7], 5), ask(engine, "b", [7], 5)
    assert tokens(mine) == tokens(other)
    assert mine[0].timings.reused_tokens == other[0].timings.reused_tokens == 6
    assert engine.stats().counts.cancelled_turns == 1


def test_closing_ends_the_turn_and_gives_the_slab_back(engine: Engine, budget: DeviceBudget) -> None:
    """And nothing more comes of it."""
    before = budget.used_bytes
    engine.open("a", 100)
    assert budget.used_bytes - before == 100 * engine.model.slab_shape.token_bytes
    engine.submit(Turn("a", [1, 2], 20))
    engine.step()
    engine.close("a")
    assert engine.is_idle
    assert engine.step() == []
    assert budget.used_bytes == before
    engine.open("a", 100)
    assert engine.token_ids("a") == []


def test_weights_are_drawn_once(model: Model, budget: DeviceBudget) -> None:
    """Under the model's name; an engine that finds no room for them does not start."""
    with Engine(model, budget, max_session_tokens=100) as engine:
        [holder] = budget.holders()
        assert (holder.owner, holder.num_bytes) == ("weights of tiny", model.weight_bytes)
        assert engine.stats().weight_bytes == model.weight_bytes
    small = DeviceBudget.create(model.weight_bytes - 1)
    with pytest.raises(BudgetError, match="weights of tiny"):
        Engine(model, small, max_session_tokens=100)
    assert small.used_bytes == 0


def test_keys_and_values_can_leave_and_come_back(engine: Engine) -> None:
    """A session that is given another's goes on as that one does; all of it or from a place on."""
    engine.open("a", 100)
    ask(engine, "a", [3, 4, 5], 6)
    kv = engine.read_kv("a")
    known = engine.token_ids("a")[: kv.shape[3]]
    assert kv.shape[3] == 8
    for begin in (0, 3):
        engine.open("b", 100)
        if begin:
            engine.submit(Turn("b", known[:begin], 1))
            run(engine)
        engine.write_kv("b", known[begin:], kv[:, :, :, begin:], begin)
        assert engine.token_ids("b") == known
        last = engine.token_ids("a")[-1]
        there = ask(engine, "b", [last, 9], 4)
        assert there[0].timings.reused_tokens == 8
        engine.close("b")
    assert tokens(there) == tokens(ask(engine, "a", [9], 4))


def test_a_session_that_is_whole_can_go_on_by_itself(engine: Engine) -> None:
    """It was given all its keys and values: the last token is computed again, for its logits."""
    engine.open("a", 100)
    whole = ask(engine, "a", [3, 4, 5], 6)
    engine.open("b", 100)
    engine.write_kv("b", engine.token_ids("a")[:8], engine.read_kv("a"))
    [last] = ask(engine, "b", [], 1)
    assert last.token_id == whole[-1].token_id
    assert last.timings.reused_tokens == 7
