"""What is running, and how long it will still take.

Trap: variants differ. A grading of hundreds of tasks and a pure computation may stand in one list, so an
estimate is only made from variants of the same test function, and none is made before each has one.
"""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["Progress"]


class Progress:
    """Writes a line when a variant is done and, on a terminal, a moving one while it runs.

    Time left is, per test function, the mean time of its variants so far, times those to come. Work that
    tests share falls to the first of them, so that it is left out where there is another.
    """

    KEY: pytest.StashKey[Progress] = pytest.StashKey()

    def __init__(self, reporter: Any, nodeids: list[str]) -> None:
        self.reporter = reporter
        self.waiting = list(nodeids)
        self.total = len(nodeids)
        self.took_s: dict[str, list[float]] = {}
        self.moving = False
        self.num_lanes = 1
        """How many tests run at a time."""

    def step(self, what: str, done: int, total: int) -> None:
        """Say how far something inside a test has come. Silent where no one watches."""
        if self.reporter is not None and self.reporter.isatty:
            self.reporter.rewrite(f"  {what}: {done} of {total}{self._left()}", erase=True)
            self.moving = True

    def finished(self, report: pytest.TestReport) -> None:
        """A test is done."""
        if report.nodeid not in self.waiting or self.reporter is None:
            return
        self.waiting.remove(report.nodeid)
        self.took_s.setdefault(_function(report.nodeid), []).append(report.duration)
        if self.moving:
            self.reporter.rewrite("", erase=True)
            self.moving = False
        done = self.total - len(self.waiting)
        path, _, name = report.nodeid.rpartition("::")
        self.reporter.ensure_newline()
        line = f"  {done} of {self.total} {report.outcome}: {name}, {report.duration:.1f} s{self._left()}"
        self.reporter.write_line(line)
        if self.reporter.showfspath:
            self.reporter.currentfspath = self.reporter.config.rootpath / path  # or it is written again

    def _left(self) -> str:
        """Empty while some function that is to come was never timed."""
        functions = [_function(nodeid) for nodeid in self.waiting]
        if not functions or not all(self.took_s.get(name) for name in functions):
            return ""
        left_s = sum(_typical_s(self.took_s[name]) for name in functions) / self.num_lanes
        return f", about {left_s / 60:.0f} min left" if left_s >= 90 else f", about {left_s:.0f} s left"


def _function(nodeid: str) -> str:
    """The test without its parameters."""
    return nodeid.partition("[")[0]


def _typical_s(times_s: list[float]) -> float:
    """The mean without the first, which pays for what all share, where there is another."""
    rest = times_s[1:] or times_s
    return sum(rest) / len(rest)
