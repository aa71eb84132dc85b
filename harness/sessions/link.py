"""A link of a declared speed, made by waiting: bytes are handed over when their last bit would have arrived.

While a transfer lasts, a wake-up that came late is made up for; a link that was idle has nothing saved up. So
a frame of n bytes takes at least 8·n ÷ bps, and little more.

Traps: beyond about 2 Gbps the loopback itself is what is slow: faster links are refused, and to be modelled.
Time that the peer needs is not hidden behind the transfer as a real link's buffers would hide some of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.errors import UsageError

__all__ = ["CHUNK_BYTES", "MAX_LINK_BPS", "Pacer", "checked_link_bps"]

MAX_LINK_BPS = 2_000_000_000
CHUNK_BYTES = 2**16
"""Handed over at once."""
_SHORTEST_SLEEP_S = 50e-6
"""Less than a sleep costs; the debt stays and is slept with the next."""


def checked_link_bps(link_bps: int) -> int:
    """A speed that can be paced, in bits per second; 0 is none.

    Raises
    ------
    UsageError: it is negative, or too fast.
    """
    if not 0 <= link_bps <= MAX_LINK_BPS:
        raise UsageError(
            f"link of {link_bps} bps: paced for real are 1 to {MAX_LINK_BPS}; model a faster one by its bytes"
        )
    return link_bps


class Pacer:
    """One direction of a link."""

    def __init__(
        self,
        link_bps: int,
        *,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds_per_byte = 8.0 / checked_link_bps(link_bps) if link_bps else 0.0
        self._now = now
        self._sleep = sleep
        self._free_s = 0.0

    @property
    def is_paced(self) -> bool:
        """Whether anything is to be waited for."""
        return self._seconds_per_byte > 0

    def begin(self) -> None:
        """A transfer begins: it has the link from now on, or from when the link is free."""
        self._free_s = max(self._free_s, self._now())

    def carry(self, num_bytes: int) -> None:
        """Wait until so many more bytes of this transfer have arrived."""
        self._free_s += num_bytes * self._seconds_per_byte
        left_s = self._free_s - self._now()
        if left_s >= _SHORTEST_SLEEP_S:
            self._sleep(left_s)
