"""`python -m reports index FOLDER`: a page over the runs of a folder, with the history of each claim."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write index.html: the runs of a folder, and what became of each claim from one to the next"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder of runs, such as results")


def run(args: argparse.Namespace) -> int:
    """Write the index, print where; a run that cannot be read is named, and makes the status 1."""
    from reports.pages.index import write

    path, broken = write(args.folder)
    for run in broken:
        print(f"error: {args.folder / run.name}: {run.error}", file=sys.stderr)
    print(path)
    return 1 if broken else 0
