"""Who loses its slab when the device budget is short, and that no token changes for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Event, Model, Place, Slab, Turn, retention, retention_names
from harness.sessions.core.costs import Costs
from harness.sessions.core.retention import Action, Candidate, Prices
from harness.sessions.core.scheduler import MAX_OVERTAKEN
from harness.sessions.core.session import Session
from tests.tiny_engine import DEVICES, tiny_model

SLAB_TOKENS = 60
PRICES = Prices(
    recompute_s_per_token=1e-3, copy_s_per_byte=1e-9, running_bytes=0, host_free_bytes=float("inf")
)


@pytest.fixture(scope="module", params=DEVICES)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture
def make(model: Model) -> Callable[..., Engine]:
    """Make an engine with room for so many slabs."""

    def made(num_slabs: int, policy: str, **more: object) -> Engine:
        num_bytes = model.weight_bytes + num_slabs * SLAB_TOKENS * model.slab_shape.token_bytes
        return Engine(
            model, DeviceBudget.create(num_bytes), max_session_tokens=SLAB_TOKENS, policy=policy, **more
        )  # type: ignore[arg-type]

    return made


def run(engine: Engine, limit: int = 2000) -> list[Event]:
    events: list[Event] = []
    for _ in range(limit):
        if engine.is_idle:
            return events
        events += engine.step()
    raise AssertionError(f"not idle after {limit} steps: {engine.stats()}")


def ask(engine: Engine, session_id: str, tokens: list[int], num: int) -> list[Event]:
    engine.submit(Turn(session_id, tokens, num))
    return run(engine)


def candidate(
    session_id: str = "a", *, tokens: int = 100, slab: int = 1000, used: int = 1000, pause_s: float = 1.0
) -> Candidate:
    return Candidate(session_id, tokens, slab, used, pause_s)


def gone(policy: str, need: int, *candidates: Candidate, prices: Prices = PRICES) -> list[tuple[str, str]]:
    plan = retention(policy).plan(need, candidates, prices)
    return [(eviction.candidate.session_id, eviction.action.value) for eviction in plan]


def test_keep_lets_nobody_go() -> None:
    """And the other policies only as many as are needed."""
    three = [candidate(name) for name in "abc"]
    assert gone("keep", 1, *three) == []
    assert gone("drop", 1500, *three) == [("a", "drop"), ("b", "drop")]
    assert gone("offload", 1500, *three) == [("a", "offload"), ("b", "offload")]


def test_nobody_goes_in_vain() -> None:
    """Where all of them together would not free enough."""
    for policy in retention_names():
        assert gone(policy, 2001, candidate("a"), candidate("b")) == []


def test_the_lesser_waste_decides_how_a_session_goes() -> None:
    """Dear tokens are copied, dear copies computed again; break-even is where both take the same time."""
    # 100 tokens × 1 ms against 2 copies of 1000 bytes: equal at 50 µs per byte.
    for copy_s_per_byte, action in [(4.9e-5, Action.OFFLOAD), (5.1e-5, Action.DROP)]:
        prices = PRICES._replace(copy_s_per_byte=copy_s_per_byte)
        assert gone("least-waste", 1, candidate(), prices=prices) == [("a", action.value)]


def test_waste_is_memory_times_time() -> None:
    """Of the slab while it waits; of it and of all that run while it is computed again or copied."""
    prices = PRICES._replace(running_bytes=3000)
    assert candidate(pause_s=2.0).keep_waste == pytest.approx(2 * 1000)
    assert prices.drop_waste(candidate()) == pytest.approx(0.1 * (1000 + 3000))
    assert prices.offload_waste(candidate(used=500)) == pytest.approx(2 * 500e-9 * (1000 + 3000))


@pytest.mark.parametrize("policy", ["drop", "offload", "least-waste"])
def test_who_wastes_most_by_staying_goes_first(policy: str) -> None:
    """The long pause before the short one, the short text before the long one."""
    assert gone(policy, 1, candidate("a", pause_s=1.0), candidate("b", pause_s=9.0))[0][0] == "b"
    short = candidate("b", tokens=10, used=100)
    assert gone(policy, 1, candidate("a"), short)[0][0] == "b"


def test_where_the_host_is_full_sessions_are_dropped() -> None:
    """Its room is counted down within one plan, by whichever policy offloads."""
    prices = PRICES._replace(host_free_bytes=1500.0)
    pair = candidate("a"), candidate("b")
    for policy in ("least-waste", "offload"):
        assert gone(policy, 1500, *pair, prices=prices) == [("a", "offload"), ("b", "drop")]


def test_a_pause_is_expected_to_last_as_the_ones_before(model: Model) -> None:
    """Or, without any, as long again as it has lasted: InferCept's estimate."""
    session = Session("a", 10, Slab(model.slab_shape, 10), now_s=100.0)
    session.end_pause(103.0)
    assert session.expected_pause_s(104.0) == 4.0, "there is no pause before the first turn"
    session.tokens.append(1)
    session.idle_since_s = 110.0
    session.end_pause(120.0)
    session.idle_since_s = 130.0
    assert session.expected_pause_s(134.0) == 6.0
    assert session.expected_pause_s(145.0) == 15.0


