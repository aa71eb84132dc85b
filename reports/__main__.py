"""What a run's folder says, made again from the folder alone.

python -m reports render results/<run>      tables, figures and the source's own files
python -m reports verdicts results/<run>    judges the stored records by the folder's own claims again
python -m reports readme RUN [RUN …]        writes their claims tables into README.md; --check only compares
python -m reports page results/<run>        report.html: the run as one page, and its tables as CSV
python -m reports index results             index.html: the runs of a folder, and each claim's history
python -m reports compare A B               what became better or worse from one run to another
python -m reports plan [RUN …]              rounds, minutes and cost until each claim is decided
python -m reports merge RUN RUN … --to DIR  several sessions of one plan as one run
python -m reports decidable OFFERS          says which claims can be decided with what a machine offers
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from reports.commands import compare, decidable, index, merge, page, plan, readme, render, verdicts
from reports.errors import ReportError

__all__ = ["main"]

COMMANDS: dict[str, ModuleType] = {
    "render": render,
    "page": page,
    "index": index,
    "verdicts": verdicts,
    "readme": readme,
    "compare": compare,
    "plan": plan,
    "merge": merge,
    "decidable": decidable,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status: 2 with one line on bad input."""
    args = _parser().parse_args(argv)
    try:
        status: int = COMMANDS[args.command].run(args)
    except ReportError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as exc:
        print(f"error: {exc.filename}: {exc.strerror}; free space or check permissions", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description="What a run's folder says.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=module.HELP))
    return parser


if __name__ == "__main__":
    sys.exit(main())
