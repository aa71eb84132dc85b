"""`docs/conformance.md`, made of the stored cells: `python -m tests.conformance.table`.

Nothing is decided here. A cell shows what a run stored; a row that a subject never ran says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tests.conformance.cells import FOLDER, NOT_RUN, PASS, Cell, Column, read
from tests.conformance.subjects import NAMES

__all__ = ["PAGE", "render", "rows"]

PAGE = FOLDER.with_suffix(".md")
GROUP_SIZE = 5
"""Columns of one table: more do not fit a page."""
EXTRAS = "extras"
CLIENT = "client-"
JSON_LINES = "client-ollama"
ABSENT = Cell(group="", behaviour="", outcome=NOT_RUN, reason="no run stored it")
OTHER_WORDS = replace(
    ABSENT, reason="a row of the OpenAI API; `tests/test_backends_ollama.py` has Ollama's words"
)

HEAD = """\
# Conformance

What each backend makes of each behaviour, as a run saw it. Made by `python -m tests.conformance.table` from
the cells in [`conformance/`](conformance/), which hold the evidence of each; do not edit.

- **pass**: the check held, at the engine and on the day named below.
- **not offered**: declared with its source in `tests/conformance/lacks.toml`; the check
  was run all the same and failed, where the engine was there.
- **fail**: the check did not hold; the note says what was seen.
- **replay**: held against recorded answers, as no real engine was there. Never a pass.
- **not run**: the note says what was missing.

Run it: `pytest tests/conformance`; subjects that cost more are named, `--subjects vllm`.
Store what was seen: add `--record-conformance`, then make the page again.
"""
PLAIN = """\
A plain `OpenAIBackend` cannot be used at `transformers serve`: `ignore_eos` is refused there, a temperature
alone samples nothing, stop strings stay in the text, and `/v1/models` fails without a hub's cache.
"""
CORE_HEAD = """\
## Core

Mandatory, at a real engine: each row is a test of `tests/conformance/test_conformance_core.py`.
"""
EXTRAS_HEAD = """\
## Extras

Each row is a check of `tests/conformance/extras.py`.
"""
CLIENTS_HEAD = """\
## Clients

Slow and broken servers, characters cut between packets, connections dropped by the server: what the HTTP
clients make of canned answers, byte for byte. Rows are tests of `tests/conformance/`:
`test_conformance_wire.py`, `test_conformance_trouble.py`,
and `test_conformance_ollama_wire.py` for JSON lines.
"""


def render(columns: Mapping[str, Column]) -> str:
    """The page, in Markdown."""
    subjects = [columns[name] for name in NAMES if name in columns]
    clients = [columns[name] for name in sorted(columns) if name.startswith(CLIENT)]
    notes: dict[str, int] = {}
    core = [row for row in rows(subjects) if row[0] != EXTRAS]
    extras = [row for row in rows(subjects) if row[0] == EXTRAS]
    parts = [
        HEAD,
        _engines(subjects),
        PLAIN,
        CORE_HEAD,
        *_tables(core, subjects, notes),
        EXTRAS_HEAD,
        *_tables(extras, subjects, notes),
        "### What was seen\n",
        _evidence(extras, subjects),
        CLIENTS_HEAD,
        *_tables(rows(clients), clients, notes),
        "## Notes\n",
        "\n".join(f"{number}. {note}" for note, number in notes.items()) + "\n",
    ]
    return "\n".join(parts)


def rows(columns: Iterable[Column]) -> list[tuple[str, str]]:
    """Every row, those of a group together, in order of first appearance."""
    found = dict.fromkeys(cell.row for column in columns for cell in column.cells)
    groups = list(dict.fromkeys(group for group, _ in found))
    return sorted(found, key=lambda row: groups.index(row[0]))


def _engines(columns: list[Column]) -> str:
    lines = ["| column | client | engine | last run |", "|---|---|---|---|"]
    for column in columns:
        ran = [cell for cell in column.cells if cell.outcome != NOT_RUN]
        last = max(ran, key=lambda cell: cell.date, default=ABSENT)
        lines.append(f"| {column.head} | `{column.client}` | {last.engine} | {last.date} |")
    return "\n".join(lines) + "\n"


def _tables(table_rows: list[tuple[str, str]], columns: list[Column], notes: dict[str, int]) -> Iterator[str]:
    for start in range(0, len(columns), GROUP_SIZE):
        some = columns[start : start + GROUP_SIZE]
        lines = [
            "| behaviour | " + " | ".join(column.head for column in some) + " |",
            "|---" * (len(some) + 1) + "|",
        ]
        for row in table_rows:
            group, behaviour = row
            label = behaviour if group in (EXTRAS, "core") else f"{group}: {behaviour}"
            cells = (_shown(column.cell(row) or _absent(column), notes) for column in some)
            lines.append("| " + " | ".join((label, *cells)) + " |")
        yield "\n".join(lines) + "\n"


def _shown(cell: Cell, notes: dict[str, int]) -> str:
    if cell.outcome == PASS:
        return PASS
    number = notes.setdefault(cell.reason.replace("|", r"\|"), len(notes) + 1)
    return f"{cell.outcome} [{number}](#notes)"


def _absent(column: Column) -> Cell:
    return OTHER_WORDS if column.subject == JSON_LINES else ABSENT


def _evidence(table_rows: list[tuple[str, str]], columns: list[Column]) -> str:
    lines = []
    for row in table_rows:
        seen = [(column.head, column.cell(row)) for column in columns]
        told = [f"{head} {cell.evidence}" for head, cell in seen if cell is not None and cell.evidence]
        if told:
            lines.append(f"- **{row[1]}**: " + "; ".join(told))
    return "\n".join(lines) + "\n"


def main(folder: Path = FOLDER) -> None:
    """Write the page."""
    PAGE.write_text(render(read(folder)))


if __name__ == "__main__":
    main()
