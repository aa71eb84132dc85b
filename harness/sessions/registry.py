"""The sessions that a server holds, whose they are, and the latest turn of each.

A session belongs to the connection that opened it or resumed it last, under a number that means something
there only: no frame can name a session of another connection. Whoever knows its secret may take it over.
When a connection ends, its sessions stay for as long as they were opened for; a turn that runs goes on, and
its tokens are kept, so that nothing is lost between two connections.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.sessions.contract import Event, Served
from harness.sessions.messages import Done, Turn

if TYPE_CHECKING:
    from harness.sessions.connection import Connection

__all__ = ["HeldSession", "Registry", "RunningTurn"]

_SECRET_BYTES = 16


@dataclass(slots=True, eq=False)
class HeldSession:
    """A session of the engine, as the server knows it."""

    id: str
    secret: bytes
    linger_s: int
    model: Served
    owner: Connection | None = None
    number: int = 0
    """In its owner's connection."""
    num_tokens: int = 0
    turn: RunningTurn | None = None
    """The latest one."""
    ends_s: float | None = None
    """When it is closed unless somebody resumes it; None while it has an owner."""

    @property
    def is_busy(self) -> bool:
        """Whether a turn runs."""
        return self.turn is not None and self.turn.done is None


@dataclass(slots=True, eq=False)
class RunningTurn:
    """A turn, and all that it has given so far."""

    session: HeldSession
    number: int
    """The client's."""
    bytes_up: int
    tokens_before: int
    """That the session had; it has them again when the turn is cancelled."""
    engine_turn: int | None = None
    """The engine's number; written and read in the engine's thread."""
    token_ids: list[int] = field(default_factory=list)
    bytes_down: int = 0
    done: Done | None = None
    error: HarnessError | None = None
    """Why the engine gave it up; `done` says then that it was cancelled, and is not told."""
    _seconds: list[float] = field(default_factory=lambda: [0.0] * 3)
    _first_seconds: list[float] = field(default_factory=lambda: [0.0] * 3)

    def take(self, event: Event) -> None:
        """Note a token."""
        timings = event.timings
        parts = [timings.queue_s, timings.compute_s, timings.transfer_s]
        if not self.token_ids:
            self._first_seconds = parts
        self._seconds = [total + part for total, part in zip(self._seconds, parts, strict=True)]
        self.token_ids.append(event.token_id)
        self.session.num_tokens += 1

    def undo(self, error: HarnessError) -> None:
        """Note that the engine could not go on with it."""
        self.error = error
        self.end(None)

    def end(self, last: Event | None) -> Done:
        """How it ended; without a last event, by being cancelled."""
        if last is None:
            self.session.num_tokens = self.tokens_before
        counts = last.timings if last is not None else None
        queue_s, compute_s, transfer_s = self._seconds
        first_queue_s, first_compute_s, first_transfer_s = self._first_seconds
        self.done = Done(
            turn=self.number,
            reason="cancelled" if last is None else str(last.finish_reason),
            num_tokens=len(self.token_ids),
            queue_s=queue_s,
            compute_s=compute_s,
            transfer_s=transfer_s,
            first_queue_s=first_queue_s,
            first_compute_s=first_compute_s,
            first_transfer_s=first_transfer_s,
            reused_tokens=counts.reused_tokens if counts else None,
            prefilled_tokens=counts.prefilled_tokens if counts else None,
            restored_tokens=counts.restored_tokens if counts else None,
            recomputed_tokens=counts.recomputed_tokens if counts else None,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
        )
        return self.done


class Registry:
    """All sessions, by secret; all running turns, by the engine's number."""

    def __init__(self) -> None:
        self.turns: dict[int, RunningTurn] = {}
        self._sessions: dict[bytes, HeldSession] = {}
        self._num_made = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[HeldSession]:
        return iter(list(self._sessions.values()))

    @property
    def num_ownerless(self) -> int:
        """Sessions that wait to be resumed."""
        return sum(session.owner is None for session in self._sessions.values())

    def new_id(self) -> str:
        """A name that the engine has not seen."""
        self._num_made += 1
        return f"session-{self._num_made}"

    def add(self, session_id: str, linger_s: int, model: Served) -> HeldSession:
        """Hold a session that the engine has made."""
        session = HeldSession(session_id, secrets.token_bytes(_SECRET_BYTES), linger_s, model)
        self._sessions[session.secret] = session
        return session

    def find(self, secret: bytes) -> HeldSession | None:
        """The session with that secret."""
        return self._sessions.get(secret)

    def remove(self, session: HeldSession) -> None:
        """Hold it no more."""
        self._sessions.pop(session.secret, None)

    def begin(self, session: HeldSession, turn: Turn, num_bytes: int) -> RunningTurn:
        """Note a turn that is about to be submitted."""
        session.turn = RunningTurn(session, turn.request, num_bytes, session.num_tokens)
        return session.turn

    def end(self, turn: RunningTurn) -> None:
        """Forget a turn that is over, but for its session, which remembers its tokens."""
        if turn.engine_turn is not None:
            self.turns.pop(turn.engine_turn, None)
