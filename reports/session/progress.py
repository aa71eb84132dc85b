"""What is running, and how long it will still take.

Trap: variants differ. A grading of hundreds of tasks and a pure computation may stand in one list, so an
estimate is only made from variants of the same test function, or of what this very test took in an earlier
run with the same options, and none is made before each that is to come has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from reports import journal
from reports.errors import ReportError
from reports.tabular.cells import about
from reports.tabular.layout import width_here

__all__ = ["Progress", "earlier_s"]

LOOK_BACK = 5
"""Runs that are looked through for what a test took."""


class Progress:
    """Writes a line when a variant is done and, on a terminal, a moving one while it runs.

    Time left is, per test function, the mean time of its variants so far, times those to come; of a function
    that was not timed yet, what its tests took `earlier`. Work that tests share falls to the first of them,
    so that it is left out where there is another. Where several run at a time, it is that by as many, or what
    the longest block takes, which stays together.
    """

    KEY: pytest.StashKey[Progress] = pytest.StashKey()

    def __init__(
        self, reporter: Any, nodeids: Sequence[str], earlier: Mapping[str, float] | None = None
    ) -> None:
        self.reporter = reporter
        self.earlier = earlier or {}
        self.waiting = list(nodeids)
        self.total = len(nodeids)
        self.took_s: dict[str, list[float]] = {}
        self.moving = False
        self.num_lanes = 1
        """How many tests run at a time."""
        self.blocks: Sequence[Sequence[str]] = ()
        """Tests that run one after the other, however many lanes there are."""

    def step(self, what: str, done: int, total: int) -> None:
        """Say how far something inside a test has come. Silent where no one watches."""
        if self.reporter is not None and self.reporter.isatty:
            text = f"  {what}: {done} of {total}{self._left()}"
            with self._shown():
                # A wrapped line is not erased whole.
                self.reporter.rewrite(text[: width_here() - 1], erase=True)
            self.moving = True

    def say(self, text: str) -> None:
        """Write a line of its own."""
        if self.reporter is not None:
            self.reporter.ensure_newline()
            self.reporter.write_line(text)

    def again(self, nodeids: Sequence[str]) -> None:
        """More tests are to come, that were counted once."""
        self.waiting += nodeids
        self.total += len(nodeids)

    def finished(self, report: pytest.TestReport) -> None:
        """A test is done."""
        if report.nodeid not in self.waiting or self.reporter is None:
            return
        self.waiting.remove(report.nodeid)
        self.took_s.setdefault(_function(report.nodeid), []).append(report.duration)
        done = self.total - len(self.waiting)
        path, _, name = report.nodeid.rpartition("::")
        self._end(f"  {done} of {self.total} {report.outcome}: {name}, {report.duration:.1f} s{self._left()}")
        if self.reporter.showfspath:
            self.reporter.currentfspath = self.reporter.config.rootpath / path  # or it is written again

    def _shown(self) -> AbstractContextManager[None]:
        """Within it what is written in a test is seen, and not kept with what the test prints."""
        capture: Any = self.reporter.config.pluginmanager.getplugin("capturemanager")
        shown: AbstractContextManager[None] = (
            capture.global_and_fixture_disabled() if capture else nullcontext()
        )
        return shown

    def _end(self, line: str) -> None:
        """Write a line that stays, over the moving one where there is one."""
        if self.moving:
            self.reporter.rewrite(line, erase=True)
            self.reporter._tw.line()
            self.moving = False
            return
        if not self.reporter._tw.width_of_current_line:
            self.reporter.currentfspath = None  # or a line that is empty already would be ended
        self.reporter.write_line(line)

    def _left(self) -> str:
        """Empty while nothing tells how long some test that is to come will take."""
        times_s = {nodeid: self._expected_s(nodeid) for nodeid in self.waiting}
        known_s = {nodeid: time_s for nodeid, time_s in times_s.items() if time_s is not None}
        if not times_s or len(known_s) < len(times_s):
            return ""
        longest_s = max((sum(known_s.get(one, 0.0) for one in block) for block in self.blocks), default=0.0)
        left_s = max(sum(known_s.values()) / self.num_lanes, longest_s)
        return f", {about(left_s)} left"

    def _expected_s(self, nodeid: str) -> float | None:
        took_s = self.took_s.get(_function(nodeid))
        return _typical_s(took_s) if took_s else self.earlier.get(nodeid)


def earlier_s(results: Path, settings: Mapping[str, Any], *, but: Path | None = None) -> dict[str, float]:
    """Test → seconds that it took in the newest runs of a folder that had the same options.

    Arguments: `but`, a run that is left out, since it is this one.
    """
    found: dict[str, float] = {}
    for run in islice((one for one in journal.newest_first(results) if one != but), LOOK_BACK):
        try:
            is_same = journal.read_plan(run)["plan"].get("settings") == settings
            entries = journal.read(run).entries if is_same else []
        except ReportError:  # a damaged run tells nothing here, and is no reason to stop
            continue
        for entry in entries:
            took_s = entry.get("duration_s")
            if isinstance(took_s, int | float) and entry.get("outcome") == "passed":
                found.setdefault(entry["nodeid"], float(took_s))
    return found


def _function(nodeid: str) -> str:
    """The test without its parameters."""
    return nodeid.partition("[")[0]


def _typical_s(times_s: list[float]) -> float:
    """The mean without the first, which pays for what all share, where there is another."""
    rest = times_s[1:] or times_s
    return sum(rest) / len(rest)
