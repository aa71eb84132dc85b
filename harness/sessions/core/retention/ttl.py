"""Pin for a while: Continuum's rule, that who comes back soon is not to be computed again.

For `ttl_s` after a turn a session's slab is pinned: no other turn that waits may take it while something
runs, and so frees memory soon anyway. After that it goes as an LRU cache's does: who has waited longest goes
first, copied or dropped, whichever wastes less. A session without a turn so far holds nothing worth a pin.

What it trades: a pin saves recomputing what a short pause would have lost, and costs those who wait for its
memory. With pauses below ttl_s it is `keep` for turns; with longer ones LRU, ttl_s late. Where nothing runs,
pins give way, since all would wait for a clock. To open a session is refused while all others are pinned.

Source: Li et al., "Continuum: Efficient and Robust Multi-Turn LLM Agent Scheduling with KV Cache Time-to-
Live", 2025, arXiv 2511.02230. The paper sets the time per tool from its durations; here it is given.
"""

from __future__ import annotations

from harness.errors import UsageError
from harness.sessions.core.retention.base import Candidate, Eviction, Prices, Retention
from harness.sessions.core.retention.least_waste import LeastWaste

__all__ = ["Ttl"]


class Ttl(Retention):
    """Nobody goes within `ttl_s` of a turn while something runs; then who has waited longest.

    Raises
    ------
    UsageError: `ttl_s` is negative, or no number.
    """

    name = "ttl"

    def __init__(self, ttl_s: float = 2.0) -> None:
        # Written so that NaN fails.
        if not ttl_s >= 0:
            raise UsageError(f"ttl_s is {ttl_s}; give seconds, 0 for none")
        self.ttl_s = ttl_s
        self._way = LeastWaste()

    def eviction(self, candidate: Candidate, prices: Prices) -> Eviction | None:
        """Offer the way that wastes less, None while the session is pinned."""
        is_pinned = candidate.num_tokens > 0 and candidate.idle_s < self.ttl_s
        if is_pinned and prices.running_bytes > 0:
            return None
        return self._way.eviction(candidate, prices)

    def rank(self, offer: Eviction) -> float:
        """Empty slabs first, then who has waited longest."""
        candidate = offer.candidate
        return -candidate.idle_s if candidate.num_tokens else float("-inf")
