"""index.html: the runs of a folder on one page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from reports.errors import JournalError
from reports.pages.environment import environment
from reports.pages.history import HEIGHT, MARGIN, STEP, Broken, histories, read_all
from reports.words import WORDS

__all__ = ["INDEX", "Written", "write"]

INDEX = "index.html"


class Written(NamedTuple):
    """The page, and the runs that could not be read for it."""

    path: Path
    broken: tuple[Broken, ...]


def write(folder: Path) -> Written:
    """Write the index of the runs beneath `folder` into it.

    Raises
    ------
    JournalError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise JournalError(f"{folder}: no such folder; give one that holds runs, such as results")
    read = read_all(folder)
    if not read.columns and not read.broken:
        raise JournalError(f"{folder}: no run in it; `pytest bench/` leaves one under results/")
    claims = histories(read.columns)
    used = {word for column in read.columns for word in column.counts}
    text = environment().get_template("index.html.jinja").render(
        name=folder.resolve().name,
        columns=read.columns,
        broken=read.broken,
        claims=claims,
        experiments=list(dict.fromkeys(c.experiment for c in claims)),
        words={word: WORDS[word] for word in WORDS if word in used},
        num_changed=sum(c.is_changed for c in claims),
        width=2 * MARGIN + STEP * (len(read.columns) - 1),
        height=HEIGHT,
    )  # fmt: skip
    path = folder / INDEX
    path.write_text(text, encoding="utf-8")
    return Written(path, read.broken)
