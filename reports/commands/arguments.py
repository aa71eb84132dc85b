"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_run", "add_runs"]

WHAT = "a run's folder, such as results/20260101-120000"


def add_run(parser: argparse.ArgumentParser) -> None:
    """One run, as `args.run`."""
    parser.add_argument("run", type=Path, metavar="RUN", help=WHAT)


def add_runs(parser: argparse.ArgumentParser) -> None:
    """One run or more, as `args.runs`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=WHAT)
