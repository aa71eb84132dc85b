"""Cells of the conformance table: what one subject made of one behaviour, in one run, with its evidence.

A run writes them to `docs/conformance/<subject>.json` (`--record-conformance`); cells of behaviours that did
not run stay as they were, with their own date and version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

__all__ = ["FAIL", "NOT_OFFERED", "NOT_RUN", "PASS", "REPLAY", "Cell", "Column", "merged", "read", "write"]

FOLDER = Path(__file__).parents[2] / "docs" / "conformance"
PASS, FAIL, NOT_OFFERED, REPLAY, NOT_RUN = "pass", "fail", "not offered", "replay", "not run"
_WORST_FIRST = (FAIL, NOT_RUN, REPLAY, NOT_OFFERED, PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What was seen."""

    group: str
    """The row's heading: "core, streaming", "extras"."""
    behaviour: str
    outcome: str
    """`pass`, `fail`, `not offered`, `replay` or `not run`."""
    reason: str = ""
    """The source of what is not offered, or what failed."""
    evidence: str = ""
    """What was seen, in the engine's own numbers."""
    engine: str = ""
    date: str = ""

    @property
    def row(self) -> tuple[str, str]:
        """The row that it stands in."""
        return self.group, self.behaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The cells of one subject."""

    subject: str
    head: str
    client: str
    """The class under test."""
    cells: tuple[Cell, ...]

    def cell(self, row: tuple[str, str]) -> Cell | None:
        """The cell in a row, if there is one."""
        return next((cell for cell in self.cells if cell.row == row), None)


def merged(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """One cell per row, in order of appearance: a behaviour tried in several ways is as good as its worst.

    A replay says more than nothing, and nothing beside a real engine.
    """
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    return tuple(_worst(some) for some in rows.values())


def _worst(cells: list[Cell]) -> Cell:
    outcomes = {cell.outcome for cell in cells}
    if REPLAY in outcomes:
        shadowed = REPLAY if outcomes & {PASS, NOT_OFFERED} else NOT_RUN
        cells = [cell for cell in cells if cell.outcome != shadowed]
    worst = min(cells, key=lambda cell: _WORST_FIRST.index(cell.outcome))
    evidence = "; ".join(dict.fromkeys(cell.evidence for cell in cells if cell.evidence))
    return replace(worst, evidence=evidence)


def read(folder: Path = FOLDER) -> dict[str, Column]:
    """The stored columns, by subject."""
    columns = {}
    for path in sorted(folder.glob("*.json")):
        stored = json.loads(path.read_text())
        cells = tuple(Cell(**cell) for cell in stored.pop("cells"))
        columns[path.stem] = Column(**stored, cells=cells)
    return columns


def write(column: Column, folder: Path = FOLDER) -> Path:
    """Store a column, and keep the cells of rows that it lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = read(folder).get(column.subject)
    kept = () if stored is None else [cell for cell in stored.cells if column.cell(cell.row) is None]
    path = folder / f"{column.subject}.json"
    whole = {**asdict(column), "cells": [asdict(cell) for cell in (*column.cells, *kept)]}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    return path
