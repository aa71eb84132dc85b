"""Any interleaving of opens, turns, cancels and closes gives every session its own tokens.

The tokens of a session alone are computed here by one forward pass over its whole text per token: no slab
that lives on, no batch, no retention. Double precision, so that rounding decides no token.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest
import torch
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

from harness.errors import BudgetError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core import Engine, Event, Model, Slab, Span, Turn, retention_names
from harness.sessions.core.loading import random_llama

VOCAB_SIZE = 61
MAX_TOKENS = 60
NAMES = st.sampled_from("abcd")
TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=8)


@cache
def tiny() -> Model:
    donor = random_llama(
        4,
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return Model.from_transformers("tiny", donor.double())


@cache
def next_token(text: tuple[int, ...]) -> int:
    """The greedy token after a text, computed from nothing."""
    with torch.inference_mode():
        slab = Slab(tiny().slab_shape, len(text))
        return int(tiny().forward([Span(slab, text)]).argmax())


class Asked(NamedTuple):
    """A turn that is not over."""

    session_id: str
    num_held: int
    """Tokens of the session and of the turn, before the first answer."""
    text: list[int]
    num_left: int
    stop_ids: tuple[int, ...]


class Interleaving(RuleBasedStateMachine):
    """Sessions as they ought to be, beside the engine."""

    @initialize(
        policy=st.sampled_from(retention_names()),
        num_slabs=st.integers(1, 3),
        prefill_chunk=st.integers(1, 8),
        max_batch=st.integers(1, 4),
        host_tokens=st.one_of(st.none(), st.integers(0, 60)),
    )
    def start(
        self, policy: str, num_slabs: int, prefill_chunk: int, max_batch: int, host_tokens: int | None
    ) -> None:
        model = tiny()
        token_bytes = model.slab_shape.token_bytes
        self.budget = DeviceBudget.create(model.weight_bytes + num_slabs * MAX_TOKENS * token_bytes)
        self.engine = Engine(
            model,
            self.budget,
            max_session_tokens=MAX_TOKENS,
            policy=policy,
            prefill_chunk=prefill_chunk,
            max_batch=max_batch,
            host_capacity_bytes=None if host_tokens is None else host_tokens * token_bytes,
        )
        self.texts: dict[str, list[int]] = {}
        self.asked: dict[int, Asked] = {}

    @rule(name=NAMES, max_tokens=st.integers(MAX_TOKENS - 10, MAX_TOKENS))
    def open(self, name: str, max_tokens: int) -> None:
        if name in self.texts:
            return
        before = self.engine.stats()
        try:
            self.engine.open(name, max_tokens)
        except BudgetError:
            assert self.engine.stats() == before, "a refusal changed something"
        else:
            self.texts[name] = []

    @precondition(lambda self: self.texts)
    @rule(name=NAMES, tokens=TOKENS, num=st.integers(1, 6), stops=st.sets(st.integers(0, VOCAB_SIZE - 1)))
    def submit(self, name: str, tokens: list[int], num: int, stops: set[int]) -> None:
        text = self.texts.get(name)
        is_busy = any(turn.session_id == name for turn in self.asked.values())
        if text is None or is_busy or len(text) + len(tokens) + num > self.engine.info(name).max_tokens:
            return
        turn_id = self.engine.submit(Turn(name, tokens, num, stop_ids=tuple(stops)))
        held = [*text, *tokens]
        self.asked[turn_id] = Asked(name, len(held), held, num, tuple(stops))

    @precondition(lambda self: self.asked)
    @rule(num=st.sampled_from([1, 2, 5, 40]))
    def step(self, num: int) -> None:
        for _ in range(num):
            for event in self.engine.step():
                self.check(event)

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
            # Sessions that live long are those that lose their slabs.
            return
        name = data.draw(st.sampled_from(sorted(self.texts)))
        self.engine.close(name)
        del self.texts[name]
        self.asked = {number: turn for number, turn in self.asked.items() if turn.session_id != name}

    def check(self, event: Event) -> None:
        turn = self.asked[event.turn_id]
        assert event.session_id == turn.session_id
        assert event.token_id == next_token(tuple(turn.text)), "not the session's own token"
        text = [*turn.text, event.token_id]
        is_stopped = event.token_id in turn.stop_ids
        assert event.is_last == (is_stopped or turn.num_left == 1)
        timings = event.timings
        assert timings.reused_tokens + timings.prefilled_tokens == turn.num_held
        assert timings.restored_tokens in (0, timings.reused_tokens)
        assert 0 <= timings.recomputed_tokens <= timings.prefilled_tokens
        if event.is_last:
            self.texts[turn.session_id] = text
            del self.asked[event.turn_id]
        else:
            self.asked[event.turn_id] = turn._replace(text=text, num_left=turn.num_left - 1)

    @invariant()
    def holds_what_it_drew(self) -> None:
        if not hasattr(self, "engine"):
            return
        stats = self.engine.stats()
        assert self.budget.used_bytes == stats.weight_bytes + stats.slab_bytes
        for name, text in self.texts.items():
            if all(turn.session_id != name for turn in self.asked.values()):
                assert self.engine.token_ids(name) == text

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for _ in range(2000):
            if self.engine.is_idle:
                break
            for event in self.engine.step():
                self.check(event)
        assert self.engine.is_idle, "a turn never ended"
        assert not self.asked
        self.engine.shutdown()
        assert self.budget.used_bytes == 0
        self.budget.remove()


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=20, stateful_step_count=50, deadline=None)


@pytest.mark.nightly
def test_many_interleavings_keep_every_session_whole() -> None:
    """The same, for longer."""
    run_state_machine_as_test(
        Interleaving, settings=settings(max_examples=300, stateful_step_count=50, deadline=None)
    )
