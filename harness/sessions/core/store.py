"""The open sessions and their slabs, drawn from the device budget and taken back when room is needed.

A session gets its slab when it is opened. When the budget is short, sessions that wait make room, as the
retention policy says; who lost its slab draws one again for its next turn. The budget may be shared with
other processes: what was freed can be taken before it is drawn, and then the one who asked goes on waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import NamedTuple

import torch

from harness.errors import BudgetError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.sessions.core.copies import Copies
from harness.sessions.core.costs import Costs
from harness.sessions.core.retention import Action, Candidate, Eviction, Prices, Retention
from harness.sessions.core.session import Session
from harness.sessions.core.slab import Slab, SlabShape

__all__ = ["MAX_ID_LEN", "Restored", "Store"]

MAX_ID_LEN = 128


class Restored(NamedTuple):
    """What it took to give a session its slab back."""

    num_tokens: int
    transfer_s: float


class Store:
    """The sessions by id.

    Arguments: `copies`, which counts what crosses to the host and back; `max_session_tokens`, of one session;
    `host_capacity_bytes`, for offloaded sessions, None for no limit; `clock`, seconds.
    """

    def __init__(
        self,
        shape: SlabShape,
        budget: DeviceBudget,
        policy: Retention,
        costs: Costs,
        *,
        copies: Copies,
        max_session_tokens: int,
        max_sessions: int,
        host_capacity_bytes: int | None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._shape = shape
        self._budget = budget
        self._policy = policy
        self._costs = costs
        self._copies = copies
        self._max_session_tokens = max_session_tokens
        self._max_sessions = max_sessions
        self._host_capacity_bytes = math.inf if host_capacity_bytes is None else host_capacity_bytes
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self.together: tuple[Store, ...] = (self,)
        """Those whose waiting sessions make room for this one's, itself included: they share a budget."""
        self.num_dropped = self.num_offloaded = self.num_restored = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session_id: str) -> Session:
        """The session of that id. Raises UsageError when there is none."""
        session = self._sessions.get(session_id)
        if session is None:
            raise UsageError(f"session {session_id!r:.80} is not open; open it first")
        return session

    def open(self, session_id: str, max_tokens: int) -> Session:
        """Open a session with a slab of its own.

        Raises
        ------
        BudgetError: there is no room for it, or there are too many sessions; nothing changed.
        UsageError: the id is taken, or `max_tokens` is not between 1 and `max_session_tokens`.
        """
        if not isinstance(session_id, str) or not session_id.strip() or not session_id.isprintable():
            raise UsageError(f"session id {f'{session_id!r}':.80}: give a name of printable characters")
        if len(session_id) > MAX_ID_LEN:
            raise UsageError(
                f"session id {session_id:.40}… has {len(session_id)} characters; give at most {MAX_ID_LEN}"
            )
        if session_id in self._sessions:
            raise UsageError(f"session {session_id!r:.80} is open already; close it or choose another id")
        if not 1 <= max_tokens <= self._max_session_tokens:
            limit = f"1 to {self._max_session_tokens}"
            raise UsageError(f"session {session_id!r:.80}: max_tokens is {max_tokens}; give {limit}")
        if len(self._sessions) >= self._max_sessions:
            raise BudgetError(
                f"session {session_id!r:.80}: {len(self._sessions)} are open, the most there may be; "
                "close one or raise max_sessions"
            )
        self._has_room(max_tokens, self._waiting())
        slab = self._draw(session_id, max_tokens)
        session = Session(session_id, max_tokens, slab, self._clock())
        self._sessions[session_id] = session
        return session

    def close(self, session_id: str) -> None:
        """Give back all that a session holds. Raises UsageError when there is none of that id."""
        session = self.get(session_id)
        if session.slab is not None:
            session.slab.release()
        del self._sessions[session_id]

    def bring(self, session: Session, *, evicts_queued: bool) -> Restored:
        """Give a session its slab again, with the tokens that were offloaded.

        Arguments: `evicts_queued`, whether sessions whose turn is queued may have to make room.

        Raises
        ------
        BudgetError: there is no room now.
        """
        if session.slab is not None:
            return Restored(0, 0.0)
        if not self._has_room(session.max_tokens, self._waiting(with_queued=evicts_queued)):
            # Asked at every step while it waits: to have the allocator refuse would count as many refusals.
            raise BudgetError(f"session {session.id!r:.80}: no room for its slab now; wait or close others")
        slab = self._draw(session.id, session.max_tokens)
        began_s = perf_counter()
        num_tokens = 0
        if session.host is not None:
            slab.write(0, session.host)
            self._copies.up(session.host.nbytes)
            num_tokens, self.num_restored = slab.num_tokens, self.num_restored + 1
            session.host = None
        session.slab = slab
        return Restored(num_tokens, perf_counter() - began_s if num_tokens else 0.0)

    def _waiting(self, *, with_queued: bool = False) -> list[Session]:
        return [
            session
            for store in self.together
            for session in store
            if session.slab is not None
            and not session.is_running
            and (session.turn_id is None or with_queued)
        ]

    def _draw(self, session_id: str, max_tokens: int) -> Slab:
        return Slab.draw(self._shape, max_tokens, self._budget, owner=f"session {session_id}")

    def _has_room(self, max_tokens: int, waiting: list[Session]) -> bool:
        """Whether a slab fits, after some of those that wait have gone if need be."""
        short_bytes = max_tokens * self._shape.token_bytes - self._budget.free_bytes
        if short_bytes <= 0:
            return True
        now_s = self._clock()
        candidates = [_candidate(session, now_s) for session in waiting]
        plan = self._policy.plan(short_bytes, candidates, self._prices(waiting))
        for eviction in plan:
            owner = next(store for store in self.together if eviction.candidate.session_id in store._sessions)
            owner._evict(eviction)
        return bool(plan)

    def _prices(self, waiting: list[Session]) -> Prices:
        sessions = [session for store in self.together for session in store]
        slabs = [session.slab for session in sessions if session.slab is not None and session not in waiting]
        host_bytes = sum(session.host_bytes for session in sessions)
        return Prices(
            recompute_s_per_token=self._costs.prefill_s_per_token,
            copy_s_per_byte=self._costs.copy_s_per_byte,
            running_bytes=sum(slab.num_bytes for slab in slabs),
            host_free_bytes=self._host_capacity_bytes - host_bytes,
        )

    def _evict(self, eviction: Eviction) -> None:
        session = self.get(eviction.candidate.session_id)
        assert session.slab is not None
        if eviction.action is Action.OFFLOAD:
            began_s = perf_counter()
            session.host = session.slab.read(0, session.slab.num_tokens).to(torch.device("cpu"))
            self._costs.copied(session.host.nbytes, perf_counter() - began_s)
            self._copies.down(session.host.nbytes)
            self.num_offloaded += 1
        else:
            self.num_dropped += 1
        session.num_known = max(session.num_known, session.slab.num_tokens)
        session.slab.release()
        session.slab = None


def _candidate(session: Session, now_s: float) -> Candidate:
    assert session.slab is not None
    return Candidate(
        session_id=session.id,
        num_tokens=session.slab.num_tokens,
        slab_bytes=session.slab.num_bytes,
        used_bytes=session.slab.used_bytes,
        pause_s=session.expected_pause_s(now_s) if session.turn_id is None else 0.0,
        idle_s=max(0.0, now_s - session.idle_since_s) if session.turn_id is None else 0.0,
    )
