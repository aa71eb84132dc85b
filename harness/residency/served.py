"""What a link is, and how one request went on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UsageError

__all__ = ["Link", "Served"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """From host to device, and back."""

    bytes_per_s: float
    copy_s: float = 0.0
    """What each copy costs besides its bytes."""

    def __post_init__(self) -> None:
        if not (self.bytes_per_s > 0 and self.copy_s >= 0):
            raise UsageError(
                f"link: {self.bytes_per_s} bytes/s, {self.copy_s} s per copy; give a positive rate"
            )


class Served(NamedTuple):
    """One request as it went. Seconds are since the trace began."""

    model: str
    is_hit: bool
    """Nothing was left to copy when its turn came."""
    arrived_s: float
    began_s: float
    first_token_s: float
    done_s: float
    switch_s: float
    """Blocked: from its turn to the first token, less the compute."""
    bytes_in: int
    """Copied after its turn came."""
    ahead_bytes: int
    """Copied before, by lookahead; also what was copied for another, who did not come."""
    bytes_out: int
    """From device to host."""
    evicted_bytes: int
    needed_bytes: int
    """Of them, what had to go at the least."""
    copied_s: tuple[float, float] | None
    """When its copies began and ended; None without any."""
    ahead_s: tuple[float, float] | None
    """The same of those made ahead."""

    @property
    def ttft_s(self) -> float:
        """To the first token, queueing included."""
        return self.first_token_s - self.arrived_s

    @property
    def total_s(self) -> float:
        """To the last token, queueing included."""
        return self.done_s - self.arrived_s
