"""What every mode gives of one prompt: its tokens, where the time went, and what crossed.

Seconds are those of the client's clock. `queue_s` and `compute_s` are the engine's own, `transfer_s` is the
rest of the client's time: crossing, packing, event loops. A count or time that was not taken is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Crossed", "Decoded", "Mode"]


@dataclass(slots=True)
class Crossed:
    """What a mode sent and fetched beside ids, and how long it waited for that; adds up as it goes."""

    weight_bytes: int = 0
    kv_up_bytes: int = 0
    kv_down_bytes: int = 0
    logits_bytes: int = 0
    crossing_s: float = 0.0
    """Of weights, keys and values; logits come with their tokens."""

    @property
    def state_bytes(self) -> int:
        """Weights, keys and values, both ways."""
        return self.weight_bytes + self.kv_up_bytes + self.kv_down_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One prompt, decoded once."""

    token_ids: tuple[int, ...]
    began_s: float
    """Asked, on `perf_counter`'s clock; opening a session comes after it."""
    first_s: float | None
    """The first token was there."""
    done_s: float
    """The last token was there, and the state that the mode fetches back after it."""
    queue_s: float | None = None
    compute_s: float | None = None
    bytes_up: int = 0
    """At the client's socket, from opening a session to its close; as the next."""
    bytes_down: int = 0
    crossed: Crossed
    remote_tokens: int = 0
    """That the server says it decoded."""
    reuse_gap_tokens: int | None = None
    """In a second turn of the session: |tokens that the server reused − tokens that it had computed|."""

    @property
    def total_s(self) -> float:
        """From asking to the last token."""
        return self.done_s - self.began_s

    @property
    def token_s(self) -> float:
        """`total_s` ÷ tokens: the prompt's time is in it."""
        return self.total_s / len(self.token_ids)

    @property
    def transfer_s(self) -> float | None:
        """What neither the queue nor the engine's steps took."""
        if self.queue_s is None or self.compute_s is None:
            return None
        return self.total_s - self.queue_s - self.compute_s

    @property
    def num_bytes(self) -> int:
        """At the client's socket, both ways."""
        return self.bytes_up + self.bytes_down


class Mode(Protocol):
    """A way to decode a prompt greedily."""

    def decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        """Decode so many tokens after the prompt, in a session of their own."""
        ...
