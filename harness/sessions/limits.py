"""What a peer may ask for: lengths, counts and times, each with one default.

A length is checked as soon as it is declared, before memory is taken for it. A time is checked against a
deadline, not against silence, so that a peer that sends a byte now and then cannot hold a connection.

Traps: `max_frame_bytes` is per connection; `max_receiving_bytes` is what all connections together may have
declared and not yet handed over.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from harness.errors import UsageError

__all__ = ["HELLO_LIMITS", "FrameLimits", "Limits"]

KIB, MIB, GIB = 2**10, 2**20, 2**30


def _check(limits: FrameLimits | Limits) -> None:
    for field in fields(limits):
        value = getattr(limits, field.name)
        # Written so that NaN fails.
        if isinstance(value, int | float) and not value >= 0:
            raise UsageError(f"limit {field.name} = {value}; give a number ≥ 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLimits:
    """What one frame may hold."""

    max_header_bytes: int = MIB
    """Of the header, which is msgpack."""
    max_buffers: int = 4096
    """Raw buffers behind the header."""
    max_buffer_bytes: int = 512 * MIB
    """Of each of them."""
    max_frame_bytes: int = GIB
    """Of all of the frame: prefix, table, header and buffers."""

    def __post_init__(self) -> None:
        _check(self)


HELLO_LIMITS = FrameLimits(max_header_bytes=KIB, max_buffers=0, max_buffer_bytes=0, max_frame_bytes=2 * KIB)
"""Until a peer has said hello it may send only that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server grants; `python -m harness.sessions serve` takes some of them as options."""

    frame: FrameLimits = FrameLimits()
    max_connections: int = 512
    """Open at once; one more is told so and closed."""
    max_sessions_per_connection: int = 256
    max_turn_tokens: int = 32_768
    """New token ids in one turn."""
    max_new_tokens: int = 32_768
    """Tokens generated in one turn."""
    max_stop_ids: int = 64
    max_receiving_bytes: int = 4 * GIB
    """Declared by all connections together and not yet handed to the engine."""
    max_unsent_bytes: int = 256 * MIB
    """Waiting for one peer that does not read; beyond it the connection is closed."""
    high_water_bytes: int = 256 * KIB
    """Unsent bytes from which on nothing more is read from that peer."""
    hello_timeout_s: float = 5.0
    """From connecting to a complete hello."""
    frame_timeout_s: float = 10.0
    """From a frame's first byte to its last, beside what its length takes at `min_bytes_per_s`."""
    min_bytes_per_s: float = 1e6
    """The slowest link that large frames are waited for."""
    write_timeout_s: float = 30.0
    """Without a byte that the peer takes while some wait."""
    idle_timeout_s: float = 600.0
    """Without a frame, while no turn runs."""
    max_linger_s: int = 600
    """That a session may outlive its connection."""

    def __post_init__(self) -> None:
        _check(self)

    def behind_link(self, link_bps: int) -> Limits:
        """The same, with patience for clients as slow as they were told: 0 bits per second is fast."""
        least = min(self.min_bytes_per_s, link_bps / 8 / 2) if link_bps else self.min_bytes_per_s
        return replace(self, min_bytes_per_s=least)

    def frame_deadline_s(self, num_bytes: int) -> float:
        """How long a frame of that many bytes may take to arrive, in seconds."""
        return self.frame_timeout_s + num_bytes / self.min_bytes_per_s
