"""Which part of a load is counted, and whether the system was steady in it.

A request is counted when its *intended start* lies in the window, from the end of the warm-up to the end of
the arrivals, both included; when it ends does not matter, and it is waited for. Requests due before are
served and not counted, since the system was still filling. The end of the arrivals is, in an open loop, the
end of the pattern's window (of a trace: its last arrival); in a closed loop the last intended start, for
until then every user had a request going. What is served while the last answers drain is not counted as
throughput.

Selecting by start and not by end keeps slow requests in: by end, an overloaded server would seem faster the
sooner one looked away.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.errors import UsageError
from harness.load.log import Entry

__all__ = ["Steadiness", "Window", "counted", "mean_in_flight", "steadiness"]

_PARTS = 4
_GROWTH = 2.0
_MIN_GROWTH = 2.0


class Window(NamedTuple):
    """Seconds from the begin of the load."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """From start to end."""
        return self.end_s - self.start_s

    @classmethod
    def after(cls, warmup_s: float, end_s: float) -> Window:
        """The window from the end of the warm-up to the end of the arrivals.

        Raises
        ------
        UsageError: nothing is left of it.
        """
        if warmup_s < 0 or not warmup_s < end_s:
            raise UsageError(
                f"warm-up: {warmup_s:g} s of {end_s:.3g} s of arrivals leave no window to measure in; "
                "offer load for longer"
            )
        return cls(warmup_s, end_s)


class Steadiness(NamedTuple):
    """Requests in flight over the quarters of the window."""

    in_flight: tuple[float, ...]
    is_steady: bool
    """False when they rose from quarter to quarter, and to twice of what they were (and by two at least).

    Then more was offered than served, and every latency grows with the length of the load. By chance a steady
    system rises through four quarters in one load of 24, and by a factor of two still more rarely.
    """


def counted(entries: Sequence[Entry], window: Window) -> list[Entry]:
    """The entries whose intended start lies in the window."""
    return [entry for entry in entries if window.start_s <= entry.intended_s <= window.end_s]


def mean_in_flight(entries: Sequence[Entry], window: Window) -> float:
    """Requests due and not ended, averaged over the time of the window."""
    overlap_s = (min(entry.done_s, window.end_s) - max(entry.intended_s, window.start_s) for entry in entries)
    return sum(max(0.0, each) for each in overlap_s) / window.length_s


def steadiness(entries: Sequence[Entry], window: Window) -> Steadiness:
    """Whether requests piled up over the window; `entries` are all of the load, warm-up included."""
    step_s = window.length_s / _PARTS
    levels = tuple(
        mean_in_flight(entries, Window(window.start_s + part * step_s, window.start_s + (part + 1) * step_s))
        for part in range(_PARTS)
    )
    rises = all(a < b for a, b in pairwise(levels))
    grew = levels[-1] >= _GROWTH * levels[0] and levels[-1] - levels[0] >= _MIN_GROWTH
    return Steadiness(levels, not (rises and grew))
