"""report.html: a run as one page that needs nothing beside it, and its tables as CSV.

    verdicts      how many claims came out how, by experiment, and those that do not hold
    forest        every number on an axis of its own claim's threshold, beside the same in words
    experiments   figures, variants, and every claim with the four steps that decided it
    the rest      failures, machine, versions, settings, the commands that make it again, the data

Everything is in the file: style, script, figures, data. It is a function of the run's folder, byte by byte.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reports.pages import downloads
from reports.pages.about import commands_of, flat, sessions_of, started_of, took
from reports.pages.dots import Dots
from reports.pages.environment import environment
from reports.pages.scales import AXES
from reports.pages.sections import NOT_ON_PAGE, experiment_of
from reports.pages.steps import STEPS, ClaimView, view
from reports.runs import Run
from reports.words import WORDS

__all__ = ["PAGE", "write"]

PAGE = "report.html"
HOLDS = ("confirmed", "confirmed, but", "inconclusive", "refuted")
"""Words that a measurement led to."""
TROUBLE = ("refuted", "confirmed, but", "invalid", "error", "missing")
"""Words of the claims that are listed on top."""
ANY = "any"
"""The profile of what needs no engine."""


class Download(NamedTuple):
    """A file that the page carries."""

    name: str
    what: str
    num_bytes: int
    url: str
    """As data, compressed."""


def write(run: Run, figures: Path | None = None) -> list[Path]:
    """Write report.html and the CSV files into the run's folder; returns them.

    figures: the folder of figures drawn from this very run; without one they are drawn, as SVG alone.
    """
    if figures is None:
        from reports.figures import write as draw

        figures = run.path / "figures"
        draw(run, figures, kinds=("svg",), without=NOT_ON_PAGE)
    tables = downloads.write(run)
    path = run.path / PAGE
    path.write_text(_html(run, figures, tables), encoding="utf-8")
    return [path, *tables]


def _html(run: Run, figures: Path, tables: Sequence[Path]) -> str:
    dots = Dots(run)
    views = [view(verdict, dots) for verdict in run.verdicts]
    experiments = [experiment_of(run, name, views, figures) for name in _names(run)]
    total = Counter(v.word for v in views)
    return environment().get_template("run.html.jinja").render(
        run=run,
        name=run.path.resolve().name,
        started=started_of(run),
        took=took(run),
        sessions=sessions_of(run),
        about=dict(run.about),
        profiles=sorted({r.profile for r in run.records} - {ANY}),
        words={w: WORDS[w] for w in WORDS if total[w]},
        total=total,
        stated={is_published: _stated(views, is_published) for is_published in (True, False)},
        claims=views,
        experiments=experiments,
        trouble=[v for word in TROUBLE for v in views if v.word == word],
        axes=AXES,
        steps=STEPS,
        unplaced=[v for v in views if v.verdict.get("estimate") is not None and v.spot is None],
        failures=[(r, f) for r in run.records for f in r.failures],
        unfinished=[e for e in run.entries if e.outcome != "passed"],
        plan=list(flat(run.about.get("plan") or {})),
        versions=list(flat(run.about.get("versions") or {})),
        commands=commands_of(run),
        downloads=list(_downloads(run, tables)),
    )  # fmt: skip


def _stated(views: Sequence[ClaimView], is_published: bool) -> Counter[str]:
    """How many of the sources' claims, or of our own rows, came out how, and how many were measured."""
    found = Counter(v.word for v in views if v.is_published == is_published)
    return found + Counter(measured=sum(found[word] for word in HOLDS))


def _names(run: Run) -> list[str]:
    """The experiments with a record, then those that only claims name."""
    named = [str(v.get("experiment") or "") for v in run.verdicts]
    return [name for name in dict.fromkeys([*run.experiments, *named]) if name]


def _downloads(run: Run, tables: Sequence[Path]) -> Iterator[Download]:
    what = {
        "claims.csv": "a row per claim",
        "variants.csv": "a row per metric of a variant, with its interval",
        "rounds.csv": "a row per metric and round, as measured",
    }
    claims = json.dumps({"claims": [dict(v) for v in run.verdicts]}, ensure_ascii=False).encode()
    yield _download("claims.json", "every verdict, whole", claims)
    for path in tables:
        yield _download(path.name, what[path.name], path.read_bytes())


def _download(name: str, what: str, data: bytes) -> Download:
    packed = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    return Download(name, what, len(data), f"data:application/gzip;base64,{packed}")
