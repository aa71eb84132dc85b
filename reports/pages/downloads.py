"""A run as tables for other programs: claims.csv, variants.csv and rounds.csv, one fact per row.

    claims.csv     a claim: verdict, numbers, where it stands, why
    variants.csv   a metric of an arm of a variant: its mean, spread and 95 % interval over rounds or tasks,
                   or over sessions' means where several were merged and what was measured stayed up for each;
                   an interval needs two rounds or tasks, three sessions or equal ones, and is cut at 0 as the
                   tables cut it, unless a value is below 0
    rounds.csv     a metric of an arm in one round, as measured

An absent number is an empty cell, never 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reports.intervals.launches import LEAST, is_by_launch
from reports.records import ARMS, Record, Round, TaskPair
from reports.runs import Run
from reports.tabular import verdict_cells

__all__ = ["texts", "write"]

CLAIM = (
    "id", "version", "experiment", "word", "reason", "estimate", "low", "high", "published", "published_high",
    "n", "method", "p", "more", "not_against", "form", "quantity", "metric", "over", "unit", "margin",
    "of", "per", "only", "treatment", "control", "against", "scope", "source", "says", "covers",
    "profile", "backend", "evidence",
)  # fmt: skip
VARIANT = (
    "experiment", "variant", "backend", "profile", "evidence", "arm", "over", "metric", "unit", "better",
    "n", "mean", "sd", "low", "high",
)  # fmt: skip
ROUND = (
    "experiment", "variant", "control", "backend", "session", "round", "order", "arm", "metric", "unit",
    "value",
)  # fmt: skip

Row = Sequence[Any]


def texts(run: Run) -> dict[str, str]:
    """File name → its text."""
    return {
        "claims.csv": _csv(CLAIM, _claims(run)),
        "variants.csv": _csv(VARIANT, (row for record in run.records for row in _variant(record))),
        "rounds.csv": _csv(ROUND, (row for record in run.records for row in _rounds(record))),
    }


def write(run: Run) -> list[Path]:
    """Write the tables into the run's folder; returns the files."""
    out = []
    for name, text in texts(run).items():
        path = run.path / name
        path.write_text(text, encoding="utf-8", newline="")
        out.append(path)
    return out


def _csv(titles: Sequence[str], rows: Iterable[Row]) -> str:
    with io.StringIO(newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(titles)
        writer.writerows([_cell(value) for value in row] for row in rows)
        return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return " ".join(value.split()) if isinstance(value, str) else value


def _claims(run: Run) -> Iterator[Row]:
    for verdict in run.verdicts:
        low, high = verdict.get("interval") or (None, None)
        first, *rest = verdict_cells.published_ends(verdict)
        own = {
            "word": verdict_cells.word_of(verdict),
            "low": low,
            "high": high,
            "published": first,
            "published_high": rest[0] if rest else None,
        }
        yield [own[name] if name in own else verdict.get(name) for name in CLAIM]


def _variant(record: Record) -> Iterator[Row]:
    about = (record.experiment, record.variant, record.backend, record.profile, record.evidence)
    for arm in ARMS:
        for over, units in _units(record):
            least = LEAST if over == "sessions" else 2
            held = [[values for part in unit if (values := getattr(part, arm)) is not None] for unit in units]
            for name, metric in record.metrics.items():
                known = [[v for values in unit if (v := values.get(name)) is not None] for unit in held]
                found = [fmean(values) for values in known if values]
                if found:
                    yield (*about, arm, over, name, metric.unit, metric.better, *_summary(found, least))


def _units(record: Record) -> Iterator[tuple[str, list[list[Round]] | list[list[TaskPair]]]]:
    """What is observed independently, by its name, each of one or several rounds or tasks."""
    if is_by_launch(record):
        sessions = range(record.sessions)
        yield "sessions", [[one for one in record.rounds if (one.session or 0) == s] for s in sessions]
    else:
        yield "rounds", [[one] for one in record.rounds]
    yield "tasks", [[one] for one in record.tasks]


def _summary(values: Sequence[float], least: int) -> Row:
    """n, mean, standard deviation, and both ends of Student's 95 % interval.

    Arguments: `least`, values that differ below which there is no interval.
    """
    import numpy as np

    from reports.stats import student_quantile

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return n, mean, None, None, None
    sd = float(np.std(values, ddof=1))
    if n < least and sd:
        return n, mean, sd, None, None
    half = student_quantile(0.975, n - 1) * sd / n**0.5
    low = mean - half
    return n, mean, sd, low if min(values) < 0 else max(low, 0.0), mean + half


def _rounds(record: Record) -> Iterator[Row]:
    about = (record.experiment, record.variant, record.control, record.backend)
    for number, pair in enumerate(record.rounds):
        for arm in ARMS:
            for name, value in (getattr(pair, arm) or {}).items():
                unit = record.metrics[name].unit if name in record.metrics else ""
                if value is not None:
                    yield (*about, pair.session, number, pair.order, arm, name, unit, value)
