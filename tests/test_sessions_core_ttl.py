"""Sessions pinned for a while after their turn: who goes when, and that no turn waits for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BudgetError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Model, Place, Turn, retention
from harness.sessions.core.loading import random_llama
from harness.sessions.core.retention import Candidate, Prices

SLAB_TOKENS = 40
PRICES = Prices(
    recompute_s_per_token=1e-3, copy_s_per_byte=1e-9, running_bytes=1, host_free_bytes=float("inf")
)


class Clock:
    """Goes only when told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def model() -> Model:
    donor = random_llama(
        2, vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    return Model.from_transformers("tiny", donor.double())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(model: Model, clock: Clock) -> Iterator[Engine]:
    """Room for two slabs, and pins of five seconds."""
    num_bytes = model.weight_bytes + 2 * SLAB_TOKENS * model.slab_shape.token_bytes
    with Engine(
        model, DeviceBudget.create(num_bytes), max_session_tokens=SLAB_TOKENS, policy="ttl:5", clock=clock
    ) as engine:
        yield engine


def ask(engine: Engine, session_id: str, num: int = 2) -> None:
    engine.submit(Turn(session_id, [1, 2], num))
    for _ in range(1000):
        if engine.is_idle:
            return
        engine.step()
    raise AssertionError("not idle")


def gone(need: int, *candidates: Candidate, running_bytes: int = 1) -> list[str]:
    prices = PRICES._replace(running_bytes=running_bytes)
    return [one.candidate.session_id for one in retention("ttl:5").plan(need, candidates, prices)]


def waiting(session_id: str, idle_s: float, num_tokens: int = 10) -> Candidate:
    return Candidate(session_id, num_tokens, 100, 10 * num_tokens, idle_s, idle_s)


def test_a_pin_ends_with_its_time() -> None:
    """Until then nobody goes while something runs; then who has waited longest goes first."""
    assert gone(100, waiting("a", 4.9), waiting("b", 0.0)) == []
    assert gone(100, waiting("a", 4.9), waiting("b", 5.0)) == ["b"]
    assert gone(200, waiting("a", 6.0), waiting("b", 7.0), waiting("c", 1.0)) == ["b", "a"]
    assert gone(300, waiting("a", 6.0), waiting("b", 7.0), waiting("c", 1.0)) == []


def test_where_nothing_runs_pins_give_way() -> None:
    """Else all would wait for a clock."""
    assert gone(100, waiting("a", 1.0), waiting("b", 2.0), running_bytes=0) == ["b"]


def test_a_session_without_a_turn_is_not_pinned() -> None:
    """It holds nothing that would have to be computed again."""
    assert gone(100, waiting("a", 9.0), waiting("b", 0.0, num_tokens=0)) == ["b"]


@settings(max_examples=200, deadline=None)
@given(
    idle_s=st.lists(st.floats(0, 20), min_size=1, max_size=6),
    need=st.integers(1, 700),
    is_running=st.booleans(),
)
def test_no_pin_is_broken_while_something_runs(idle_s: list[float], need: int, is_running: bool) -> None:
    """Who goes has waited at least as long as who stays, and no longer than needed are many gone."""
    candidates = [waiting(str(number), one) for number, one in enumerate(idle_s)]
    named = {one.session_id: one for one in candidates}
    left = [named[name] for name in gone(need, *candidates, running_bytes=int(is_running))]
    stay = [one for one in candidates if one not in left]
    free = [one for one in candidates if not is_running or one.idle_s >= 5]
    assert len(left) == (-(-need // 100) if need <= 100 * len(free) else 0)
    assert all(one in free for one in left)
    assert not left or max((one.idle_s for one in stay), default=0) <= min(one.idle_s for one in left)


@pytest.mark.parametrize(("waited_s", "is_pinned"), [(4.0, True), (5.0, False)])
def test_a_turn_takes_no_pinned_slab_while_another_runs(
    engine: Engine, clock: Clock, waited_s: float, is_pinned: bool
) -> None:
    """Before its time is over; when nothing runs any more the turn gets it all the same."""
    for name in "abc":
        engine.open(name, SLAB_TOKENS)
    lost = next(name for name in "abc" if engine.info(name).place is Place.NOWHERE)
    first, second = (name for name in "abc" if name != lost)
    ask(engine, first)
    engine.submit(Turn(second, [1], 9))
    engine.step()
    clock.now_s += waited_s
    engine.submit(Turn(lost, [1], 3))
    engine.step()
    assert (engine.info(first).place is Place.DEVICE) == is_pinned
    assert (engine.info(lost).place is Place.NOWHERE) == is_pinned
    while not engine.is_idle:
        engine.step()
    assert engine.info(lost).num_tokens == 4


def test_opening_breaks_no_pin_while_something_runs(engine: Engine, clock: Clock) -> None:
    """It is refused, and granted when the time is over."""
    engine.open("a", SLAB_TOKENS)
    engine.open("b", SLAB_TOKENS)
    ask(engine, "a")
    engine.submit(Turn("b", [1], 9))
    engine.step()
    with pytest.raises(BudgetError):
        engine.open("c", SLAB_TOKENS)
    clock.now_s += 5
    engine.open("c", SLAB_TOKENS)
    assert engine.info("a").place is not Place.DEVICE
