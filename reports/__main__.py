"""What a run's folder says, made again from the folder alone.

python -m reports render results/<run>      tables, figures and the source's own files
python -m reports verdicts results/<run>    judges the stored records by the folder's own claims again
python -m reports readme RUN [RUN …]        writes their claims tables into README.md; --check only compares
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.errors import JournalError, ReportError

if TYPE_CHECKING:
    from reports.runs import Run

__all__ = ["main", "render", "verdicts"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status: 2 with one line on bad input."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "verdicts":
            print(verdicts(args.run))
        elif args.command == "readme":
            return _readme(args.runs, Path("README.md"), is_check=args.check)
        else:
            for path in render(args.run):
                print(path)
            print()
            print(_tables(args.run))
    except ReportError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"error: {exc.filename}: {exc.strerror}; free space or check permissions", file=sys.stderr)
        return 2
    return 0


def render(run_dir: Path | str) -> list[Path]:
    """Make everything that follows from a run's records and verdicts; returns the files written.

    Raises
    ------
    JournalError, RecordError: the folder is no run, or holds what this version cannot read.
    """
    from reports import figures
    from reports.experiments import exports
    from reports.runs import Run

    run = Run.read(run_dir)
    out = _write(run.path / "tables", _markdown(run))
    out += figures.write(run, run.path / "figures")
    return out + exports.write(run)


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

    run = Run.read(run_dir, judged=False)
    folder = run.path / "claims"
    if not folder.is_dir():
        raise JournalError(
            f"{folder}: no such folder; copy the claims to judge by there (bench/claims/*.toml)"
        )
    out = []
    for claim in load_all(folder):
        stored = [
            Stored(nodeid=e.nodeid, state=e.outcome, why=e.why, params=e.params, record=e.record)
            for e in run.entries
            if e.experiment == claim.experiment
        ]
        out.append(judge(claim, stored).to_json())
    write_json(run.path / CLAIMS, {"claims": out})
    return tables.claims_table(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports", description="What a run's folder says.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("render", "make tables, figures and exports again from the folder alone"),
        ("verdicts", "judge the stored records by the folder's own claims again, and write claims.json"),
        ("readme", "write the claims tables of runs into README.md; each has experiments of its own"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        place: dict[str, Any] = {
            "type": Path,
            "metavar": "RUN",
            "help": "a run's folder, such as results/20260101-120000",
        }
        if name != "readme":
            command.add_argument("run", **place)
        else:
            command.add_argument("runs", nargs="+", **place)
            command.add_argument("--check", action="store_true", help="write nothing; fail when it differs")
    return parser


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


def _tables(run_dir: Path) -> str:
    from reports import tables
    from reports.runs import Run

    run = Run.read(run_dir)
    return f"{tables.variants_table(run)}\n\n{tables.claims_table(run.verdicts)}"


def _markdown(run: Run) -> dict[str, str]:
    from reports.tables import claims_markdown, variants_markdown

    return {"claims.md": claims_markdown(run.verdicts), "variants.md": variants_markdown(run)}


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return [folder / name for name in texts]


if __name__ == "__main__":
    sys.exit(main())
