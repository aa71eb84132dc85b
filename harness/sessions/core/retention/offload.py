"""Copy to the host and back: InferCept's "swap", here without a pipeline."""

from __future__ import annotations

from harness.sessions.core.retention.base import Action, Candidate, Eviction, Prices, Retention

__all__ = ["Offload"]


class Offload(Retention):
    """Who goes is copied to the host; where the host has no room, nobody goes."""

    name = "offload"

    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """Offer to offload the session, None where the host has no room; an empty slab is just given back."""
        if candidate.used_bytes == 0:
            return Eviction(candidate, Action.DROP, 0.0)
        if candidate.used_bytes > prices.host_free_bytes:
            return None
        return Eviction(candidate, Action.OFFLOAD, prices.offload_waste(candidate))
