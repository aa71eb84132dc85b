"""Copy to the host and back: InferCept's "swap", here without a pipeline."""

from __future__ import annotations

from harness.sessions.core.retention.base import Action, Candidate, Eviction, Prices, Retention

__all__ = ["Offload"]


class Offload(Retention):
    """Who goes is copied to the host, or dropped where the host has no room.

    Were it kept then, a turn could wait for ever behind a session that waits as well.
    """

    name = "offload"

    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """Offer to offload the session, or to drop it; an empty slab is just given back."""
        if candidate.used_bytes == 0 or candidate.used_bytes > prices.host_free_bytes:
            return Eviction(candidate, Action.DROP, prices.drop_waste(candidate))
        return Eviction(candidate, Action.OFFLOAD, prices.offload_waste(candidate))
