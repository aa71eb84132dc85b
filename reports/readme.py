"""The README's claims tables, generated from the folders of runs and checked against them.

Each experiment has one, folded under its counts but for the first, from the one run that has it. Claims that
the run could decide get a row each; what is out of scope is counted in one line, and stands with its reasons
in the runs' `tables/claims.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.errors import ReportError

__all__ = ["BEGIN", "END", "insert", "table_of"]

BEGIN, END = "<!-- claims: begin -->", "<!-- claims: end -->"


def table_of(run_dirs: Sequence[Path]) -> str:
    """The tables of runs, as Markdown; the folders' paths are as the README is to show them.

    Raises
    ------
    ReportError: a folder holds no claims.json, or two have the same experiment.
    """
    by_experiment: dict[str, list[Mapping[str, Any]]] = {}
    places: dict[str, Path] = {}
    for run_dir in run_dirs:
        for verdict in _verdicts(run_dir):
            experiment = str(verdict["experiment"])
            if places.setdefault(experiment, run_dir) != run_dir:
                raise ReportError(
                    f"{run_dir}: has claims of {experiment}, and so has {places[experiment]}; give one"
                )
            by_experiment.setdefault(experiment, []).append(verdict)
    lines: list[str] = []
    for number, (experiment, rows) in enumerate(sorted(by_experiment.items())):
        lines += [*_folded(experiment, rows, is_open=number == 0), ""]
    return "\n".join([*lines, _rest(by_experiment, run_dirs)])


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


def _verdicts(run_dir: Path) -> list[Mapping[str, Any]]:
    path = run_dir / "claims.json"
    try:
        return list(json.loads(path.read_text())["claims"])
    except (OSError, ValueError, KeyError) as exc:
        raise ReportError(f"{path}: no verdicts ({exc}); give the folder of a run") from exc


def _folded(experiment: str, verdicts: Sequence[Mapping[str, Any]], *, is_open: bool) -> list[str]:
    from reports.tabular.verdict_cells import counts

    decided = counts(v for v in verdicts if v["verdict"] != "out of scope")
    summary = f"<summary><b>{experiment}</b>, {decided}</summary>"
    return [f"<details{' open' if is_open else ''}>{summary}", "", *_rows(verdicts), "", "</details>"]


def _rows(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    from reports.tabular.verdict_cells import measured, published, says

    lines = ["| claim | published, or asked | measured [95 %] | verdict |", "|---|---|---|---|"]
    for v in verdicts:
        if v["verdict"] != "out of scope":
            number = measured(v) if v["verdict"] != "impossible" else "–"
            origin = "ours" if v["scope"] else v["source"]
            text = f"{says(v)} ({origin})".replace("|", "\\|")
            lines.append(f"| {text} | {published(v)} | {number} | {v['sentence']} |")
    return lines


def _rest(by_experiment: Mapping[str, Sequence[Mapping[str, Any]]], run_dirs: Sequence[Path]) -> str:
    others = sum(v["verdict"] == "out of scope" for rows in by_experiment.values() for v in rows)
    pages = [f"{run_dir.as_posix()}/tables/claims.md" for run_dir in run_dirs]
    where = ", ".join(f"[{page}]({page})" for page in pages)
    return f"{others} more need engines or models that this machine lacks; all, with their reasons: {where}."
