"""Sessions of several models in one arena: whose batch is next, what room there is, what a failure ends."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import ArenaError, BudgetError, UnavailableError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.collate import CollatingQueue
from harness.residency.device.cpu import CpuLane
from harness.sessions.contract import KvRows, Turn, Undone
from harness.sessions.ring.engine import RingEngine
from harness.sessions.ring.hosting import HostedRing, make_lane
from tests.tiny_ring import (
    NAMES,
    VOCAB_SIZE,
    LaneFailingFor,
    bytes_of,
    continuation,
    ring,
    run,
    tiny_model,
    tokens_of,
)

ONE = max(bytes_of(name) for name in NAMES) + 64
"""An arena that holds the largest model and not two."""
ALL = sum(bytes_of(name) for name in NAMES)
PLENTY = 1 << 22


def turn_of(engine: RingEngine, session: str, text: list[int], num: int, **more: Any) -> int:
    return engine.submit(Turn(session, text, num, **more))


def slab_bytes(name: str, num_tokens: int) -> int:
    return num_tokens * tiny_model(name).slab_shape.token_bytes


def slow_lane(bytes_per_s: float) -> type[CpuLane]:
    """A lane behind a declared link."""

    class Slow(CpuLane):
        def __init__(self, capacity_bytes: int, **options: Any) -> None:
            super().__init__(capacity_bytes, bytes_per_s=bytes_per_s, **options)

    return Slow


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TestTokens:
    """Are each model's own."""

    @pytest.mark.parametrize(
        "arm_name", ["home-slot-lookahead", "chunk-slots-lookahead", "lru", "reload-every"]
    )
    @pytest.mark.parametrize("arena_bytes", [ONE, ALL], ids=["for one", "for all"])
    def test_sessions_of_three_models_together_give_what_each_gives_alone(
        self, arm_name: str, arena_bytes: int
    ) -> None:
        """Twelve turns at once, then twelve more on top of them; every switch is forced."""
        with ring(arena_bytes, PLENTY, arm_name=arm_name, queue=CollatingQueue(max_wait_s=0)) as engine:
            texts = {f"s{i}": [(7 * i + j) % VOCAB_SIZE for j in range(1 + i)] for i in range(12)}
            for number, session in enumerate(texts):
                engine.open(session, 64, model=NAMES[number % 3])
            for more in ([], [3, 1]):
                turns = {}
                for session, text in texts.items():
                    text += more
                    turns[session] = turn_of(engine, session, more or text, 5)
                events = run(engine)
                for number, (session, text) in enumerate(texts.items()):
                    found = tokens_of(events, turns[session])
                    assert found == continuation(NAMES[number % 3], text, 5), session
                    text += found
            stats = engine.stats()
            assert stats["finished_turns"] == 24
            assert stats["num_switches"] >= 6
            assert stats["bytes_out"] == 0

    def test_a_model_larger_than_the_arena_is_served_too(self) -> None:
        """It streams, beside one that fits."""
        with ring(bytes_of("ada") - 64, PLENTY, queue=CollatingQueue(max_wait_s=0)) as engine:
            turns = {}
            for name in NAMES:
                engine.open(name, 40, model=name)
                turns[name] = turn_of(engine, name, [1, 2, 3], 8)
            events = run(engine)
            for name, turn_id in turns.items():
                assert tokens_of(events, turn_id) == continuation(name, [1, 2, 3], 8)

    def test_the_first_model_is_the_default(self) -> None:
        """And an unknown one is refused by name, as is a session that is open."""
        with ring(ALL, PLENTY) as engine:
            assert engine.info.model == NAMES[0]
            assert [served.name for served in engine.info.models] == list(NAMES)
            engine.open("a", 40)
            turn_id = turn_of(engine, "a", [4], 3)
            assert tokens_of(run(engine), turn_id) == continuation(NAMES[0], [4], 3)
            with pytest.raises(UsageError, match="model 'dan' is not served here; ask for ada, ben, cyd"):
                engine.open("b", 40, model="dan")
            with pytest.raises(UsageError, match="session 'a' is open already"):
                engine.open("a", 40, model="ben")
            with pytest.raises(UsageError, match="session 'b' is not open; open it first"):
                turn_of(engine, "b", [1], 1)