def test_costs_follow_what_is_measured() -> None:
    """A fifth of the way with each measurement."""
    costs = Costs(prefill_s_per_token=1.0, copy_s_per_byte=1.0)
    costs.prefilled(10, 20.0)
    costs.copied(10, 5.0)
    assert (costs.prefill_s_per_token, costs.copy_s_per_byte) == (pytest.approx(1.2), pytest.approx(0.9))


def test_an_unknown_policy_is_refused() -> None:
    """With the names of the known ones."""
    for name in ("hope", "drop:1", "ttl:", "ttl:soon", "ttl:-1", "ttl:nan"):
        with pytest.raises(UsageError, match=r"keep, drop, offload, least-waste, ttl$|give "):
            retention(name)


def test_keep_refuses_the_session_too_many(make: Callable[..., Engine]) -> None:
    """The allocator says so, and the sessions before go on."""
    with make(3, "keep") as engine:
        for name in "abc":
            engine.open(name, SLAB_TOKENS)
        with pytest.raises(BudgetError, match="session d"):
            engine.open("d", SLAB_TOKENS)
        assert engine.stats().num_sessions == 3
        assert len(ask(engine, "a", [1], 5)) == 5


@pytest.mark.parametrize("policy", ["drop", "offload", "least-waste", "ttl", "ttl:0", "ttl:1e9"])
def test_more_sessions_than_slabs_have_the_same_tokens(make: Callable[..., Engine], policy: str) -> None:
    """Eight sessions of four turns in the room of three, against the room of eight."""
    found = []
    for num_slabs, name in ((8, "keep"), (3, policy)):
        with make(num_slabs, name) as engine:
            for i in range(8):
                engine.open(f"s{i}", SLAB_TOKENS)
            events = []
            for turn in range(4):
                for i in range(8):
                    engine.submit(Turn(f"s{i}", [i + 1, 3 * turn + 1], 5))
                events += run(engine)
            stats = engine.stats()
        found.append(sorted((event.session_id, event.turn_id, event.token_id) for event in events))
    assert found[0] == found[1]
    assert stats.num_dropped + stats.num_offloaded > 10
    if policy == "drop":
        assert stats.num_offloaded == stats.counts.restored_tokens == 0
        assert stats.counts.recomputed_tokens > 100
    if policy == "offload":
        # Only the empty slabs of sessions that had no turn yet were dropped.
        assert stats.num_dropped == 5
        assert stats.counts.recomputed_tokens == 0
        assert stats.counts.restored_tokens > 100


def test_what_a_turn_reused_is_told_apart(make: Callable[..., Engine]) -> None:
    """From the slab, from the host, or computed again; they sum to the text."""
    for policy, place, counts in [
        ("drop", Place.NOWHERE, (0, 9, 0, 6)),
        ("offload", Place.HOST, (6, 3, 6, 0)),
    ]:
        with make(1, policy) as engine:
            engine.open("a", SLAB_TOKENS)
            ask(engine, "a", [1, 2, 3], 4)
            engine.open("b", SLAB_TOKENS)
            assert engine.info("a").place is place
            assert engine.stats().slab_bytes == engine.info("b").slab_bytes
            # b waits and makes room again.
            timings = ask(engine, "a", [4, 5], 1)[0].timings
            assert timings[3:] == counts
            assert (timings.transfer_s > 0) == (policy == "offload")
            assert engine.info("a").place is Place.DEVICE


def test_the_host_is_charged_and_given_back(make: Callable[..., Engine], model: Model) -> None:
    """Used bytes only, never more than allowed; a session that is closed there leaves nothing."""
    limit = 10 * model.slab_shape.token_bytes
    with make(1, "least-waste", host_capacity_bytes=limit) as engine:
        for i in range(6):
            engine.open(f"s{i}", SLAB_TOKENS)
            ask(engine, f"s{i}", [i, 1, 2], 3)
            assert engine.stats().host_bytes <= limit
        stats = engine.stats()
        assert stats.num_on_host + stats.num_nowhere == 5
        for i in range(6):
            engine.close(f"s{i}")
        assert engine.stats().host_bytes == 0


