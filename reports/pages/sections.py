"""An experiment's section of a page: its figures, its tables of variants, its claims."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from reports.pages import drawings
from reports.pages.steps import ClaimView
from reports.runs import Run

__all__ = ["NOT_ON_PAGE", "Experiment", "Table", "experiment_of", "tables_in"]

NOT_ON_PAGE = ("claims",)
"""Figures that the page says otherwise: its forest does."""
CELL = re.compile(r"(?<!\\)\|")


class Experiment(NamedTuple):
    """One section."""

    name: str
    claims: tuple[ClaimView, ...]
    figures: tuple[drawings.Drawing, ...]
    tables: tuple[Table, ...]
    counts: Mapping[str, int]
    num_records: int
    num_failures: int


class Table(NamedTuple):
    """A table of variants, with the line above it and the lines beneath."""

    scope: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def experiment_of(run: Run, name: str, views: Sequence[ClaimView], figures: Path) -> Experiment:
    """The section of one experiment; `figures` is the folder that holds the run's."""
    from reports.figures import jobs_of
    from reports.tables import variants_markdown

    def is_own(experiment: str | None) -> bool:
        return experiment == name

    entries = [e for e in run.entries if is_own(e.record.experiment if e.record else e.experiment)]
    own = replace(run, entries=tuple(entries))
    jobs = [job for job in jobs_of(own) if job.name not in NOT_ON_PAGE]
    paths = [path for job in jobs if (path := figures / f"{job.stem}.svg").is_file()]
    claims = tuple(v for v in views if is_own(v.verdict.get("experiment")))
    return Experiment(
        name=name,
        claims=claims,
        figures=tuple(map(drawings.read, paths)),
        tables=tuple(tables_in(variants_markdown(own))) if own.records else (),
        counts=Counter(v.word for v in claims),
        num_records=len(own.records),
        num_failures=sum(len(r.failures) for r in own.records),
    )


def tables_in(markdown: str) -> Iterator[Table]:
    """The tables of a Markdown text: a line above each, and notes beneath some.

    Of the lines between two tables the last stands above the second, the others beneath the first.
    """
    parts: list[tuple[list[str], list[list[str]]]] = [([], [])]
    for line in filter(str.strip, markdown.splitlines()):
        if line.startswith("|"):
            parts[-1][1].append([cell.strip().replace("\\|", "|") for cell in CELL.split(line)[1:-1]])
        elif parts[-1][1]:
            parts.append(([line], []))
        else:
            parts[-1][0].append(line)
    for index, (words, rows) in enumerate(parts):
        if not rows:
            continue
        after, has_next = parts[index + 1] if index + 1 < len(parts) else ([], [])
        notes = after[:-1] if has_next else after
        yield Table(
            scope=words[-1] if words else "",
            titles=tuple(rows[0]),
            rows=tuple(map(tuple, rows[2:])),
            notes=tuple(notes),
        )
