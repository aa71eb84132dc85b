"""A role's engines: who answers for "small" or "large", how many at once, and at what price."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from harness.backends.base import Backend
from harness.workflow.cost import Price

__all__ = ["Endpoint"]


class Endpoint:
    """One role's engines and their slots.

    Requests wait here, not inside the server, so that queueing is measured and not mistaken for prefill.

    Arguments: `backends`, the replicas of one model; `slots`, requests that each may hold at once;
    `price`, what an answer costs.
    """

    def __init__(
        self, role: str, backends: Sequence[Backend], *, slots: int, price: Price, label: str
    ) -> None:
        self.role = role
        self.backends = tuple(backends)
        self.price = price
        self.label = label
        self._free: asyncio.Queue[Backend] = asyncio.Queue()
        for _ in range(slots):
            for backend in self.backends:
                self._free.put_nowait(backend)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Backend]:
        """Hold a replica's slot; waits, first come first served, while all are taken."""
        backend = await self._free.get()
        try:
            yield backend
        finally:
            self._free.put_nowait(backend)
