"""`python -m reports plan`: how many rounds, minutes and dollars it takes to decide, from earlier spread."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reports.commands.arguments import FILE, read_all
from reports.commands.compare import share
from reports.errors import JournalError

__all__ = ["HELP", "add_arguments", "run"]

HELP = "rounds, minutes and cost until each claim is decided, from earlier runs (docs/comparing.md)"

REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is planned, how surely, and from what."""
    parser.add_argument(
        "runs", type=Path, nargs="*", metavar="RUN", help=f"{FILE} (default: reports/reference/*)"
    )
    parser.add_argument(
        "-m", action="append", default=[], dest="experiments", metavar="EXPERIMENT", help="only its claims"
    )
    parser.add_argument(
        "--claim", action="append", default=[], dest="claims", metavar="ID", help="only this one"
    )
    parser.add_argument(
        "--power", type=_power, default=0.9, metavar="0.9", help="the chance to decide (default: 0.9)"
    )
    parser.add_argument(
        "--detect", type=_change, metavar="10%", help="instead: until `compare` finds a change of this size"
    )
    parser.add_argument(
        "--drift", type=share, default=0.05, metavar="5%", help="sd of a session's own level, for --detect"
    )
    parser.add_argument(
        "--all", action="store_true", dest="is_whole", help="with claims that nothing here decides"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan there, too")


def run(args: argparse.Namespace) -> int:
    """Plan and print; 1 when a run could not be read, 2 when none could."""
    from reports.journal import write_json
    from reports.planning import plan
    from reports.plans.lines import detections_text, plan_text
    from reports.tabular.layout import width_here

    if args.detect is not None and args.claims:
        raise JournalError("plan: --detect is about tests, not claims; leave --claim out, or narrow it by -m")
    found = read_all(args.runs or _reference())
    if not found.runs:
        return 2
    if args.detect is not None:
        from reports.plans.detecting import detect, level_of

        _refuse_unknown(args.experiments, {e for one in found.runs for e in one.experiments})
        rows = [
            d
            for one in found.runs
            for d in detect(one, args.detect, args.power, args.drift, args.experiments)
        ]
        levels = [
            level_of(one)
            for one in found.runs
            if not args.experiments or {*one.experiments} & {*args.experiments}
        ]
        print(detections_text(rows, args.detect, args.power, levels, width=width_here()))
        told = {"detect": args.detect, "power": args.power, "metrics": [row.to_json() for row in rows]}
    else:
        planned = plan(found.runs, args.power, args.experiments, args.claims)
        print(plan_text(planned, args.power, width=width_here(), is_whole=args.is_whole or bool(args.claims)))
        told = {"power": args.power, "claims": [one.to_json() for one in planned]}
    if args.json is not None:
        write_json(args.json, told)
    return found.status


def _reference() -> Sequence[Path]:
    """The committed runs.

    Raises
    ------
    JournalError: they are not installed along.
    """
    found = sorted(REFERENCE.glob("*/run.json"))
    if not found:
        raise JournalError(f"plan: no runs in {REFERENCE}; name one: python -m reports plan results/<run>")
    return [path.parent for path in found]


def _refuse_unknown(wanted: Sequence[str], known: set[str]) -> None:
    """Raise where an experiment is in no run."""
    if gone := sorted(set(wanted) - known):
        raise JournalError(
            f"plan: no experiment {gone[0]!r} in these runs; there are: {', '.join(sorted(known))}"
        )


def _power(text: str) -> float:
    try:
        value = share(text)
    except argparse.ArgumentTypeError:
        value = 0.0
    if not value > 0.05:
        raise argparse.ArgumentTypeError(f"{text!r} is no power between 5% and 100%; write 0.9 or 90%")
    return value


def _change(text: str) -> float:
    value = share(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no change; write 10%")
    return value
