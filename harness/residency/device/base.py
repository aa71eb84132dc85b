"""The memory of a device, and the one lane on which bytes come into it.

A lane copies in the order in which it was told, one copy at a time; whoever computes waits for the chunk that
comes next and for no other. What lies under a copy must have been computed on for the last time: `after` says
so, with a mark that was set behind that computing.

    landing = lane.copy_in("a", load, after=(mark,))   queued; returns at once
    lane.wait(landing)                                 what is computed from now on may use it
    ...                                                compute
    mark = lane.mark()                                 behind all that was asked of the device so far

On a CPU computing is done when the call returns, so a mark is nothing; waiting blocks the caller. On a GPU a
mark is an event of the compute stream, waiting is the stream's, and the caller goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from harness.residency.policies.base import Load
from harness.residency.store.blob import HostBlob

__all__ = ["Landed", "Landing", "Lane", "Mark"]

Mark = Any
"""A place in what the device computes; None where computing is done when its call returns."""


class Landed(NamedTuple):
    """When a copy crossed, in seconds of `time.perf_counter`; on a GPU as its events say."""

    began_s: float
    ended_s: float


class Landing(Protocol):
    """A copy under way."""

    @property
    def num_bytes(self) -> int: ...  # noqa: D102
    @property
    def has_begun(self) -> bool:
        """Whether it is too late to call it off."""
        ...

    @property
    def has_failed(self) -> bool:
        """Whether it will never land, also because it was called off."""
        ...

    @property
    def landed(self) -> Landed | None:
        """When it crossed; None as long as it has not, or if it never will."""
        ...

    @property
    def stalled_s(self) -> float:
        """How long the device stood still for it unseen by its caller; 0 where waiting is the caller's."""
        ...


class Lane(Protocol):
    """An arena of fixed capacity, its pages touched before the first copy, and the way into it."""

    @property
    def capacity_bytes(self) -> int:
        """Of the arena."""
        ...

    @property
    def arena(self) -> Any:
        """The arena as a flat torch tensor of uint8 on the device; views of it are the parameters."""
        ...

    def register(self, blob: HostBlob) -> None:
        """Make a blob known under its model's name; a GPU pins it, where it lies.

        Raises
        ------
        BudgetError: the host has no memory to pin.
        """
        ...

    def copy_in(self, model: str, load: Load, *, after: Sequence[Mark] = ()) -> Landing:
        """Queue a copy of a chunk. `load.after` is the caller's: it has become a mark in `after`.

        Raises
        ------
        ArenaError: the lane is broken; the message has the cause.
        """
        ...

    def wait(self, landing: Landing) -> None:
        """Have what is computed from now on come after a copy.

        Raises
        ------
        ArenaError: it failed, was called off, or the lane broke. The next copy asked for mends the lane.
        """
        ...

    def call_off(self, landings: Sequence[Landing]) -> int:
        """Call off copies, given in their order; return how many had begun, which complete."""
        ...

    def copy_out(self, offset: int, num_bytes: int) -> Landing:
        """Queue a copy from the arena to a scratch place on the host: what the seed does on eviction."""
        ...

    def mark(self) -> Mark:
        """Behind all that was asked of the device so far."""
        ...

    def close(self) -> None:
        """End the lane and give its memory back; a second call does nothing."""
        ...
