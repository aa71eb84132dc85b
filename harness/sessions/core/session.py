"""One session: all its tokens, and what of them stands in memory.

`tokens` is the whole text so far. A prefix of it has its keys and values in the slab or, offloaded, on the
host; the rest, often just the last token that was decoded, is computed with the next turn. A dropped session
is one whose prefix is empty. This one rule covers turns, recomputing, restoring and undoing.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import torch

from harness.sessions.core.slab import Slab

__all__ = ["Place", "Session", "SessionInfo"]


class Place(Enum):
    """Where a session's keys and values are."""

    DEVICE = "device"
    HOST = "host"
    NOWHERE = "nowhere"


class SessionInfo(NamedTuple):
    """What can be told of a session."""

    session_id: str
    place: Place
    num_tokens: int
    """Of the whole text."""
    num_computed: int
    """Of them with keys and values, on the device or on the host."""
    max_tokens: int
    slab_bytes: int
    """Drawn from the budget now."""
    host_bytes: int


class Session:
    """An open session; owned by the store."""

    __slots__ = (
        "host", "id", "idle_since_s", "is_running", "max_tokens", "num_known", "num_pauses", "paused_s",
        "slab", "tokens", "turn_id",
    )  # fmt: skip

    def __init__(self, session_id: str, max_tokens: int, slab: Slab, now_s: float) -> None:
        self.id = session_id
        self.max_tokens = max_tokens
        self.slab: Slab | None = slab
        self.host: torch.Tensor | None = None
        """Keys and values as `Slab.read` gives them, while the session is offloaded."""
        self.tokens: list[int] = []
        self.turn_id: int | None = None
        """The turn that is queued or runs."""
        self.is_running = False
        self.num_known = 0
        """Tokens that were computed when the session last lost its slab."""
        self.idle_since_s = now_s
        self.paused_s = 0.0
        self.num_pauses = 0

    @property
    def place(self) -> Place:
        """Where its keys and values are."""
        if self.slab is not None:
            return Place.DEVICE
        return Place.NOWHERE if self.host is None else Place.HOST

    @property
    def num_computed(self) -> int:
        """Tokens with keys and values."""
        if self.slab is not None:
            return self.slab.num_tokens
        return 0 if self.host is None else self.host.shape[3]

    @property
    def host_bytes(self) -> int:
        """Memory on the host."""
        return 0 if self.host is None else self.host.nbytes

    def info(self) -> SessionInfo:
        """What can be told of it."""
        slab_bytes = 0 if self.slab is None else self.slab.num_bytes
        return SessionInfo(
            session_id=self.id,
            place=self.place,
            num_tokens=len(self.tokens),
            num_computed=self.num_computed,
            max_tokens=self.max_tokens,
            slab_bytes=slab_bytes,
            host_bytes=self.host_bytes,
        )

    def cut(self, num_tokens: int, num_computed: int) -> None:
        """Forget all but the first `num_tokens` tokens; of these, keep the first `num_computed` computed."""
        del self.tokens[num_tokens:]
        self.num_known = min(self.num_known, num_tokens)
        if self.slab is not None:
            self.slab.cut(num_computed)

    def expected_pause_s(self, now_s: float) -> float:
        """How long it will still wait: as its own pauses were, or else as long again as it has.

        The latter is InferCept's estimator, the time since the call.
        """
        waited_s = now_s - self.idle_since_s
        usual_s = self.paused_s / self.num_pauses if self.num_pauses else 0.0
        return usual_s - waited_s if usual_s > waited_s else waited_s

    def end_pause(self, now_s: float) -> None:
        """A turn has come."""
        if self.tokens:
            self.paused_s += now_s - self.idle_since_s
            self.num_pauses += 1
