"""Replays a finished variant's stored rounds into a new session, so that its benchmark.json is whole.

Through public API alone: the test keeps its name and node id, its body is not called, and pytest-benchmark
runs its rounds on a timer that ticks the stored durations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reports import journal

__all__ = ["StoredClock", "arm", "disarm", "is_armed", "replay", "run_of"]

_STORED: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


class StoredClock:
    """A timer whose successive pairs of readings lie the stored durations apart."""

    __name__, __module__ = "perf_counter", "time"
    # pytest-benchmark writes the timer's name into the options of the benchmark.

    def __init__(self, durations_s: list[float]) -> None:
        self._ticks: Iterator[float] = iter([tick for d in durations_s for tick in (0.0, d)])

    def __call__(self) -> float:
        """The next reading."""
        return next(self._ticks)


def run_of(results: Path, plan: Mapping[str, Any]) -> Path:
    """The newest run in a folder, if it was measured under this plan.

    Raises
    ------
    UsageError: there is none, or its plan differs. JournalError: its plan cannot be read.
    """
    run = journal.newest(results)
    if run is None:
        raise pytest.UsageError(f"--resume: no run in {results}; run once without it")
    changed = journal.differences(journal.read_plan(run)["plan"], plan)
    if changed:
        raise pytest.UsageError(
            f"--resume: {run} was measured under another plan, and rounds of two plans do not mix; "
            "run without --resume. What differs:\n  " + "\n  ".join(changed)
        )
    return run


def arm(item: pytest.Item, entry: dict[str, Any]) -> None:
    """Mark an item for replay, if its stored entry is one that can be replayed."""
    if entry["outcome"] == "passed" and entry["data"]:
        item.stash[_STORED] = entry
        item.add_marker(pytest.mark.benchmark(timer=StoredClock(entry["data"])))


def disarm(item: pytest.Item) -> None:
    """Have an item measured, and not replayed."""
    if is_armed(item):
        del item.stash[_STORED]
        item.own_markers[:] = [
            mark for mark in item.own_markers if not isinstance(mark.kwargs.get("timer"), StoredClock)
        ]


def is_armed(item: pytest.Item) -> bool:
    """Whether the item is to be replayed."""
    return _STORED in item.stash


def replay(item: pytest.Function) -> bool:
    """Feed the stored rounds back, in place of the test's body."""
    entry = item.stash[_STORED]
    benchmark: Any = item.funcargs["benchmark"]
    benchmark.extra_info.update(entry["extra_info"])
    benchmark.pedantic(lambda: None, rounds=len(entry["data"]))
    return True
