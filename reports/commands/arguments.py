"""Arguments that several commands take, and how they read what those name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reports.errors import ReportError

if TYPE_CHECKING:
    from reports.runs import Run

__all__ = ["ReadRuns", "add_files", "add_run", "add_runs", "read_all"]

WHAT = "a run's folder, such as results/20260101-120000"
FILE = f"{WHAT}, its journal.jsonl, or a benchmark.json"


class ReadRuns(NamedTuple):
    """What could be read, in the order given, and a line for each that could not."""

    runs: list[Run]
    errors: list[str]

    @property
    def status(self) -> int:
        """The exit status so far: 0, 1 when some could not be read, 2 when none could."""
        return 0 if not self.errors else 1 if self.runs else 2


def add_run(parser: argparse.ArgumentParser) -> None:
    """One run, as `args.run`."""
    parser.add_argument("run", type=Path, metavar="RUN", help=WHAT)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """One run or more, as `args.runs`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=WHAT)


def add_files(parser: argparse.ArgumentParser, name: str = "runs") -> None:
    """One stored result or more, as `args.runs` unless named otherwise: folders, journals, benchmarks."""
    parser.add_argument(name, type=Path, nargs="+", metavar="FILE", help=FILE)


def read_all(paths: Sequence[Path], *, judged: bool = True) -> ReadRuns:
    """Read each; what cannot be read is printed as one line to standard error, and the others go on.

    Arguments: `judged`, whether the verdicts that stand beside are read too.
    """
    from reports.runs import Run

    found = ReadRuns([], [])
    for path in paths:
        try:
            found.runs.append(Run.read(path, judged=judged))
        except ReportError as exc:
            print(f"error: {exc}", file=sys.stderr)
            found.errors.append(str(exc))
    return found
