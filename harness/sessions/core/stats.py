"""What an engine tells of itself."""

from __future__ import annotations

from typing import NamedTuple

from harness.sessions.core.scheduler import Counts

__all__ = ["Stats"]


class Stats(NamedTuple):
    """The engine now, and what it did since its start."""

    num_sessions: int
    num_on_device: int
    num_on_host: int
    num_nowhere: int
    """Sessions that hold no slab: dropped, to be computed again."""
    num_queued: int
    num_running: int
    weight_bytes: int
    """Drawn for the weights; 0 where they lie in memory of somebody else's."""
    slab_bytes: int
    host_bytes: int
    num_dropped: int
    """Slabs that were dropped, since the start."""
    num_offloaded: int
    num_restored: int
    host_to_device_bytes: int | None
    """Copied between both memories since the start; None where they are one, as the next."""
    device_to_host_bytes: int | None
    decoding: str
    """How steps that only decode are run: `graphs`, `kernels` or `slab-by-slab`."""
    row_steps: int | None
    """Steps that attended to all their sessions at once, and computed no prompt; None slab by slab."""
    graph_steps: int | None
    """Of them, those replayed from a graph; None where none is recorded."""
    counts: Counts
