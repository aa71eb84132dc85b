"""What a client makes of the server's frames; for the blocking client and the one for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from harness.errors import BackendBroken, BackendRejected, BudgetError, HarnessError, UsageError
from harness.sessions.address import Address
from harness.sessions.channel import Arrived
from harness.sessions.codes import Code
from harness.sessions.framing import Frame
from harness.sessions.messages import Done, Failed, Kv, Message, Token, Welcome

__all__ = [
    "Generated",
    "KvBlock",
    "StreamedToken",
    "answers",
    "check_model",
    "joined",
    "kv_of",
    "refused",
    "token_of",
]


class StreamedToken(NamedTuple):
    """A token as it came."""

    token_id: int
    logits: np.ndarray[Any, np.dtype[np.float32]] | None
    came_s: float
    """When it was received, on `perf_counter`'s clock, whenever it was asked for."""


class Generated(NamedTuple):
    """A whole turn."""

    tokens: tuple[StreamedToken, ...]
    done: Done
    sent_s: float
    """When it was sent, on `perf_counter`'s clock."""
    done_s: float
    bytes_up: int
    """Of its Turn frame."""
    bytes_down: int
    """Of its Token frames and its Done."""

    @property
    def token_ids(self) -> list[int]:
        """What was generated."""
        return [token.token_id for token in self.tokens]


class KvBlock(NamedTuple):
    """Keys and values of consecutive tokens: a row of `kv_token_bytes` for each."""

    start: int
    token_ids: tuple[int, ...]
    rows: memoryview


def token_of(arrived: Arrived) -> StreamedToken:
    """A token of a turn. Raises BackendBroken when the frame is none."""
    message, buffers = arrived.frame.message, arrived.frame.buffers
    if not isinstance(message, Token):
        raise BackendBroken(f"{type(message).__name__} instead of a token; is it a session server?")
    logits = np.frombuffer(buffers[0], np.float32) if buffers else None
    return StreamedToken(message.token_id, logits, arrived.came_s)


def kv_of(frame: Frame) -> KvBlock:
    """The keys and values of a frame."""
    message = cast(Kv, frame.message)
    rows = frame.buffers[0] if frame.buffers else memoryview(b"")
    return KvBlock(message.start, tuple(message.token_ids), rows)


def joined(blocks: Sequence[KvBlock]) -> KvBlock:
    """Consecutive blocks as one; a single one is not copied."""
    if len(blocks) == 1:
        return blocks[0]
    token_ids = tuple(token_id for block in blocks for token_id in block.token_ids)
    return KvBlock(blocks[0].start, token_ids, memoryview(b"".join(block.rows for block in blocks)))


def answers(message: Message) -> int:
    """The number of the request or turn that a frame belongs to; 0: none."""
    if isinstance(message, Token | Done):
        return message.turn
    number: int = getattr(message, "request", 0)
    return number


def check_model(address: Address, welcome: Welcome, model: str) -> None:
    """Check that a server has a model: one that cannot choose would serve its own without a word.

    Raises
    ------
    UsageError: it has not.
    """
    names = [one.name for one in welcome.models] or [welcome.model]
    if model and model not in names:
        raise UsageError(f"{address}: model {model!r} is not served there; ask for {', '.join(names)}")


def refused(who: str, failed: Failed) -> HarnessError:
    """The error that a refusal is for a caller."""
    name = Code(failed.code).name.lower() if failed.code in set(Code) else str(failed.code)
    text = f"{who}: {name}: {failed.message}"
    if failed.code == Code.BUDGET:
        return BudgetError(text)
    return BackendBroken(text) if failed.code >= Code.MALFORMED else BackendRejected(text)