@pytest.mark.parametrize("policy", ["drop", "offload", "least-waste", "ttl:1e9"])
def test_a_full_host_keeps_no_turn_waiting(make: Callable[..., Engine], policy: str) -> None:
    """Two sessions take turns in one slab, with no room on the host at all."""
    with make(1, policy, host_capacity_bytes=0) as engine:
        engine.open("a", SLAB_TOKENS)
        engine.open("b", SLAB_TOKENS)
        assert [len(ask(engine, name, [1], 3)) for name in "abab"] == [3] * 4


def test_a_session_that_runs_never_makes_room(make: Callable[..., Engine]) -> None:
    """A new one is refused while all slabs are in use, and a turn waits until one is not."""
    with make(1, "drop") as engine:
        engine.open("a", SLAB_TOKENS)
        engine.open("b", SLAB_TOKENS)
        assert engine.info("a").place is Place.NOWHERE
        engine.submit(Turn("b", [1], 10))
        engine.step()
        engine.submit(Turn("a", [1], 2))
        with pytest.raises(BudgetError):
            engine.open("c", SLAB_TOKENS)
        order = [event.session_id for event in run(engine)]
        assert order == ["b"] * 9 + ["a"] * 2


def test_a_turn_that_waited_long_takes_no_slab_in_use(make: Callable[..., Engine]) -> None:
    """It is overtaken as often as may be while another decodes, and then gets the slab of one that waits."""
    texts = {}
    for num_slabs in (2, 3):
        with make(num_slabs, "drop") as engine:
            for name in "abc":
                engine.open(name, SLAB_TOKENS)
            places = [engine.info(name).place for name in "abc"]
            assert places.count(Place.NOWHERE) == 3 - num_slabs
            engine.submit(Turn("c", [1], 40))
            engine.submit(Turn("b", [2], 40))
            engine.step()
            engine.submit(Turn("a", [3], 40))
            engine._scheduler._queue[0].num_overtaken = MAX_OVERTAKEN
            events = run(engine)
            texts[num_slabs] = {
                name: [event.token_id for event in events if event.session_id == name] for name in "abc"
            }
    assert texts[2] == texts[3]


def test_a_turn_waits_for_memory_that_another_process_holds(model: Model) -> None:
    """The engine says that it is blocked, and goes on when the memory is free."""
    slab_bytes = SLAB_TOKENS * model.slab_shape.token_bytes
    budget = DeviceBudget.create(model.weight_bytes + 2 * slab_bytes)
    with Engine(model, budget, max_session_tokens=SLAB_TOKENS, policy="drop") as engine:
        engine.open("a", SLAB_TOKENS)
        engine.open("b", SLAB_TOKENS)
        engine.open("c", SLAB_TOKENS)
        [lost] = [name for name in "abc" if engine.info(name).place is Place.NOWHERE]
        for name in {"a", "b", "c"} - {lost}:
            engine.close(name)
        other = budget.allocate(budget.free_bytes, owner="another")
        engine.submit(Turn(lost, [1, 2], 3))
        num_refusals = budget.num_refusals
        assert engine.step() == []
        assert engine.is_blocked
        assert not engine.is_idle
        assert budget.num_refusals == num_refusals, "waiting is not being refused"
        other.release()
        assert len(run(engine)) == 3
        assert not engine.is_blocked
    assert budget.used_bytes == 0


def test_a_turn_without_room_is_overtaken_only_so_often(make: Callable[..., Engine]) -> None:
    """Sessions that have their slabs and always a next turn do not starve one that has none."""
    with make(2, "drop", max_batch=8) as engine:
        for name in "abc":
            engine.open(name, SLAB_TOKENS)
        [lost] = [name for name in "abc" if engine.info(name).place is Place.NOWHERE]
        busy = [name for name in "abc" if name != lost]
        for name in busy:
            engine.submit(Turn(name, [1], 1))
        engine.submit(Turn(lost, [1], 1))
        num_others = 0
        for _ in range(10 * MAX_OVERTAKEN):
            events = engine.step()
            for event in events:
                if event.session_id == lost:
                    assert MAX_OVERTAKEN <= num_others <= MAX_OVERTAKEN + 4
                    return
                num_others += 1
                # Its next turn comes at once; a new text each time, since a session holds only so much.
                engine.close(event.session_id)
                engine.open(event.session_id, SLAB_TOKENS)
                engine.submit(Turn(event.session_id, [1], 1))
        raise AssertionError(f"overtaken {num_others} times")