class TestTurns:
    """Whose batch is next."""

    def models_in_turn(self, engine: RingEngine, clock: Clock, step_s: float = 1.0) -> str:
        """One turn of four tokens per model; the first letters of the models as they were computed."""
        for name in NAMES:
            engine.open(name, 40, model=name)
            turn_of(engine, name, [1, 2], 4)
        found = ""
        while not engine.is_idle:
            found += "".join(event.session_id[0] for event in engine.step())
            clock.now_s += step_s
        return found

    def test_a_model_goes_on_while_it_has_turns(self) -> None:
        """Three switches for twelve tokens."""
        clock = Clock()
        with ring(ONE, PLENTY, queue=CollatingQueue(), clock=clock) as engine:
            assert self.models_in_turn(engine, clock) == "aaaabbbbcccc"
            assert engine.stats()["num_switches"] == 3

    def test_nobody_waits_longer_than_the_maximum(self) -> None:
        """With none at all, models take turns; with two steps, batches of two to three do."""
        clock = Clock()
        with ring(ONE, PLENTY, queue=CollatingQueue(max_wait_s=0), clock=clock) as engine:
            assert self.models_in_turn(engine, clock) == "abcabcabcabc"
            assert engine.stats()["num_switches"] == 12
        clock = Clock()
        with ring(ONE, PLENTY, queue=CollatingQueue(max_wait_s=2), clock=clock) as engine:
            order = self.models_in_turn(engine, clock)
            assert sorted(order) == sorted("abc" * 4)
            assert 3 < engine.stats()["num_switches"] < 12

    def test_a_model_that_came_stays_a_while(self) -> None:
        """Though it has no turns and another has: its session may go on."""
        clock = Clock()
        queue = CollatingQueue(min_residency_s=10)
        with ring(ONE, PLENTY, queue=queue, clock=clock) as engine:
            engine.open("a", 40, model="ada")
            engine.open("b", 40, model="ben")
            first = turn_of(engine, "a", [1], 1)
            assert tokens_of(run(engine), first) == continuation("ada", [1], 1)
            turn_of(engine, "b", [1], 2)
            assert not engine.step()
            assert engine.is_blocked
            assert not engine.is_idle
            turn_of(engine, "a", [2], 1)
            assert [event.session_id for event in engine.step()] == ["a"]
            clock.now_s = 11
            assert [event.session_id for event in engine.step()] == ["b"]
            assert not engine.is_blocked
            assert engine.stats()["num_switches"] == 2

    def test_what_can_be_is_copied_for_whoever_is_next(self) -> None:
        """Beside the model that runs; without lookahead, nothing is."""
        for arm_name, looks_ahead in (("home-slot-lookahead", True), ("home-slot", False)):
            with ring(ONE, PLENTY, arm_name=arm_name, queue=CollatingQueue()) as engine:
                for name in NAMES:
                    engine.open(name, 40, model=name)
                # The largest model drives out the others.
                tokens_of_turn(engine, "ada", [1], 1)
                turns = {name: turn_of(engine, name, [1, 2], 4) for name in ("cyd", "ben")}
                events = list(engine.step())
                engine.arena.drain()
                events += run(engine)
                assert (engine.stats()["ahead_bytes"] > 0) == looks_ahead
                for name, turn_id in turns.items():
                    assert tokens_of(events, turn_id) == continuation(name, [1, 2], 4)

    def test_a_hit_copies_nothing(self) -> None:
        """Where all fit, each model is copied once."""
        with ring(ALL, PLENTY, arm_name="resident", queue=CollatingQueue(max_wait_s=0)) as engine:
            for name in NAMES:
                engine.open(name, 40, model=name)
                turn_of(engine, name, [1, 2], 6)
            run(engine)
            stats = engine.stats()
            assert stats["hits"] == stats["num_begun"] == 18
            assert stats["bytes_in"] == 0
            assert [stats[f"resident_bytes {name}"] for name in NAMES] == [bytes_of(name) for name in NAMES]


