"""`python -m reports compare A B`: what became better, worse, or stayed as it was between two runs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from reports.commands.arguments import FILE, read_all

__all__ = ["HELP", "add_arguments", "run", "share"]

HELP = "compare two runs, claim by claim and metric by metric (docs/comparing.md)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two runs and what is declared of them."""
    parser.add_argument("before", type=Path, metavar="A", help=f"the earlier one: {FILE}")
    parser.add_argument("after", type=Path, metavar="B", help="the later one")
    parser.add_argument(
        "--margin", type=share, default=0.05, metavar="5%", help="what is too small to matter (default: 5%%)"
    )
    parser.add_argument(
        "--drift",
        type=share,
        default=0.05,
        metavar="5%",
        help="sd of a session's own level, where sessions do not tell it (default: 5%%)",
    )
    parser.add_argument("--all", action="store_true", dest="is_whole", help="print every number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument(
        "--fail-on",
        choices=("regressed", "nothing"),
        default="nothing",
        help="exit with 1 on a regression, or when a test is lost or fails",
    )


def share(text: str) -> float:
    """A share on the command line: "5%" or "0.05".

    Raises
    ------
    ArgumentTypeError: it is none between 0 and 1.
    """
    is_percent = text.strip().endswith("%")
    try:
        value = float(text.strip().rstrip("%")) / (100 if is_percent else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share below 1; write 5% or 0.05")
    return value


def run(args: argparse.Namespace) -> int:
    """Compare, print, and write what was asked for; 1 where a regression is to fail, 2 without two runs."""
    from reports.compare import Terms, compare
    from reports.comparing.lines import text_of
    from reports.journal import write_json
    from reports.tabular.layout import width_here

    both = read_all([args.before, args.after])
    if both.errors:
        return 2
    before, after = both.runs
    found = compare(before, after, Terms(margin=args.margin, drift=args.drift))
    print(text_of(found, width=width_here(), is_whole=args.is_whole))
    if args.json is not None:
        write_json(args.json, found.to_json())
    if args.fail_on == "nothing" or not found.is_worse:
        return 0
    print(f"\nfails: {found.counts()['regressed']} regressed, {len(found.surroundings.lost)} lost or failing")
    for name in found.surroundings.lost:
        print(f"    {name}")
    return 1
