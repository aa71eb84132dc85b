"""What is asked of the engine, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.sessions.sampling import Sampling

__all__ = ["Event", "Timings", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Go on with a session: take these tokens in, then decode."""

    session_id: str
    new_token_ids: Sequence[int]
    """Only what is new. May be empty where the session holds tokens: it then goes on by itself."""
    max_new_tokens: int
    want_logits: bool = False
    """Whether each event carries the logits that its token was chosen by."""
    stop_ids: Sequence[int] = ()
    """Tokens after which the turn ends; the token itself is given out, and stays in the session."""
    sampling: Sampling | None = None
    """How tokens are drawn; None for the likeliest each time."""


class Timings(NamedTuple):
    """Where the time since the turn's last event went (since `submit`, for its first), and what was reused.

    queue_s + compute_s + transfer_s is the time between the two events. The counts are the turn's, on each of
    its events the same: reused + prefilled = tokens that the session held and the turn brought.
    """

    queue_s: float
    """Waiting: for admission, for memory, for steps without this session, for the caller between steps."""
    compute_s: float
    """Steps that computed this session, whole: a batched step counts in full for each of its sessions."""
    transfer_s: float
    """Bringing keys and values back from the host."""
    reused_tokens: int
    """Valid in the session's slab when the turn was admitted, restored ones included."""
    prefilled_tokens: int
    """Computed before the turn's first token: what it brought, the last token of the turn before, and
    everything else that the slab had lost."""
    restored_tokens: int
    """Brought back from the host."""
    recomputed_tokens: int
    """Prefilled although an earlier turn had computed them already."""


class Event(NamedTuple):
    """A token of a turn."""

    turn_id: int
    session_id: str
    token_id: int
    logits: Any
    """float32 [vocab_size] on the CPU, own memory; None unless the turn wants them."""
    finish_reason: str | None
    """`length` or `stop` with the last token of the turn, else None."""
    timings: Timings

    @property
    def is_last(self) -> bool:
        """Whether the turn ended with this token."""
        return self.finish_reason is not None
