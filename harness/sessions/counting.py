"""The engine without a model: the next token is a hash of all tokens before it, so that none can go missing.

It obeys the contract in full (slabs drawn from a device budget, keys and values that can be taken out and put
back, weights that can be replaced), and computes nothing worth the name. As a baseline it shows what the
server and the wire cost by themselves; in tests a single token that is lost, doubled or given to the wrong
session changes every token after it.

The state after a token is 64 bits, `state · multiplier + token + 1`; these eight bytes, repeated to
`kv_token_bytes`, are the token's keys and values. The multiplier is the model's only weight.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from harness.errors import UsageError
from harness.hardware.budget import Allocation, DeviceBudget
from harness.sessions.contract import Info, KvRows, Turn
from harness.sessions.protocol import Buffer

__all__ = ["CountingEngine", "continuation"]

VOCAB_SIZE = 1000
WEIGHT_NAME = "multiplier"
_MULTIPLIER = 6364136223846793005
_MASK = 2**64 - 1


def continuation(token_ids: Iterable[int], num: int, *, multiplier: int = _MULTIPLIER) -> list[int]:
    """The tokens that follow these, by definition: what every session is to give."""
    state = 0
    for token in token_ids:
        state = _next_state(state, token, multiplier)
    found = []
    for _ in range(num):
        found.append(_chosen(state))
        state = _next_state(state, found[-1], multiplier)
    return found


class _Timings(NamedTuple):
    queue_s: float
    compute_s: float
    transfer_s: float
    reused_tokens: int
    prefilled_tokens: int
    restored_tokens: int
    recomputed_tokens: int


class _Event(NamedTuple):
    turn_id: int
    token_id: int
    logits: np.ndarray[Any, np.dtype[np.float32]] | None
    finish_reason: str | None
    timings: _Timings


class _Session:
    def __init__(self, max_tokens: int, allocation: Allocation) -> None:
        self.max_tokens = max_tokens
        self.allocation = allocation
        self.token_ids: list[int] = []
        self.states: list[int] = []
        self.pending: int | None = None
        """Chosen, and not yet computed."""
        self.turn: _Running | None = None


class _Running:
    def __init__(self, turn_id: int, turn: Turn, session: _Session) -> None:
        self.turn_id = turn_id
        self.turn = turn
        self.before = len(session.token_ids), session.pending
        """What the session goes back to when the turn is cancelled."""
        self.last_s = perf_counter()
        self.num_made = self.reused_tokens = self.prefilled_tokens = 0


class CountingEngine:
    """Counts. For one thread."""

    def __init__(
        self, budget: DeviceBudget, *, max_session_tokens: int = 4096, kv_token_bytes: int = 64
    ) -> None:
        if kv_token_bytes < 8 or kv_token_bytes % 8:
            raise UsageError(f"counting: kv_token_bytes = {kv_token_bytes}; give a multiple of 8")
        self.info = Info(
            model="counting",
            vocab_size=VOCAB_SIZE,
            max_session_tokens=max_session_tokens,
            kv_token_bytes=kv_token_bytes,
            kv_dtype="uint64",
            takes_weights=True,
        )
        self._budget = budget
        self._multiplier = _MULTIPLIER
        self._sessions: dict[str, _Session] = {}
        self._running: dict[int, _Running] = {}
        self._num_turns = self._num_tokens = 0

    @property
    def is_idle(self) -> bool:
        """Whether no turn runs."""
        return not self._running

    @property
    def is_blocked(self) -> bool:
        """Never: a session that is open has its slab."""
        return False

    def open(self, session_id: str, max_tokens: int, *, model: str = "") -> None:
        """Make a session, its slab drawn from the budget; there is one model."""
        if not 0 < max_tokens <= self.info.max_session_tokens:
            limit = self.info.max_session_tokens
            raise UsageError(f"a session of {max_tokens} tokens; it may have 1 to {limit}")
        if session_id in self._sessions:
            raise UsageError(f"session {session_id} is open; close it first")
        allocation = self._budget.allocate(max_tokens * self.info.kv_token_bytes, owner=session_id)
        self._sessions[session_id] = _Session(max_tokens, allocation)

    def close(self, session_id: str) -> None:
        """End a session, and its turn."""
        session = self._find(session_id)
        if session.turn is not None:
            self.cancel(session.turn.turn_id)
        session.allocation.release()
        del self._sessions[session_id]

    def submit(self, turn: Turn) -> int:
        """Queue a turn."""
        session = self._find(turn.session_id)
        if session.turn is not None:
            raise UsageError(f"session {turn.session_id} has a turn; wait for its end")
        needed = len(session.token_ids) + (session.pending is not None) + len(turn.new_token_ids)
        if not needed:
            raise UsageError(f"session {turn.session_id}: there is no token to go on from; send at least one")
        if needed + turn.max_new_tokens > session.max_tokens:
            raise UsageError(
                f"session {turn.session_id}: {needed} tokens and {turn.max_new_tokens} new ones exceed its "
                f"{session.max_tokens}; open it with more"
            )
        if turn.sampling is not None:
            raise UsageError(f"session {turn.session_id}: an engine that counts has nothing to draw from")
        self._num_turns += 1
        session.turn = self._running[self._num_turns] = _Running(self._num_turns, turn, session)
        return self._num_turns

    def step(self) -> list[_Event]:
        """A token for every turn."""
        return [self._advance(running) for running in list(self._running.values())]

    def cancel(self, turn_id: int) -> bool:
        """End a turn; its session is as before."""
        running = self._running.get(turn_id)
        if running is None:
            return False
        session = self._find(running.turn.session_id)
        num_tokens, session.pending = running.before
        del session.token_ids[num_tokens:], session.states[num_tokens:]
        self._end(running, session)
        return True

    def stats(self) -> Mapping[str, Any]:
        """Counters."""
        return {
            "sessions": len(self._sessions),
            "running": len(self._running),
            "turns": self._num_turns,
            "tokens": self._num_tokens,
            "budget_used_bytes": self._budget.used_bytes,
        }

    def read_kv(self, session_id: str, start: int, most: int) -> KvRows:
        """The states after each token, repeated to the size of a row."""
        session = self._idle(session_id)
        if start > len(session.states):
            raise UsageError(f"session {session_id} has {len(session.states)} tokens; ask from one of them")
        states = np.array(session.states[start : start + most], np.uint64)
        rows = np.repeat(states, self.info.kv_token_bytes // 8)
        return KvRows(session.token_ids[start : start + most], rows.view(np.uint8).data)

    def write_kv(self, session_id: str, start: int, kv: KvRows) -> None:
        """Take states; a row that is not eight bytes repeated was damaged on the way."""
        session = self._idle(session_id)
        rows = np.frombuffer(kv.rows, np.uint64).reshape(len(kv.token_ids), -1)
        if start > len(session.states) or start + len(rows) > session.max_tokens:
            raise UsageError(f"session {session_id}: {len(rows)} rows at {start} leave a gap or do not fit")
        if len(rows) and not (rows == rows[:, :1]).all():
            raise UsageError(f"session {session_id}: damaged rows of keys and values; send them as read")
        session.states[start:] = rows[:, 0].tolist() if len(rows) else []
        session.token_ids[start:] = kv.token_ids
        session.pending = None

    def write_weights(self, names: Sequence[str], buffers: Sequence[Buffer]) -> None:
        """Replace the multiplier."""
        sizes = [len(buffer) for buffer in buffers]
        if list(names) != [WEIGHT_NAME] or sizes != [8]:
            raise UsageError(f"weights {list(names)} of {sizes} bytes; there is {WEIGHT_NAME!r} of 8")
        (self._multiplier,) = struct.unpack("<Q", buffers[0])

    def shutdown(self) -> None:
        """Close all sessions."""
        for session_id in list(self._sessions):
            self.close(session_id)

    def _find(self, session_id: str) -> _Session:
        if session_id not in self._sessions:
            raise UsageError(f"no session {session_id}; open it")
        return self._sessions[session_id]

    def _idle(self, session_id: str) -> _Session:
        session = self._find(session_id)
        if session.turn is not None:
            raise UsageError(f"session {session_id} has a turn; wait for its end")
        return session

    def _advance(self, running: _Running) -> _Event:
        began_s, turn = perf_counter(), running.turn
        session = self._find(turn.session_id)
        if not running.num_made:
            running.reused_tokens = len(session.token_ids)
        self._compute(session, turn.new_token_ids if not running.num_made else ())
        if not running.num_made:
            running.prefilled_tokens = len(session.token_ids) - running.reused_tokens
        token = session.pending = _chosen(session.states[-1])
        running.num_made += 1
        self._num_tokens += 1
        finish = "stop" if token in turn.stop_ids else None
        finish = "length" if running.num_made == turn.max_new_tokens and finish is None else finish
        if finish is not None:
            self._end(running, session)
        queue_s, running.last_s = began_s - running.last_s, perf_counter()
        return _Event(
            turn_id=running.turn_id,
            token_id=token,
            logits=np.full(VOCAB_SIZE, token, np.float32) if turn.want_logits else None,
            finish_reason=finish,
            timings=_Timings(
                queue_s=queue_s,
                compute_s=running.last_s - began_s,
                transfer_s=0.0,
                reused_tokens=running.reused_tokens,
                prefilled_tokens=running.prefilled_tokens,
                restored_tokens=0,
                recomputed_tokens=0,
            ),
        )

    def _end(self, running: _Running, session: _Session) -> None:
        del self._running[running.turn_id]
        session.turn = None

    def _compute(self, session: _Session, token_ids: Sequence[int]) -> None:
        pending = [] if session.pending is None else [session.pending]
        session.pending = None
        for token in [*pending, *token_ids]:
            state = session.states[-1] if session.states else 0
            session.states.append(_next_state(state, token, self._multiplier))
            session.token_ids.append(token)


def _next_state(state: int, token: int, multiplier: int) -> int:
    return (state * multiplier + token + 1) & _MASK


def _chosen(state: int) -> int:
    # The high bits: the low ones of such a sequence repeat soon.
    return (state >> 33) % VOCAB_SIZE
