"""What can be loaded under a budget: a model that is brought up to answer, and taken down to make room.

`num_bytes` is what planners count with, known before anything is loaded. What an engine says that it took
after loading is another number (`Measured`); the residency draws the difference on the budget too.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from harness.backends.base import Backend

__all__ = ["HeldOnce", "Loadable", "Measured"]


class Loadable(Protocol):
    """A model that is loaded and unloaded by turns; one load at a time."""

    @property
    def name(self) -> str:
        """As planners and tables call it."""

    @property
    def num_bytes(self) -> int:
        """Memory it takes while it is loaded, as declared or computed from its files."""

    @property
    def slots(self) -> int:
        """Requests that it answers at once; more wait outside."""

    @property
    def is_kept(self) -> bool:
        """Whether its engine stays up: loading it is bookkeeping, and how long that takes says nothing."""

    async def load(self) -> Backend:
        """Bring it up and return a client of it when it answers; on every other way out it is down.

        Raises
        ------
        LaunchError, BackendError: it did not come up.
        """

    async def unload(self) -> None:
        """Take it down; return when its memory is free. Of one that is not loaded: do nothing.

        After an error, or when it was cancelled, it may be called again.
        """


@runtime_checkable
class Measured(Protocol):
    """A loadable whose engine tells what it takes."""

    @property
    def taken_bytes(self) -> int | None:
        """What it really took when it was last loaded; None where the engine did not say."""


@runtime_checkable
class HeldOnce(Protocol):
    """A loadable whose server holds one of it, whatever the options: to drop one is to drop all."""

    @property
    def held_as(self) -> str:
        """What the server holds; the same of two that are one there."""
