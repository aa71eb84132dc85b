"""Keep everything: a session that finds no room is refused, or waits. The baseline."""

from __future__ import annotations

from harness.sessions.core.retention.base import Candidate, Eviction, Prices, Retention

__all__ = ["Keep"]


class Keep(Retention):
    """Nobody goes."""

    name = "keep"

    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """Return None: every slab stays."""
        return None
