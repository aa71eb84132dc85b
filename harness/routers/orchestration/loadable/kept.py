"""A model whose engine stays up and is only accounted for: every router is graded over the same answers.

Which model answers, and what fits, is decided as if it were loaded and unloaded; that takes no time, and so
there is no load time: it is absent, not 0, and nothing is learned from it.
"""

from __future__ import annotations

from harness.backends.base import Backend
from harness.errors import UsageError

__all__ = ["KeptModel"]


class KeptModel:
    """A running engine in the ledger."""

    is_kept = True

    def __init__(self, name: str, num_bytes: int, backend: Backend, *, slots: int = 1) -> None:
        """Take a client of a running engine; it is not closed here.

        Raises
        ------
        UsageError: bytes or slots are below 1.
        """
        if num_bytes < 1 or slots < 1:
            raise UsageError(f"{name}: {num_bytes} bytes, {slots} slots; give both ≥ 1")
        self.name = name
        self.num_bytes = num_bytes
        self.slots = slots
        self.backend = backend

    async def load(self) -> Backend:
        """The client."""
        return self.backend

    async def unload(self) -> None:
        """Do nothing: the engine stays up."""
