"""What an engine tells of itself."""

from __future__ import annotations

from typing import NamedTuple

from harness.sessions.core.copies import Copies
from harness.sessions.core.decoding import Way
from harness.sessions.core.scheduler import Counts, Scheduler
from harness.sessions.core.session import Place
from harness.sessions.core.store import Store

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
    """Steps that attended to all their sessions at once, and computed no prompt; None slab by slab,
    and after the engine's end."""
    graph_steps: int | None
    """Of them, those replayed from a graph; None where none is recorded."""
    counts: Counts

    @classmethod
    def of(
        cls, store: Store, scheduler: Scheduler, copies: Copies, decoding: Way, weight_bytes: int
    ) -> Stats:
        """Those of an engine's parts; `weight_bytes`, drawn for its weights."""
        infos = [session.info() for session in store]
        places = [info.place for info in infos]
        return cls(
            num_sessions=len(infos),
            num_on_device=places.count(Place.DEVICE),
            num_on_host=places.count(Place.HOST),
            num_nowhere=places.count(Place.NOWHERE),
            num_queued=scheduler.num_queued,
            num_running=scheduler.num_running,
            weight_bytes=weight_bytes,
            slab_bytes=sum(info.slab_bytes for info in infos),
            host_bytes=sum(info.host_bytes for info in infos),
            num_dropped=store.num_dropped,
            num_offloaded=store.num_offloaded,
            num_restored=store.num_restored,
            host_to_device_bytes=copies.up_bytes,
            device_to_host_bytes=copies.down_bytes,
            decoding=decoding.name,
            row_steps=decoding.row_steps,
            graph_steps=decoding.graph_steps,
            counts=scheduler.counts,
        )