class TestTimings:
    """Where a turn's time went."""

    def test_waiting_for_weights_is_waiting(self) -> None:
        """What the forward pass was blocked for is in queue_s, and no computing."""
        with ring(ONE, PLENTY, lane_kind=slow_lane(4e6), queue=CollatingQueue()) as engine:
            for name in ("ada", "cyd", "ada"):
                session = f"{name} {engine.stats()['steps']}"
                engine.open(session, 20, model=name)
                turn_of(engine, session, [1, 2, 3], 1)
                (event,) = run(engine)
                blocked_s = engine.models[name].blocked_s
            assert engine.stats()["bytes_in"] > 0
            assert 0 < blocked_s < event.timings.queue_s


class TestRoom:
    """Arena, keys and values share one budget."""

    def test_a_session_is_refused_when_the_arena_has_the_rest(self) -> None:
        """And taken when another has gone, of whatever model."""
        room = slab_bytes("ada", 40)
        with ring(ONE, room, policy="keep") as engine:
            engine.open("a", 40, model="ada")
            with pytest.raises(BudgetError, match=r"session b: \d+ bytes asked, 0 of"):
                engine.open("b", 10, model="ben")
            engine.close("a")
            engine.open("b", 10, model="ben")

    def test_a_session_that_waits_makes_room_for_one_of_another_model(self) -> None:
        """And finds its tokens again when it goes on."""
        with ring(ONE, slab_bytes("ada", 40), policy="drop", queue=CollatingQueue(max_wait_s=0)) as engine:
            engine.open("a", 40, model="ada")
            first = tokens_of_turn(engine, "a", [1, 2, 3], 4)
            engine.open("b", 40, model="cyd")
            assert engine.stats()["num_nowhere"] == 1
            assert tokens_of_turn(engine, "b", [5], 3) == continuation("cyd", [5], 3)
            text = [1, 2, 3, *first, 9]
            assert tokens_of_turn(engine, "a", [9], 4) == continuation("ada", text, 4)
            assert engine.stats()["recomputed_tokens"] > 0

    def test_turns_of_two_models_with_room_for_one_both_end(self) -> None:
        """One waits for the other's memory, and is chosen when it has it."""
        with ring(ONE, slab_bytes("ada", 40), policy="drop", queue=CollatingQueue(max_wait_s=0)) as engine:
            engine.open("a", 40, model="ada")
            engine.open("b", 40, model="ben")
            turns = {name: turn_of(engine, name, [1, 2], 10) for name in "ab"}
            events = run(engine)
            assert tokens_of(events, turns["a"]) == continuation("ada", [1, 2], 10)
            assert tokens_of(events, turns["b"]) == continuation("ben", [1, 2], 10)

    def test_there_is_one_limit_for_the_sessions_of_all_models(self) -> None:
        """The message says how many there may be."""
        with ring(ONE, PLENTY, max_sessions=2) as engine:
            engine.open("a", 10, model="ada")
            engine.open("b", 10, model="ben")
            with pytest.raises(BudgetError, match="session 'c': 2 are open, the most there may be"):
                engine.open("c", 10, model="cyd")

    def test_an_arena_that_cannot_take_a_model_is_refused_at_the_start(self) -> None:
        """With what it needs, and the budget has everything back."""
        budget = DeviceBudget.create(10**8)
        for arm_name, says in (
            (
                "lru",
                r"phi-mini: 5250880 bytes in an arena of 3000000; give the arena 5250880, or use home-slot",
            ),
            ("nothing", "arm 'nothing': unknown; use reload-every"),
            ("belady", "arm belady: a bound, which has to know what will be asked for"),
        ):
            with pytest.raises((BudgetError, UsageError), match=says):
                HostedRing.load(["phi-mini"], budget, arena_bytes=3_000_000, arm_name=arm_name)
        with pytest.raises(
            BudgetError, match="arena: 200000000 bytes asked, 100000000 of 100000000 are free"
        ):
            HostedRing.load(["phi-mini"], budget, arena_bytes=200_000_000)
        with pytest.raises(UsageError, match="declared for cuda, which has its own; leave it out"):
            make_lane("cuda", 1, bytes_per_s=1e9, budget=budget)
        assert budget.used_bytes == 0
        budget.remove()


