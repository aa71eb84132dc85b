"""What a ring engine has done since its start, in all and per model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.residency.live import LiveArena, Pass, PassStats
from harness.sessions.core import Engine

__all__ = ["RingCounters"]

_SUMMED = (
    "num_sessions", "num_on_device", "num_on_host", "num_nowhere", "num_queued", "num_running", "slab_bytes",
    "host_bytes", "num_dropped", "num_offloaded", "num_restored",
)  # fmt: skip
"""Of the engines' own counters, besides their `counts`."""


class RingCounters:
    """Counts switches; the engines count for themselves.

    A request in the arena begins when a model's turn comes, and ends with another's or with the last turn.
    """

    def __init__(self, models: Iterable[str]) -> None:
        self._names = tuple(models)
        self._last: str | None = None
        self._num_switches = self._num_begun = self._num_hits = 0
        self._bytes_in = self._ahead_bytes = self._bytes_out = self._evicted_bytes = 0
        self._failed = dict.fromkeys(self._names, 0)
        self._turns = dict.fromkeys(self._names, 0)

    def begun(self, running: Pass) -> None:
        """A model's request has begun in the arena."""
        self._num_begun += 1
        self._num_hits += running.is_hit
        self._turns[running.model] += 1
        self._num_switches += running.model != self._last
        self._last = running.model

    def ended(self, model: str, stats: PassStats) -> None:
        """And ended."""
        self._bytes_in += stats.bytes_in
        self._ahead_bytes += stats.ahead_bytes
        self._bytes_out += stats.bytes_out
        self._evicted_bytes += stats.evicted_bytes

    def failed(self, model: str, num_turns: int) -> None:
        """So many turns could not be gone on with."""
        self._failed[model] += num_turns

    def stats(self, arena: LiveArena, running: Pass | None, engines: Mapping[str, Engine]) -> dict[str, Any]:
        """All of them; of what still runs, only what it had to copy at its begin is counted."""
        policy = arena.policy
        found: dict[str, Any] = {
            "policy": policy.name,
            "arena_bytes": arena.lane.capacity_bytes,
            "num_switches": self._num_switches,
            "num_begun": self._num_begun,
            "hits": self._num_hits,
            "bytes_in": self._bytes_in + (running.plan.num_bytes if running is not None else 0),
            "ahead_bytes": self._ahead_bytes,
            "bytes_out": self._bytes_out,
            "evicted_bytes": self._evicted_bytes,
            "turns_undone": sum(self._failed.values()),
        }
        for name in self._names:
            found[f"resident_bytes {name}"] = policy.arena.resident_bytes(name)
            found[f"switches_to {name}"] = self._turns[name]
            found[f"turns_undone {name}"] = self._failed[name]
        return found | _summed(engines)


def _summed(engines: Mapping[str, Engine]) -> dict[str, Any]:
    each = [engine.stats() for engine in engines.values()]
    found: dict[str, Any] = {name: sum(getattr(one, name) for one in each) for name in _SUMMED}
    counts = [one.counts for one in each]
    found |= {name: sum(getattr(one, name) for one in counts) for name in counts[0]._fields}
    # On one device all are alike, and nothing is recorded of weights that move.
    row_steps = [one.row_steps for one in each if one.row_steps is not None]
    return found | {
        "decoding": each[0].decoding, "row_steps": sum(row_steps) if row_steps else None, "graph_steps": None
    }  # fmt: skip
