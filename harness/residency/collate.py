"""Whose turn is next when requests for several models wait: fewer switches, and nobody waits for ever.

Requests for the model that runs go first, so that ABAACABC is served as AAAABBCC: two switches in place of
six. Two bounds keep that fair and calm:

    max_wait_s       who has waited longer is next, oldest first, whatever runs
    min_residency_s  a model that came is not left before, even if only others wait: its user may ask again

With max_wait_s = 0 the order is that of arrival. The first bound beats the second.

Physics: a switch costs missing bytes ÷ link, a request that is passed over waits for those before it. With a
maximum wait W and requests of at most S seconds, n waiting, nobody waits longer than W + n S and a switch
each.

Source: the order is asked for in llama-swap's issues (facts on switching).
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from harness.errors import UsageError

__all__ = ["CollatingQueue", "Waiting"]


class Waiting(NamedTuple):
    """A request in the queue."""

    arrived_s: float
    number: int
    """In the order of arrival; breaks ties."""
    model: str


class CollatingQueue:
    """Requests that wait. Not safe to use from several threads; time is the caller's."""

    def __init__(self, *, max_wait_s: float = math.inf, min_residency_s: float = 0.0) -> None:
        if not (max_wait_s >= 0 and 0 <= min_residency_s < math.inf):
            raise UsageError(
                f"queue: max_wait_s {max_wait_s}, min_residency_s {min_residency_s}; give seconds, 0 or more"
            )
        self.max_wait_s = max_wait_s
        self.min_residency_s = min_residency_s
        self._queues: dict[str, deque[Waiting]] = {}
        self._number = 0
        self._current: str | None = None
        self._since_s = -math.inf

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def put(self, model: str, arrived_s: float) -> Waiting:
        """Queue a request; return it, to be recognised when its turn comes."""
        waiting = Waiting(arrived_s, self._number, model)
        self._number += 1
        self._queues.setdefault(model, deque()).append(waiting)
        return waiting

    def take(self, now_s: float) -> Waiting | None:
        """Take whose turn it is; None when nobody waits, or the current model stays a while."""
        chosen = self.peek(now_s)
        if chosen is None:
            return None
        self._queues[chosen.model].popleft()
        if chosen.model != self._current:
            self._current, self._since_s = chosen.model, now_s
        return chosen

    def peek(self, now_s: float) -> Waiting | None:
        """Whose turn it would be, as far as is known now: what lookahead may copy for."""
        heads = [queue[0] for queue in self._queues.values() if queue]
        if not heads:
            return None
        oldest = min(heads)
        if now_s >= oldest.arrived_s + self.max_wait_s:
            return oldest
        own = self._queues.get(self._current) if self._current is not None else None
        if own:
            return own[0]
        return oldest if now_s >= self._since_s + self.min_residency_s else None

    def due_s(self) -> float | None:
        """When `take` gives someone at the latest, if nobody else comes; None when nobody waits."""
        heads = [queue[0] for queue in self._queues.values() if queue]
        if not heads:
            return None
        oldest_s = min(heads).arrived_s
        if self._current is not None and self._queues.get(self._current):
            return oldest_s
        return max(oldest_s, min(self._since_s + self.min_residency_s, oldest_s + self.max_wait_s))

    def drop(self, waiting: Waiting) -> bool:
        """Take a request off the queue whose client is gone; False when its turn has come already."""
        queue = self._queues.get(waiting.model, deque())
        if waiting not in queue:
            return False
        queue.remove(waiting)
        return True
