"""`python -m reports readme RUN …`: the claims tables of committed runs, in README.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.commands.arguments import add_runs

__all__ = ["HELP", "add_arguments", "run"]

HELP = "write the claims tables of runs into README.md; each has experiments of its own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, and whether to write."""
    add_runs(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when it differs")


def run(args: argparse.Namespace) -> int:
    """Write or check the README of the working directory."""
    return _readme(args.runs, Path("README.md"), is_check=args.check)


def _readme(run_dirs: Sequence[Path], readme: Path, *, is_check: bool) -> int:
    """Write or check the README's tables; the exit status."""
    from reports.readme import insert, table_of

    old = readme.read_text(encoding="utf-8")
    new = insert(old, table_of(run_dirs))
    if is_check and new != old:
        where = ", ".join(str(run_dir) for run_dir in run_dirs)
        print(
            f"error: {readme}: its claims table is not that of {where}; run without --check",
            file=sys.stderr,
        )
        return 1
    readme.write_text(new, encoding="utf-8")
    return 0
