"""`python -m reports merge RUN RUN … --to DIR`: several sessions of one plan as one run."""

from __future__ import annotations

import argparse
from pathlib import Path

from reports.commands.arguments import add_files, read_all

__all__ = ["HELP", "add_arguments", "run"]

HELP = "merge sessions of one plan into a new run's folder; other plans and machines are refused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sessions, and where to."""
    add_files(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")


def run(args: argparse.Namespace) -> int:
    """Merge all or nothing: a session that cannot be read is no session that was never measured."""
    found = read_all(args.runs, judged=False)
    if found.errors:
        return 2
    from reports.merging import merge_runs, write

    merged = merge_runs(found.runs)
    for line in write(merged, found.runs, args.to):
        print(line)
    num = len(merged.about["sessions"])
    print(f"{num} sessions in {args.to}; judge them: python -m reports verdicts {args.to}")
    return 0
