"""The engine: weights drawn from the budget once, sessions, turns, steps. For one thread.

    engine = Engine(load().model, budget, max_session_tokens=512, max_sessions=64)
    engine.open("a", 512)
    engine.submit(Turn("a", [1, 2, 3], 50))
    while not engine.is_idle:
        for event in engine.step(): ...

What it promises: a session's tokens are those of the same session alone, whatever else runs, and whatever
retention did to its slab; numbers behind them move by rounding only (about 1e-6 of the logits' spread, where
a batch or a recomputed prefix sums in another order). A cancelled turn has not happened: its session is as
it was before. After `shutdown` the budget holds nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from time import perf_counter
from types import TracebackType
from typing import Self

import torch

from harness.errors import UnavailableError, UsageError
from harness.hardware.allocation import Allocation
from harness.hardware.budget import DeviceBudget
from harness.sessions.core.checks import check_positive, checked_tokens, checked_turn
from harness.sessions.core.costs import Costs
from harness.sessions.core.decoding import check_way, way_of
from harness.sessions.core.model import Model
from harness.sessions.core.retention import Retention, retention
from harness.sessions.core.scheduler import Scheduler
from harness.sessions.core.session import SessionInfo
from harness.sessions.core.slab import Slab
from harness.sessions.core.stats import Stats
from harness.sessions.core.store import Store
from harness.sessions.core.turns import Event, Turn
from harness.sessions.decoding_ways import WAYS

__all__ = ["Engine", "Stats"]


class Engine:
    """Many sessions over one model.

    Arguments
    ---------
    budget: what weights and slabs are drawn from.
    max_session_tokens: the most that a session may hold, text and answers.
    max_sessions: open at once, wherever their keys and values are.
    policy: who makes room when the budget is short; a `Retention` or its name.
    prefill_chunk: prompt tokens that one step computes at most.
    max_batch: turns that are computed at once.
    host_capacity_bytes: for offloaded sessions; None is no limit.
    clock: seconds, for tests.
    draws_weights: whether the weights' bytes are drawn; not where they lie in memory that was drawn already.
    turn_ids: where turns get their ids, for engines that share them.
    decoding: the last of `decoding_ways.WAYS` in which decode steps may be run, where that can be. To record
        graphs takes seconds, which an engine of a few steps has no use for.

    Raises
    ------
    BudgetError: the weights do not fit.
    UsageError: a limit makes no sense, or is beyond the model's positions.
    """

    def __init__(
        self,
        model: Model,
        budget: DeviceBudget,
        *,
        max_session_tokens: int = 1024,
        max_sessions: int = 256,
        policy: Retention | str = "least-waste",
        prefill_chunk: int = 256,
        max_batch: int = 64,
        host_capacity_bytes: int | None = None,
        clock: Callable[[], float] = perf_counter,
        draws_weights: bool = True,
        turn_ids: Iterator[int] | None = None,
        decoding: str = WAYS[-1],
    ) -> None:
        for name, value in (("prefill_chunk", prefill_chunk), ("max_batch", max_batch)):
            check_positive(name, value)
        check_positive("max_sessions", max_sessions)
        check_positive("max_session_tokens", max_session_tokens, model.shape.max_positions)
        if host_capacity_bytes is not None and host_capacity_bytes < 0:
            raise UsageError(f"host_capacity_bytes is {host_capacity_bytes}; give at least 0, or None")
        check_way(decoding)
        self.model = model
        self.max_session_tokens = max_session_tokens
        self._policy = retention(policy) if isinstance(policy, str) else policy
        self._weights = _drawn(model, budget) if draws_weights else None
        try:
            with torch.inference_mode():
                self.decoding = way_of(
                    model,
                    max_batch=min(max_batch, max_sessions),
                    max_tokens=max_session_tokens,
                    most=decoding,
                )
                costs = Costs.measure(model, self.decoding.decoder)
        except BaseException:
            self._release()
            raise
        self._store = Store(
            model.slab_shape,
            budget,
            self._policy,
            costs,
            copies=model.copies,
            max_session_tokens=max_session_tokens,
            max_sessions=max_sessions,
            host_capacity_bytes=host_capacity_bytes,
            clock=clock,
        )
        self._scheduler = Scheduler(
            model, self._store, costs, prefill_chunk=prefill_chunk, max_batch=max_batch, clock=clock,
            turn_ids=turn_ids or count(1), decoder=self.decoding.decoder,
        )  # fmt: skip

    @property
    def is_idle(self) -> bool:
        """Whether no turn is queued or runs."""
        return not self._scheduler.num_queued and not self._scheduler.num_running

    @property
    def is_blocked(self) -> bool:
        """Whether turns are queued and none runs: as of the last step, others hold the memory they need."""
        return self._scheduler.num_queued > 0 and not self._scheduler.num_running

    @property
    def num_running(self) -> int:
        """Turns that a step would compute."""
        return self._scheduler.num_running

    def share_room(self, others: Sequence[Engine]) -> None:
        """Let waiting sessions of the others make room for this one's; they draw on the same budget."""
        self._store.together = tuple(dict.fromkeys([self._store, *(other._store for other in others)]))

    def open(self, session_id: str, max_tokens: int) -> None:
        """Open a session that may hold `max_tokens` tokens, and draw its slab.

        Raises
        ------
        BudgetError: there is no room, or there are too many sessions; nothing changed.
        UsageError: the id is taken or no name, or `max_tokens` is not between 1 and `max_session_tokens`.
        """
        with torch.inference_mode():
            self._store.open(session_id, max_tokens)

    def close(self, session_id: str) -> None:
        """End a session, its turn included, and give its memory back. Raises UsageError if it is not open."""
        session = self._store.get(session_id)
        if session.turn_id is not None:
            self._scheduler.cancel(session.turn_id)
        self._store.close(session_id)

    def submit(self, turn: Turn) -> int:
        """Queue a turn; the id that its events carry.

        Raises
        ------
        UsageError: the session is not open or has a turn already, there is nothing to compute, a token is not
            in the vocabulary, or tokens and answer exceed what the session may hold.
        """
        session = self._store.get(turn.session_id)
        return self._scheduler.add(checked_turn(turn, session, self.model.shape.vocab_size), session)

    def step(self) -> list[Event]:
        """Admit turns and compute one batch; the tokens that it gave, none while prompts are computed."""
        with torch.inference_mode():
            return self._scheduler.step()

    def admit(self) -> None:
        """Give room to the turns that find it, and compute nothing."""
        with torch.inference_mode():
            self._scheduler.admit()

    def cancel(self, turn_id: int) -> bool:
        """End a turn and undo it: its session is as before. False when it is over, or there was none."""
        with torch.inference_mode():
            return self._scheduler.cancel(turn_id)

    def cancel_running(self) -> list[int]:
        """End and undo every turn that runs, after a step that raised; their ids."""
        with torch.inference_mode():
            return [turn_id for turn_id in self._scheduler.running if self._scheduler.cancel(turn_id)]

    def info(self, session_id: str) -> SessionInfo:
        """What a session holds, and where. Raises UsageError if it is not open."""
        return self._store.get(session_id).info()

    def token_ids(self, session_id: str) -> list[int]:
        """A session's whole text. Raises UsageError if it is not open."""
        return list(self._store.get(session_id).tokens)

    def read_kv(self, session_id: str, begin: int = 0, end: int | None = None) -> torch.Tensor:
        """Copy a waiting session's keys and values: [layers, 2, kv_heads, end - begin, head_dim], on the CPU.

        Raises
        ------
        UsageError: the session is not open or has a turn, or holds fewer tokens.
        BudgetError: it has no slab now, and there is no room for one.
        """
        with torch.inference_mode():
            slab = self._waiting(session_id)
            rows = slab.read(begin, slab.num_tokens if end is None else end)
            self.model.copies.down(rows.nbytes)
            return rows.cpu()

    def write_kv(self, session_id: str, token_ids: Sequence[int], kv: torch.Tensor, begin: int = 0) -> None:
        """Have a waiting session hold other keys and values from token `begin` on, and end there.

        Arguments: `token_ids`, the tokens that these were computed of; `kv` as `read_kv` gives it.

        Raises
        ------
        UsageError: the session is not open or has a turn, or the shapes do not fit.
        BudgetError: it has no slab now, and there is no room for one.
        """
        with torch.inference_mode():
            slab = self._waiting(session_id)
            tokens = checked_tokens(session_id, token_ids, self.model.shape.vocab_size)
            if kv.dim() != 5 or kv.shape[3] != len(tokens):
                raise UsageError(
                    f"session {session_id!r}: {len(tokens)} tokens with keys and values of shape "
                    f"{list(kv.shape)}; send one per token"
                )
            slab.write(begin, kv)
            self.model.copies.up(kv.nbytes)
            session = self._store.get(session_id)
            session.tokens[begin:] = tokens
            session.num_known = min(session.num_known, begin)

    def stats(self) -> Stats:
        """The engine now, and what it did since its start."""
        weight_bytes = self._weights.num_bytes if self._weights is not None else 0
        return Stats.of(self._store, self._scheduler, self.model.copies, self.decoding, weight_bytes)

    @contextmanager
    def slowed(self, way: str) -> Iterator[None]:
        """Run decode steps in an earlier one of `decoding_ways.WAYS` meanwhile, to measure what it lacks.

        Raises
        ------
        UsageError: there is no such way.
        UnavailableError: it is not before the one in which they are run here.
        """
        check_way(way)
        decoder, name, why_not = self.decoding
        if decoder is None or WAYS.index(way) >= WAYS.index(name):
            raise UnavailableError(
                f"{self.model.name}: {way} is not before {name}, how its decode steps are run here"
                + (f": {why_not}" if why_not else "")
            )
        former = self._scheduler.decoder, decoder.is_replaying
        self._scheduler.decoder, decoder.is_replaying = None if way == WAYS[0] else decoder, False
        try:
            yield
        finally:
            if self.decoding.decoder is decoder:  # not after shutdown
                self._scheduler.decoder, decoder.is_replaying = former

    def shutdown(self) -> None:
        """Close every session and give the weights' bytes back; a second call does nothing."""
        for session in list(self._store):
            self.close(session.id)
        # Graphs and what they keep are memory too.
        self.decoding, self._scheduler.decoder = self.decoding._replace(decoder=None), None
        self._release()

    def _release(self) -> None:
        if self._weights is not None:
            self._weights.release()

    def _waiting(self, session_id: str) -> Slab:
        session = self._store.get(session_id)
        if session.turn_id is not None:
            raise UsageError(f"session {session_id!r} has a turn; wait for its end or cancel it")
        self._store.bring(session, evicts_queued=False)
        assert session.slab is not None
        return session.slab

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


def _drawn(model: Model, budget: DeviceBudget) -> Allocation:
    owner = "weights of " + "".join(c for c in model.name if c.isprintable())[:180]
    return budget.allocate(model.weight_bytes, owner=owner)
