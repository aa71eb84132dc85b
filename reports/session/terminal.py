"""What a session's terminal allows: how wide a line may be, and colour.

Where no one watches (a pipe, a file) there is no width to ask for, and lines are as wide as at most they may
be. Colour is pytest's to decide: `--color`, NO_COLOR, FORCE_COLOR, PY_COLORS and whether it is a terminal.
"""

from __future__ import annotations

import shutil
from typing import Any

from reports.tabular.layout import WIDTH
from reports.words import LETTERS

__all__ = ["NARROWEST", "markup_of", "width_here"]

NARROWEST = 60
"""Columns below which nothing is made any narrower."""


def width_here() -> int:
    """Columns of the terminal, or of COLUMNS, and never more than `WIDTH`."""
    columns = shutil.get_terminal_size(fallback=(WIDTH, 24)).columns
    return min(WIDTH, max(columns, NARROWEST))


def markup_of(reporter: Any) -> Any:
    """Colours a cell by its verdict's word, where the terminal allows colour."""
    return lambda text, word: reporter._tw.markup(text, **{LETTERS[word][1]: True})
