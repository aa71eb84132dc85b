"""Drop and compute again: what most servers do with a request that is over, InferCept's "discard"."""

from __future__ import annotations

from harness.sessions.core.retention.base import Action, Candidate, Eviction, Prices, Retention

__all__ = ["Drop"]


class Drop(Retention):
    """Who goes is computed again on its next turn."""

    name = "drop"

    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """Offer to drop the session."""
        return Eviction(candidate, Action.DROP, prices.drop_waste(candidate))
