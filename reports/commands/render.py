"""`python -m reports render RUN`: everything that follows from a run's records and verdicts, made again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from reports.commands.arguments import add_run
from reports.tabular.layout import width_here

if TYPE_CHECKING:
    from reports.runs import Run

__all__ = ["HELP", "add_arguments", "render", "run"]

HELP = "make tables, figures, exports and the page again from the folder alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One run."""
    add_run(parser)


def run(args: argparse.Namespace) -> int:
    """Render, print the files written, then the tables."""
    from reports import tables
    from reports.runs import Run

    for path in render(args.run):
        print(path)
    found = Run.read(args.run)
    width = width_here()
    print(
        f"\n{tables.variants_table(found, width=width)}\n\n{tables.claims_table(found.verdicts, width=width)}"
    )
    return 0


def render(run_dir: Path | str) -> list[Path]:
    """Make everything that follows from a run's records and verdicts; returns the files written.

    Raises
    ------
    JournalError, RecordError: the folder is no run, or holds what this version cannot read.
    """
    from reports import figures, page
    from reports.experiments import exports
    from reports.runs import Run

    found = Run.read(run_dir)
    out = _write(found.path / "tables", _markdown(found))
    out += figures.write(found, found.path / "figures")
    out += exports.write(found)
    return out + page.write(found, found.path / "figures")


def _markdown(found: Run) -> dict[str, str]:
    from reports.tables import claims_markdown, variants_markdown

    return {"claims.md": claims_markdown(found.verdicts), "variants.md": variants_markdown(found)}


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return [folder / name for name in texts]
