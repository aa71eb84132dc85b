"""`python -m reports page RUN`: the run as one page, report.html."""

from __future__ import annotations

import argparse

from reports.commands.arguments import add_run

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write report.html, one page that needs nothing beside it, and its tables as CSV"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One run."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page, and print the files written."""
    from reports import page
    from reports.runs import Run

    for path in page.write(Run.read(args.run)):
        print(path)
    return 0
