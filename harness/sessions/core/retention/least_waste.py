"""InferCept's rule: drop or offload, whichever wastes less, and first who wastes most by staying."""

from __future__ import annotations

from harness.sessions.core.retention.base import Candidate, Eviction, Prices, Retention
from harness.sessions.core.retention.drop import Drop
from harness.sessions.core.retention.offload import Offload

__all__ = ["LeastWaste"]


class LeastWaste(Retention):
    """The lesser waste per session; a session that will be back soonest for its size goes last."""

    name = "least-waste"

    def __init__(self) -> None:
        self._ways: tuple[Retention, ...] = (Drop(), Offload())

    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """Offer the way that wastes less."""
        offers = [offer for way in self._ways if (offer := way.eviction(candidate, prices))]
        return min(offers, key=lambda offer: offer.waste)
