"""The command line of the survey: what is here, what bounds it, and what can be decided with it.

Which claims that is, `python -m reports decidable` says, in a process of its own: it is handed the offers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.survey.ceilings import ceilings_here
from harness.survey.found import Survey, survey, to_json
from harness.survey.offers import offers
from harness.survey.text import ceiling_line, lines
from harness.survey.weights import require_folder

__all__ = ["main", "whole"]

CLAIMS = Path("bench/claims")
NO_CLAIMS = f"no {CLAIMS} in this folder: run it in the project's to hear which claims can be decided here"


def main(arguments: list[str] | None = None) -> int:
    """Print it all; 2 with one line where it was asked for something that makes no sense."""
    options = _parser().parse_args(arguments)
    try:
        require_folder(options.weights)
        return _as_json(options) if options.json else _as_text(options)
    except HarnessError as exc:
        print(f"harness.hardware: {exc}", file=sys.stderr)
        return 2


def whole(*, weights: Path | None = None, folder: Path | None = None, measure: bool = True) -> dict[str, Any]:
    """Everything as plain JSON values, offers too. `folder`, whose disk is measured."""
    found = survey(weights)
    if measure:
        found = found._replace(ceilings=list(_ceilings(found, folder or Path(tempfile.gettempdir()))))
    return {**to_json(found), "offers": offers(found)}


def _as_json(options: argparse.Namespace) -> int:
    told = whole(weights=options.weights, folder=options.folder, measure=not options.no_measure)
    print(json.dumps(told, indent=1))
    return 0


def _as_text(options: argparse.Namespace) -> int:
    found = survey(options.weights)
    print(*lines(found), sep="\n", flush=True)
    if not options.no_measure:
        print("\nceilings, measured now", flush=True)
        said = ""
        for ceiling in _ceilings(found, options.folder):
            is_again = ceiling.value is None and ceiling.note == said
            print(ceiling_line(ceiling._replace(note="as above") if is_again else ceiling), flush=True)
            said = ceiling.note
    print("\nclaims that can be decided here", flush=True)
    if not CLAIMS.is_dir():
        print(f"  {NO_CLAIMS}")
        return 0
    told = json.dumps({"offers": offers(found)})
    command = [sys.executable, "-m", "reports", "decidable", "-", "--claims", str(CLAIMS)]
    return subprocess.run(command, input=told, text=True, check=False).returncode


def _ceilings(found: Survey, folder: Path) -> Any:
    return ceilings_here(folder, found.cuda, cores=found.machine.usable_cores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.hardware", description="What this machine has, and what can be decided on it."
    )
    parser.add_argument("--json", action="store_true", help="as JSON, offers for claims among it")
    parser.add_argument("--no-measure", action="store_true", help="look, and measure nothing")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="of checkpoints, ORG/NAME each (default: ASSAY_WEIGHTS)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), metavar="FOLDER",
        help="whose disk is measured (default: the temporary one)",
    )  # fmt: skip
    return parser
