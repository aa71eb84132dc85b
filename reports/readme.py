"""The README's claims tables, generated from a run's folder and checked against it.

Each experiment has one, folded under its counts but for the first. Claims that the run could decide get a row
each; what is out of scope there is counted in one line, and stands with its reasons in the run's
`tables/claims.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.errors import ReportError

__all__ = ["BEGIN", "END", "insert", "table_of"]

BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"


def table_of(run_dir: Path, shown_as: str) -> str:
    """The table of a run, as Markdown; `shown_as` is the folder's path from the README.

    Raises
    ------
    ReportError: the folder holds no claims.json.
    """
    path = run_dir / "claims.json"
    try:
        verdicts = json.loads(path.read_text())["claims"]
    except (OSError, ValueError, KeyError) as exc:
        raise ReportError(f"{path}: no verdicts ({exc}); give the folder of a run") from exc
    by_experiment: dict[str, list[Mapping[str, Any]]] = {}
    for verdict in verdicts:
        by_experiment.setdefault(str(verdict["experiment"]), []).append(verdict)
    lines: list[str] = []
    for number, (experiment, rows) in enumerate(sorted(by_experiment.items())):
        lines += [*_folded(experiment, rows, is_open=number == 0), ""]
    return "\n".join([*lines, _rest(verdicts, shown_as)])


def insert(text: str, table: str) -> str:
    """The README's text with the table between its two marks.

    Raises
    ------
    ReportError: the marks are missing.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ReportError(f"README: the marks {BEGIN} and {END} are missing; put them where the table goes")
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"


def _folded(experiment: str, verdicts: Sequence[Mapping[str, Any]], *, is_open: bool) -> list[str]:
    from reports.verdict_cells import counts

    decided = counts(v for v in verdicts if v["verdict"] != "out of scope")
    summary = f"<summary><b>{experiment}</b>, {decided}</summary>"
    return [f"<details{' open' if is_open else ''}>{summary}", "", *_rows(verdicts), "", "</details>"]


def _rows(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    from reports.verdict_cells import measured, published, says

    lines = ["| claim | published, or asked | measured [95 %] | verdict |", "|---|---|---|---|"]
    for v in verdicts:
        if v["verdict"] != "out of scope":
            number = measured(v) if v["verdict"] != "impossible" else "–"
            origin = "ours" if v["scope"] else v["source"]
            text = f"{says(v)} ({origin})".replace("|", "\\|")
            lines.append(f"| {text} | {published(v)} | {number} | {v['sentence']} |")
    return lines


def _rest(verdicts: Sequence[Mapping[str, Any]], shown_as: str) -> str:
    others = sum(v["verdict"] == "out of scope" for v in verdicts)
    where = f"[{shown_as}/tables/claims.md]({shown_as}/tables/claims.md)"
    return f"{others} more need engines or models that this machine lacks; all, with their reasons: {where}."
