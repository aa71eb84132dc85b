"""The engine behind a session server of several models: one arena, one budget, whose turn is next.

Every model has sessions, queue and batches of its own (`core.Engine`); its turns are computed together. The
arena and all keys and values are drawn from one budget, and sessions that wait make room for each other
whatever their models are. Each step computes one batch of one model, which the collating queue chooses: the
model that runs goes on while it has turns, until another has waited for `max_wait_s`. What can be copied for
whoever is next is copied meanwhile.

Physics: a switch costs missing bytes ÷ link and delays everybody; max_wait_s bounds how long a model with
turns stands still for another, switches and one step aside.

A copy that fails ends the turns of its model that run, each undone and told why; the others go on, and the
model's next turn copies again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import perf_counter
from typing import Any

from harness.errors import ArenaError, BudgetError, HarnessError, UnavailableError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.residency.collate import CollatingQueue, Waiting
from harness.residency.live import LiveArena, Pass
from harness.sessions.contract import Event, Info, KvRows, Served, Turn, Undone
from harness.sessions.core import Engine
from harness.sessions.core import Turn as CoreTurn
from harness.sessions.protocol import Buffer
from harness.sessions.ring.counters import RingCounters
from harness.sessions.ring.weights import StreamedModel

__all__ = ["RingEngine"]


class RingEngine:
    """Sessions over several models that take turns in one arena; as `contract.Engine` has it.

    Arguments
    ---------
    arena: is closed with the engine; it has drawn its own bytes from the budget.
    models: by name, over that arena; the first is the one that a session has by default.
    budget: what keys and values are drawn from.
    queue: decides which model's batch is next.
    looks_ahead: whether what can be is copied for the model whose turn would be next.
    max_session_tokens: the most that a session may hold; None for each model's own limit.
    max_sessions: open at once, over all models.
    settings: as `core.Engine` takes them.

    Raises
    ------
    BudgetError: a model is too large for the arena.
    ArenaError: its weights cannot be copied there.
    """

    def __init__(
        self,
        arena: LiveArena,
        models: Mapping[str, StreamedModel],
        budget: DeviceBudget,
        *,
        queue: CollatingQueue | None = None,
        looks_ahead: bool = True,
        max_session_tokens: int | None = None,
        max_sessions: int = 1024,
        clock: Callable[[], float] = perf_counter,
        **settings: Any,
    ) -> None:
        if not models:
            raise UsageError("ring: no models; give at least one")
        self.arena = arena
        self.budget = budget
        self.models = dict(models)
        # An empty queue is false.
        self._queue = CollatingQueue(max_wait_s=1.0) if queue is None else queue
        self._looks_ahead = looks_ahead
        self._max_sessions = max_sessions
        self._clock = clock
        self._waiting: dict[str, Waiting] = {}
        self._sessions: dict[str, str] = {}
        self._running: Pass | None = None
        self._ahead: str | None = None
        self._is_calm = False
        self._counters = RingCounters(models)
        turn_ids = count(1)
        self._engines: dict[str, Engine] = {}
        for name, model in self.models.items():
            num_tokens = min(model.shape.max_positions, max_session_tokens or model.shape.max_positions)
            # It computes a little to learn what that costs.
            with model.using(arena.begin(name)):
                self._engines[name] = Engine(
                    model, budget, draws_weights=False, turn_ids=turn_ids, clock=clock,
                    max_session_tokens=num_tokens, max_sessions=max_sessions, **settings,
                )  # fmt: skip
        for engine in self._engines.values():
            engine.share_room(list(self._engines.values()))
        self.info = self._info()

    @property
    def is_idle(self) -> bool:
        """Whether no turn is queued or runs."""
        return all(engine.is_idle for engine in self._engines.values())

    @property
    def is_blocked(self) -> bool:
        """Whether the last step had turns and could compute none: for want of memory, or the model stays."""
        return self._is_calm and not self.is_idle

    def open(self, session_id: str, max_tokens: int, *, model: str = "") -> None:
        """Open a session of a model.

        Raises
        ------
        UsageError: there is no such model, the id is taken, or `max_tokens` makes no sense.
        BudgetError: there is no room beside the arena and the sessions that run, or there are too many.
        """
        served = self.info.served(model)
        if served is None:
            raise UsageError(f"model {model!r:.80} is not served here; ask for {', '.join(self._engines)}")
        if session_id in self._sessions:
            raise UsageError(f"session {session_id!r:.80} is open already; close it or choose another id")
        if len(self._sessions) >= self._max_sessions:
            raise BudgetError(
                f"session {session_id!r:.80}: {self._max_sessions} are open, the most there may be; "
                "close one or raise max_sessions"
            )
        self._engines[served.name].open(session_id, max_tokens)
        self._sessions[session_id] = served.name

    def close(self, session_id: str) -> None:
        """End a session, its turn included. Raises UsageError if it is not open."""
        self._engine(session_id).close(session_id)
        del self._sessions[session_id]

    def submit(self, turn: Turn) -> int:
        """Queue a turn."""
        return self._engine(turn.session_id).submit(CoreTurn(*turn))

    def step(self) -> Sequence[Event | Undone]:
        """Compute one batch of the model whose turn it is."""
        name = self._choose(self._clock())
        self._is_calm = name is None
        if name is None:
            return ()
        try:
            self._enter(name)
            events = self._engines[name].step()
        except (ArenaError, BudgetError) as exc:
            return self._give_up(name, exc)
        if self.is_idle:
            # Counted now, and not when another model has its turn.
            self._leave()
        return events

    def cancel(self, turn_id: int) -> bool:
        """End a turn and undo it: its session is as before. False when it is over."""
        return any(engine.cancel(turn_id) for engine in self._engines.values())

    def stats(self) -> Mapping[str, Any]:
        """Counters, in one level; what is a model's own ends in its name."""
        return self._counters.stats(self.arena, self._running, self._engines)

    def read_kv(self, session_id: str, start: int, most: int) -> KvRows:
        """Raise UnavailableError: rows of several models have several sizes."""
        raise UnavailableError(_NOT_CROSSING)

    def write_kv(self, session_id: str, start: int, kv: KvRows) -> None:
        """As `read_kv`."""
        raise UnavailableError(_NOT_CROSSING)

    def write_weights(self, names: Sequence[str], buffers: Sequence[Buffer]) -> None:
        """Raise UnavailableError: the blobs cannot be written to."""
        raise UnavailableError(
            "weights do not cross here: nobody may write to them; serve one model for that"
        )

    def shutdown(self) -> None:
        """Give all memory back; a second call does nothing."""
        for engine in self._engines.values():
            engine.shutdown()
        self._sessions.clear()
        self._leave()
        self.arena.close()

    def _engine(self, session_id: str) -> Engine:
        name = self._sessions.get(session_id)
        if name is None:
            raise UsageError(f"session {session_id!r:.80} is not open; open it first")
        return self._engines[name]

    def _choose(self, now_s: float) -> str | None:
        """Whose batch is next; a model waits from when it has turns, or since its last batch."""
        for name, engine in self._engines.items():
            engine.admit()
            is_ready = engine.num_running > 0
            if is_ready and name not in self._waiting:
                self._waiting[name] = self._queue.put(name, now_s)
            elif not is_ready and name in self._waiting:
                self._queue.drop(self._waiting.pop(name))
        taken = self._queue.take(now_s)
        if taken is None:
            return None
        del self._waiting[taken.model]
        return taken.model

    def _enter(self, name: str) -> None:
        """Have a model's request run in the arena, and copy for the next one."""
        following = self._queue.peek(math.inf)
        upcoming = following.model if following is not None and self._looks_ahead else None
        if self._running is None or self._running.model != name:
            self._leave()
            self._ahead = None
            running = self.arena.begin(name, upcoming=upcoming)
            self._running = running
            self._counters.begun(running)
            self.models[name].begin(running)
        if upcoming is not None and upcoming != self._ahead:
            self._ahead = upcoming
            # Whose chunks cannot be copied is told when its turn comes.
            with contextlib.suppress(ArenaError, BudgetError):
                self.arena.look_ahead(upcoming)

    def _leave(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            self.models[running.model].end()
            self._counters.ended(running.model, running.end())

    def _give_up(self, name: str, error: HarnessError) -> list[Undone]:
        """End what runs of a model that cannot be computed now."""
        self._leave()
        undone = [Undone(turn_id, error) for turn_id in self._engines[name].cancel_running()]
        self._counters.failed(name, len(undone))
        return undone

    def _info(self) -> Info:
        first = next(iter(self.models.values()))
        served = tuple(
            Served(name, engine.model.shape.vocab_size, engine.max_session_tokens)
            for name, engine in self._engines.items()
        )
        return Info(
            model=served[0].name,
            vocab_size=served[0].vocab_size,
            max_session_tokens=served[0].max_session_tokens,
            kv_token_bytes=0,
            kv_dtype=str(first.dtype).removeprefix("torch."),
            takes_weights=False,
            models=served,
        )


_NOT_CROSSING = "keys and values do not cross where several models are served; serve one model for that"
