"""Colour in a session's terminal: pytest decides, by --color, NO_COLOR, FORCE_COLOR and whether it is one."""

from __future__ import annotations

from typing import Any

from reports.tabular.layout import Markup
from reports.words import LETTERS

__all__ = ["markup_of"]


def markup_of(reporter: Any) -> Markup:
    """Colours a cell by its verdict's word, where the terminal allows colour."""

    def markup(text: str, word: str) -> str:
        coloured: str = reporter._tw.markup(text, **{LETTERS[word][1]: True})
        return coloured

    return markup
