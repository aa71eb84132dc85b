"""The runs of a folder side by side: what each found, and what became of every claim from one to the next.

A run that cannot be read is listed with its error; the others are shown all the same. Runs are in order of
their beginning, and those of another profile or machine are columns like the others, under their own names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from reports.errors import ReportError
from reports.journal import JOURNAL
from reports.pages.about import started_of
from reports.pages.scales import Spot, claim_of, spot_of
from reports.pages.steps import legible, slug
from reports.runs import Run
from reports.tabular import verdict_cells
from reports.tabular.cells import ABSENT
from reports.words import WORDS

__all__ = ["Broken", "ClaimHistory", "Column", "Read", "histories", "read_all"]

PAGE = "report.html"
STEP, MARGIN, HEIGHT = 26.0, 13.0, 26.0
"""Of a claim's little curve: from run to run, at its ends, and how high it is."""


class Column(NamedTuple):
    """A run."""

    name: str
    anchor: str
    started: str
    commit: str
    machine: str
    profile: str
    experiments: tuple[str, ...]
    counts: Mapping[str, int]
    page: str | None
    """Where its page lies, from the index; `None` where there is none."""
    num_failures: int
    verdicts: Mapping[str, Mapping[str, Any]]
    better: Mapping[tuple[str, str], str]
    """An experiment's metric → its direction."""

    def spot(self, verdict: Mapping[str, Any] | None) -> Spot | None:
        """Where a verdict of this run lies."""
        if verdict is None:
            return None
        key = (str(verdict.get("experiment") or ""), claim_of(verdict).metrics[0])
        return spot_of(verdict, self.better.get(key, "higher"))


class Broken(NamedTuple):
    """A run that cannot be read."""

    name: str
    error: str


class Read(NamedTuple):
    """What a folder holds."""

    columns: tuple[Column, ...]
    broken: tuple[Broken, ...]


class Cell(NamedTuple):
    """A claim in one run."""

    word: str
    letter: str
    slug: str
    measured: str
    is_changed: bool
    """Its word differs from that of the run before that has the claim."""


class Dot(NamedTuple):
    """A claim's number in one run, as the drawing wants it."""

    x: float
    y: float
    low: float
    high: float
    slug: str


class ClaimHistory(NamedTuple):
    """A claim over the runs; `None` where a run has no verdict on it."""

    id: str
    experiment: str
    says: str
    asked: str
    cells: tuple[Cell | None, ...]
    dots: tuple[Dot, ...]
    line: float | None
    """Where the threshold lies."""
    is_changed: bool
    words: str
    """The history in words."""

    @property
    def is_measured(self) -> bool:
        """Whether any run has a number for it."""
        return any(cell is not None and cell.measured != ABSENT for cell in self.cells)

    @property
    def last(self) -> Cell:
        """The newest verdict."""
        return next(cell for cell in reversed(self.cells) if cell is not None)


def read_all(folder: Path) -> Read:
    """Every run beneath `folder`, the oldest first."""
    columns: list[Column] = []
    broken: list[Broken] = []
    for path in sorted({p.parent for p in folder.rglob(JOURNAL)}):
        name = path.relative_to(folder).as_posix() if path != folder else path.resolve().name
        try:
            columns.append(_column(Run.read(path), name, folder))
        except (ReportError, OSError) as exc:
            broken.append(Broken(name, str(exc).replace(f"{path}/", "")))
    return Read(tuple(sorted(columns, key=lambda c: (c.started, c.name))), tuple(broken))


def _column(run: Run, name: str, folder: Path) -> Column:
    plan = run.about.get("plan") or {}
    page = run.path / PAGE
    return Column(
        name=name,
        anchor=f"run-{slug(name.replace('/', '-'))}",
        started=started_of(run),
        commit=str(run.about.get("commit") or ""),
        machine=str(plan.get("machine") or ""),
        profile=str((plan.get("settings") or {}).get("profile") or ""),
        experiments=run.experiments,
        counts=Counter(map(verdict_cells.word_of, run.verdicts)),
        page=quote(page.relative_to(folder).as_posix()) if page.is_file() else None,
        num_failures=sum(len(r.failures) for r in run.records),
        verdicts={str(v["id"]): v for v in run.verdicts},
        better={(r.experiment, name): m.better for r in run.records for name, m in r.metrics.items()},
    )


def histories(columns: Sequence[Column]) -> list[ClaimHistory]:
    """Every claim of any run, by experiment, what was measured first, in the order of the newest run."""
    found: dict[str, Mapping[str, Any]] = {}
    for column in reversed(columns):
        found = {**found, **{k: v for k, v in column.verdicts.items() if k not in found}}
    all_of_them = [_history(verdict, columns) for verdict in found.values()]
    return sorted(all_of_them, key=lambda h: (h.experiment, not h.is_measured))


def _history(newest: Mapping[str, Any], columns: Sequence[Column]) -> ClaimHistory:
    name = str(newest["id"])
    verdicts = [column.verdicts.get(name) for column in columns]
    cells = list(_cells(verdicts))
    dots, line = _dots(verdicts, columns)
    words = [
        f"{column.started or column.name}: {cell.word} {cell.measured}".rstrip(" –")
        for column, cell in zip(columns, cells, strict=True)
        if cell is not None
    ]
    return ClaimHistory(
        id=name,
        experiment=str(newest.get("experiment") or ""),
        says=verdict_cells.says(newest),
        asked=legible(verdict_cells.published(newest)),
        cells=tuple(cells),
        dots=dots,
        line=line,
        is_changed=any(cell.is_changed for cell in cells if cell),
        words="; ".join(words),
    )


def _cells(verdicts: Iterable[Mapping[str, Any] | None]) -> Iterator[Cell | None]:
    before: str | None = None
    for verdict in verdicts:
        if verdict is None:
            yield None
            continue
        word = verdict_cells.word_of(verdict)
        letter = WORDS[word].letter if word in WORDS else "?"
        is_changed = before is not None and before != word
        yield Cell(word, letter, slug(word), legible(verdict_cells.measured(verdict)), is_changed)
        before = word


def _dots(
    verdicts: Sequence[Mapping[str, Any] | None], columns: Sequence[Column]
) -> tuple[tuple[Dot, ...], float | None]:
    """Each run's number over the claim's own threshold, on an axis that just holds them all."""
    spots = [column.spot(v) for column, v in zip(columns, verdicts, strict=True)]
    values = [y for s in spots if s for y in (s.at, s.least, s.most) if abs(y) < 1e6]
    if sum(s is not None for s in spots) < 2 or not values:
        return (), None
    low, high = min([0.0, *values]), max([0.0, *values])
    room = (high - low) or 1.0

    def y(value: float) -> float:
        value = max(low, min(high, value))
        return round(HEIGHT - 4 - (HEIGHT - 8) * (value - low) / room, 1)

    dots = (
        Dot(MARGIN + STEP * i, y(s.at), y(s.least), y(s.most), slug(verdict_cells.word_of(v)))
        for i, (s, v) in enumerate(zip(spots, verdicts, strict=True))
        if s is not None and v is not None
    )
    return tuple(dots), y(0.0)
