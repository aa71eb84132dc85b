"""What is running, and how long it will still take."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

__all__ = ["Progress"]


class Progress:
    """Writes a line when a variant is done and, on a terminal, a moving one while it runs.

    Time left is the mean time of the variants measured so far, times those to come.
    """

    KEY: pytest.StashKey[Progress] = pytest.StashKey()

    def __init__(self, reporter: Any, nodeids: list[str]) -> None:
        self.reporter = reporter
        self.waiting = list(nodeids)
        self.total = len(nodeids)
        self.begin_s = monotonic()
        self.moving = False

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
        if self.moving:
            self.reporter.rewrite("", erase=True)
            self.moving = False
        done = self.total - len(self.waiting)
        path, _, name = report.nodeid.rpartition("::")
        self.reporter.ensure_newline()
        line = f"  {done} of {self.total} {report.outcome}: {name}, {report.duration:.1f} s{self._left()}"
        self.reporter.write_line(line)
        self.reporter.currentfspath = self.reporter.config.rootpath / path  # or the path is written again

    def _left(self) -> str:
        done = self.total - len(self.waiting)
        if not done or not self.waiting:
            return ""
        left_s = (monotonic() - self.begin_s) / done * len(self.waiting)
        return f", about {left_s / 60:.0f} min left" if left_s >= 90 else f", about {left_s:.0f} s left"
