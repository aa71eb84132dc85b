"""Interleavings of opens, turns, cancels and failing copies, on three models in an arena for one to three."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from harness.errors import ArenaError, BudgetError
from harness.residency.arms import ARMS
from harness.residency.collate import CollatingQueue
from harness.sessions.contract import Turn, Undone
from harness.sessions.core.retention import retention_names
from tests.tiny_ring import NAMES, VOCAB_SIZE, LaneFailingFor, bytes_of, continuation, ring, tiny_model

MAX_TOKENS = 40
SIZES = {name: bytes_of(name) for name in NAMES}
LIVE_ARMS = sorted(set(ARMS) - {"belady", "resident"})
SESSIONS = st.sampled_from("pqrst")


@cache
def next_token(model: str, text: tuple[int, ...]) -> int:
    """The greedy token after a text, computed from nothing by the resident reference."""
    return continuation(model, text, 1)[0]


class Asked(NamedTuple):
    """A turn that is not over."""

    session: str
    text: list[int]
    num_left: int


class Interleaving(RuleBasedStateMachine):
    """Sessions as they ought to be, beside the engine."""

    @initialize(
        arm_name=st.sampled_from(LIVE_ARMS),
        share=st.floats(0, 1),
        policy=st.sampled_from(retention_names()),
        num_slabs=st.integers(1, 4),
        prefill_chunk=st.integers(1, 8),
        max_wait_s=st.sampled_from([0, 2, 1000]),
        min_residency_s=st.sampled_from([0, 3]),
    )
    def start(
        self,
        arm_name: str,
        share: float,
        policy: str,
        num_slabs: int,
        prefill_chunk: int,
        max_wait_s: float,
        min_residency_s: float,
    ) -> None:
        least, most = max(SIZES.values()), sum(SIZES.values())
        slab_bytes = MAX_TOKENS * max(tiny_model(name).slab_shape.token_bytes for name in NAMES)
        self.now_s = 0.0
        self.made = ring(
            least + int(share * (most - least)),
            num_slabs * slab_bytes,
            arm_name=arm_name,
            lane_kind=LaneFailingFor,
            queue=CollatingQueue(max_wait_s=max_wait_s, min_residency_s=min_residency_s),
            policy=policy,
            prefill_chunk=prefill_chunk,
            clock=lambda: self.now_s,
        )
        self.engine = self.made.__enter__()
        self.lane: Any = self.engine.arena.lane
        self.texts: dict[str, list[int]] = {}
        self.models: dict[str, str] = {}
        self.asked: dict[int, Asked] = {}

    @rule(session=SESSIONS, model=st.sampled_from(NAMES))
    def open(self, session: str, model: str) -> None:
        if session in self.texts:
            return
        used = self.engine.stats()["slab_bytes"], self.engine.stats()["num_sessions"]
        try:
            self.engine.open(session, MAX_TOKENS, model=model)
        except BudgetError:
            stats = self.engine.stats()
            assert used == (stats["slab_bytes"], stats["num_sessions"]), "a refusal changed something"
        else:
            self.texts[session], self.models[session] = [], model

    @precondition(lambda self: self.texts)
    @rule(session=SESSIONS, text=st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=9),
          num=st.integers(1, 5))  # fmt: skip
    def submit(self, session: str, text: list[int], num: int) -> None:
        held = self.texts.get(session)
        is_busy = any(turn.session == session for turn in self.asked.values())
        if held is None or is_busy or len(held) + len(text) + num > MAX_TOKENS:
            return
        turn_id = self.engine.submit(Turn(session, text, num))
        assert turn_id not in self.asked
        self.asked[turn_id] = Asked(session, [*held, *text], num)

    @precondition(lambda self: self.asked)
    @rule(num=st.sampled_from([1, 2, 5, 20]))
    def step(self, num: int) -> None:
        for _ in range(num):
            self.step_once()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        turn_id = data.draw(st.sampled_from(sorted(self.asked)))
        assert self.engine.cancel(turn_id)
        del self.asked[turn_id]

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), is_meant=st.sampled_from([False, False, True]))
    def close(self, data: st.DataObject, is_meant: bool) -> None:
        if not is_meant:
            return
        session = data.draw(st.sampled_from(sorted(self.texts)))
        self.engine.close(session)
        del self.texts[session]
        self.asked = {number: turn for number, turn in self.asked.items() if turn.session != session}

    @rule(fails=st.sets(st.sampled_from(NAMES), max_size=1), kills=st.booleans())
    def break_or_mend(self, fails: set[str], kills: bool) -> None:
        self.lane.fails, self.lane.kills = fails, kills

    def step_once(self) -> None:
        self.now_s += 1
        for event in self.engine.step():
            turn = self.asked.pop(event.turn_id)
            if isinstance(event, Undone):
                assert isinstance(event.error, ArenaError)
                continue
            token = event.token_id
            assert token == next_token(self.models[turn.session], tuple(turn.text)), (
                "not the model's own token"
            )
            assert (event.finish_reason == "length") == (turn.num_left == 1)
            if turn.num_left == 1:
                self.texts[turn.session] = [*turn.text, token]
            else:
                self.asked[event.turn_id] = Asked(turn.session, [*turn.text, token], turn.num_left - 1)

    @invariant()
    def holds_what_it_drew(self) -> None:
        if hasattr(self, "engine"):
            stats = self.engine.stats()
            used = self.engine.budget.used_bytes
            assert used == stats["arena_bytes"] + stats["slab_bytes"]
            assert sum(stats[f"resident_bytes {name}"] for name in NAMES) <= stats["arena_bytes"]

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        self.lane.fails = set()
        for _ in range(3000):
            if self.engine.is_idle:
                break
            self.step_once()
        assert self.engine.is_idle, f"a turn never ended: {self.engine.stats()}"
        assert not self.asked
        self.made.__exit__(None, None, None)


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=12, stateful_step_count=40, deadline=None)


@pytest.mark.nightly
def test_many_interleavings_keep_every_session_whole() -> None:
    """The same, for longer."""
    run_state_machine_as_test(
        Interleaving, settings=settings(max_examples=200, stateful_step_count=50, deadline=None)
    )
