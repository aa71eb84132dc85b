"""What the server needs of an engine; `counting` is the smallest that has it, `core` the real one.

An engine is for one thread, which makes it, calls it and closes it. It knows sessions by a string that the
server chooses. Its refusals are `BudgetError` (no room) and `UsageError` (no sense); anything that it raises
in `step` ends the server. A turn that it cannot go on with, while others can, is `Undone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from harness.errors import HarnessError
from harness.sessions.protocol import Buffer
from harness.sessions.sampling import Sampling

__all__ = ["Engine", "Event", "Info", "KvRows", "Served", "Timings", "Turn", "Undone"]


class Served(NamedTuple):
    """One of several models."""

    name: str
    vocab_size: int
    max_session_tokens: int


class Info(NamedTuple):
    """What a client is told of the model."""

    model: str
    """Of several the first: a session has it unless it asks for another."""
    vocab_size: int
    max_session_tokens: int
    kv_token_bytes: int
    """Keys and values of one token, all layers; 0: they do not cross the wire."""
    kv_dtype: str
    takes_weights: bool
    models: tuple[Served, ...] = ()
    """All of them, where a session chooses; none where there is nothing to choose."""

    def served(self, model: str) -> Served | None:
        """The model of that name, the first for no name; None when there is none."""
        models = self.models or (Served(self.model, self.vocab_size, self.max_session_tokens),)
        return next((one for one in models if model in ("", one.name)), None)


class Turn(NamedTuple):
    """New tokens for a session, and what is to come of them; fields as `core.Turn` has them."""

    session_id: str
    new_token_ids: Sequence[int]
    """May be empty where the session holds tokens."""
    max_new_tokens: int
    want_logits: bool = False
    stop_ids: Sequence[int] = ()
    sampling: Sampling | None = None


class Timings(Protocol):
    """Where the time since the turn's last event went, and the turn's counts; see `core.Timings`."""

    @property
    def queue_s(self) -> float: ...  # noqa: D102
    @property
    def compute_s(self) -> float: ...  # noqa: D102
    @property
    def transfer_s(self) -> float: ...  # noqa: D102
    @property
    def reused_tokens(self) -> int: ...  # noqa: D102
    @property
    def prefilled_tokens(self) -> int: ...  # noqa: D102
    @property
    def restored_tokens(self) -> int: ...  # noqa: D102
    @property
    def recomputed_tokens(self) -> int: ...  # noqa: D102


class Event(Protocol):
    """A token of a turn; see `core.Event`."""

    @property
    def turn_id(self) -> int: ...  # noqa: D102
    @property
    def token_id(self) -> int: ...  # noqa: D102
    @property
    def logits(self) -> Any | None:
        """float32, as anything that has the buffer interface or `numpy()`."""

    @property
    def finish_reason(self) -> str | None:
        """`length` or `stop` with the turn's last token."""

    @property
    def timings(self) -> Timings: ...  # noqa: D102


class Undone(NamedTuple):
    """A turn that ended without its last token: its session is as before."""

    turn_id: int
    error: HarnessError


class KvRows(NamedTuple):
    """Keys and values of consecutive tokens: a row of `kv_token_bytes` for each."""

    token_ids: Sequence[int]
    rows: Buffer


class Engine(Protocol):
    """Sessions, turns and steps."""

    @property
    def info(self) -> Info:
        """What it serves."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no turn runs or waits, so that `step` need not be called."""
        ...

    @property
    def is_blocked(self) -> bool:
        """Whether turns wait and none runs: others hold the memory they need."""
        ...

    def open(self, session_id: str, max_tokens: int, *, model: str = "") -> None:
        """Make a session of one of `info.models`. Raises BudgetError when there is no room for it."""
        ...

    def close(self, session_id: str) -> None:
        """End a session and give its memory back; its turn is cancelled."""
        ...

    def submit(self, turn: Turn) -> int:
        """Queue a turn of a session that has none; the number its events will have."""
        ...

    def step(self) -> Sequence[Event | Undone]:
        """Compute for a moment: admit, prefill or decode one token of all that are ready."""
        ...

    def cancel(self, turn_id: int) -> bool:
        """End a turn and undo it: its session is as before. False when it is over."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """Counters by name."""
        ...

    def read_kv(self, session_id: str, start: int, most: int) -> KvRows:
        """Keys and values of at most `most` computed tokens from position `start` on, as a copy.

        Raises BudgetError when they went for want of room.
        """
        ...

    def write_kv(self, session_id: str, start: int, kv: KvRows) -> None:
        """Put rows at `start`, and end behind them; a token chosen and not yet computed is forgotten."""
        ...

    def write_weights(self, names: Sequence[str], buffers: Sequence[Buffer]) -> None:
        """Replace some of the weights."""
        ...

    def shutdown(self) -> None:
        """Close all sessions and give all memory back."""
        ...