class TestEnds:
    """Cancelled, closed, failed."""

    def test_a_cancelled_turn_has_not_happened(self) -> None:
        """In the midst of others, and of another model's batch."""
        with ring(ONE, PLENTY, queue=CollatingQueue(max_wait_s=0)) as engine:
            for name in NAMES:
                engine.open(name, 64, model=name)
            before = {name: tokens_of_turn(engine, name, [1, 2], 3) for name in NAMES}
            turns = {name: turn_of(engine, name, [3], 20) for name in NAMES}
            events: list[Any] = []
            for _ in range(5):
                events += engine.step()
            assert engine.cancel(turns["ben"])
            assert not engine.cancel(turns["ben"])
            events += run(engine)
            for name in ("ada", "cyd"):
                assert tokens_of(events, turns[name]) == continuation(name, [1, 2, *before[name], 3], 20)
            again = tokens_of_turn(engine, "ben", [4], 5)
            assert again == continuation("ben", [1, 2, *before["ben"], 4], 5)

    def test_closing_a_session_ends_its_turn(self) -> None:
        """The others go on."""
        with ring(ONE, PLENTY, queue=CollatingQueue(max_wait_s=0)) as engine:
            for name in NAMES:
                engine.open(name, 64, model=name)
            turns = {name: turn_of(engine, name, [1, 2], 6) for name in NAMES}
            engine.close("ada")
            events = run(engine)
            assert tokens_of(events, turns["ben"]) == continuation("ben", [1, 2], 6)
            assert not tokens_of(events, turns["ada"])
            engine.open("ada", 64, model="cyd")

    @pytest.mark.parametrize("kills", [False, True], ids=["a copy fails", "the copier dies"])
    def test_a_copy_that_fails_ends_the_turns_of_its_model_alone(self, kills: bool) -> None:
        """Each is told why and undone; the others give their tokens; then the model serves again."""
        with ring(ONE, PLENTY, lane_kind=LaneFailingFor, queue=CollatingQueue(max_wait_s=0)) as engine:
            lane: Any = engine.arena.lane
            for name in NAMES:
                engine.open(name, 64, model=name)
            first = {name: turn_of(engine, name, [1, 2], 3) for name in NAMES}
            events = run(engine)
            texts = {name: [1, 2, *tokens_of(events, turn)] for name, turn in first.items()}
            lane.fails, lane.kills = {"ben"}, kills
            turns = {name: turn_of(engine, name, [3], 6) for name in NAMES}
            events = run(engine)
            undone = [event for event in events if isinstance(event, Undone)]
            assert [event.turn_id for event in undone] == [turns["ben"]]
            assert isinstance(undone[0].error, ArenaError)
            assert ("told to die" if kills else "Input/output error") in str(undone[0].error)
            for name in ("ada", "cyd"):
                assert tokens_of(events, turns[name]) == continuation(name, [*texts[name], 3], 6)
            assert engine.stats()["turns_undone ben"] == 1
            lane.fails = set()
            again = turn_of(engine, "ben", [3], 6)
            assert tokens_of(run(engine), again) == continuation("ben", [*texts["ben"], 3], 6)

    def test_keys_values_and_weights_do_not_cross(self) -> None:
        """Rows of several models have several sizes, and nobody may write to a blob."""
        with ring(ONE, PLENTY) as engine:
            engine.open("a", 10)
            assert engine.info.kv_token_bytes == 0
            with pytest.raises(UnavailableError, match="serve one model for that"):
                engine.read_kv("a", 0, 1)
            with pytest.raises(UnavailableError, match="serve one model for that"):
                engine.write_kv("a", 0, KvRows([1], b""))
            with pytest.raises(UnavailableError, match="serve one model for that"):
                engine.write_weights(["0"], [b""])


def tokens_of_turn(engine: RingEngine, session: str, text: list[int], num: int) -> list[int]:
    turn_id = turn_of(engine, session, text, num)
    return tokens_of(run(engine), turn_id)
