"""`python -m reports verdicts RUN`: the stored records, judged again by the folder's own claims."""

from __future__ import annotations

import argparse
from pathlib import Path

from reports.commands.arguments import add_run
from reports.errors import JournalError

__all__ = ["HELP", "add_arguments", "run", "verdicts"]

HELP = "judge the stored records by the folder's own claims again, and write claims.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One run."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Judge, and print the table."""
    print(verdicts(args.run))
    return 0


def verdicts(run_dir: Path | str) -> str:
    """Judge the stored records by the folder's `claims/`, write `claims.json`, and return the table.

    Raises
    ------
    JournalError: the folder holds no claims. ClaimError: they are malformed.
    """
    from reports import tables
    from reports.claims import load_all
    from reports.journal import write_json
    from reports.runs import CLAIMS, Run
    from reports.verdicts import Stored, judge

    found = Run.read(run_dir, judged=False)
    folder = found.path / "claims"
    if not folder.is_dir():
        raise JournalError(
            f"{folder}: no such folder; copy the claims to judge by there (bench/claims/*.toml)"
        )
    out = []
    for claim in load_all(folder):
        stored = [
            Stored(nodeid=e.nodeid, state=e.outcome, why=e.why, params=e.params, record=e.record)
            for e in found.entries
            if e.experiment == claim.experiment
        ]
        out.append(judge(claim, stored).to_json())
    write_json(found.path / CLAIMS, {"claims": out})
    return tables.claims_table(out)
