"""`python -m reports verdicts FILE …`: stored records judged again; with --gate, against claims.lock.

Exit status: 0 when every file was judged and the gate, if asked, passes; 1 when the gate fails; 2 when a file
could not be read or judged, or the command line is wrong. What could be judged is shown all the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reports.commands.arguments import add_files, read_all
from reports.errors import JournalError, ReportError
from reports.tabular.layout import width_here, wrapped

if TYPE_CHECKING:
    from reports import judging
    from reports.claims import Claim
    from reports.runs import Run
    from reports.verdicts import Verdict

__all__ = ["HELP", "add_arguments", "run", "verdicts"]

HELP = "judge stored records again; with --gate, fail on a verdict worse than claims.lock"
BENCH_CLAIMS = Path("bench/claims")
LOCK = Path("claims.lock")
SNAPSHOT = "claims"
"""The folder of a run that holds the claims that it was judged by."""


class Judged(NamedTuple):
    """One run with the verdicts on it."""

    run: Run
    profile: str
    verdicts: list[Verdict]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and what they are judged by."""
    add_files(parser, "files")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--gate",
        action="store_true",
        help="compare with the lock, show what changed and why, and exit with 1 where a claim is worse",
    )
    mode.add_argument("--update", action="store_true", help="write the verdicts into the lock")
    parser.add_argument(
        "--lock", type=Path, default=LOCK, metavar="FILE", help="the expected verdicts (default: claims.lock)"
    )
    parser.add_argument(
        "--claims",
        type=Path,
        metavar="DIR",
        help="the claims to judge by (default: the run's own; with --gate or --update those of bench/claims, "
        "where it is)",
    )
    parser.add_argument("--profile", metavar="NAME", help="the lock's profile (default: the run's own)")


def run(args: argparse.Namespace) -> int:
    """Judge what can be judged, print the tables, and say by the exit status how it went."""
    from reports import judging

    read = read_all(args.files, judged=False)
    units = judging.side_by_side(read.runs)
    errors = [*read.errors, *units.errors]
    for error in units.errors:
        print(f"error: {error}", file=sys.stderr)
    is_locked = args.gate or args.update
    folder = args.claims or (BENCH_CLAIMS if is_locked and BENCH_CLAIMS.is_dir() else None)
    every = _load(folder) if folder else None
    found = []
    for unit in units.runs:
        profile = args.profile or judging.profile_of(unit)
        try:
            claims = every if every is not None else _load(unit.path / SNAPSHOT)
            found.append(Judged(unit, profile, judging.judged(unit, claims, profile)))
        except ReportError as exc:
            print(f"error: {exc}", file=sys.stderr)
            errors.append(str(exc))
    known = None if every is None else frozenset(claim.id for claim in every)
    status = 2 if errors else 0
    if not is_locked:
        _show(found, [run for run in read.runs if folder is None])
        return status
    sides = _sides(found, known)
    for side in sides:
        if len(sides) > 1:
            print(f"profile {side.profile}")
        try:
            status = max(status, _against_lock(side, args))
        except ReportError as exc:
            print(f"error: {exc}", file=sys.stderr)
            status = 2
    return status


def verdicts(run_dir: Path | str) -> str:
    """Judge the stored records by the folder's `claims/`, write `claims.json`, and return the table.

    Raises
    ------
    JournalError: the folder holds no claims. ClaimError: they are malformed.
    """
    from reports import judging, tables
    from reports.runs import Run

    found = Run.read(run_dir, judged=False)
    profile = judging.profile_of(found)
    out = judging.judged(found, _load(found.path / SNAPSHOT), profile)
    _write(found, out)
    return tables.claims_table([v.to_json() for v in out], width=width_here())


def _show(found: Sequence[Judged], own: Sequence[Run]) -> None:
    """Print each run's table; the verdicts on a run of `own`, judged by its own claims, are written there."""
    from reports import tables

    for one in found:
        if one.run.source is None and any(one.run is run for run in own):
            _write(one.run, one.verdicts)
        if len(found) > 1:
            print(f"{one.run.path}")
        print(tables.claims_table([v.to_json() for v in one.verdicts], width=width_here()))


def _sides(found: Sequence[Judged], known: frozenset[str] | None) -> list[judging.Side]:
    """The verdicts by profile, since the lock is."""
    from reports import judging

    by_profile: dict[str, list[Verdict]] = {}
    for one in found:
        by_profile.setdefault(one.profile, []).extend(one.verdicts)
    return [judging.Side(profile, tuple(out), known) for profile, out in by_profile.items()]


def _against_lock(side: judging.Side, args: argparse.Namespace) -> int:
    """Gate or update one profile; returns the exit status."""
    from reports import gate, judging

    if args.update:
        gate.write_lock(args.lock, side.profile, side.verdicts, side.known)
        held = [v for v in side.verdicts if gate.settled(v).word != v.word]
        print(f"{args.lock}: {len(side.verdicts)} verdicts of profile {side.profile}")
        if held:
            print(f"not as confirmed: {len(held)} of fewer than {gate.MIN_LAUNCHES} launches")
        return 0
    rulings = judging.gated(side, args.lock)
    print(gate.gate_table(rulings, width_here()))
    expected = gate.expected_of(args.lock, side.profile)
    if new := gate.unlocked(expected, side.verdicts, "--update"):
        print("\n".join(wrapped(new, width_here())))
    judged = {ruling.claim for ruling in rulings}
    if rest := len(expected.keys() - judged):
        print(f"{rest} more of {args.lock} are of experiments that are not in these files")
    return int(any(ruling.outcome == "fail" for ruling in rulings))


def _load(folder: Path) -> tuple[Claim, ...]:
    from reports.claims import load_all

    if not folder.is_dir():
        raise JournalError(
            f"{folder}: no such folder; copy the claims to judge by there (bench/claims/*.toml), or name one "
            "with --claims DIR"
        )
    return load_all(folder)


def _write(run: Run, out: Sequence[Verdict]) -> None:
    from reports.journal import write_json
    from reports.runs import CLAIMS

    write_json(run.path / CLAIMS, {"claims": [v.to_json() for v in out]})
