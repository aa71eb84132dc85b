"""Rows of cells as text of a terminal's width, or as Markdown.

Text that is wider than its column is wrapped within it. No line exceeds the width that is asked for.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "GAP",
    "INDENT",
    "LEAST_WIDTH",
    "WIDTH",
    "Column",
    "Markup",
    "heading",
    "laid_out",
    "markdown",
    "row_of",
    "rule",
    "width_here",
    "wrapped",
]

WIDTH = 100
GAP = 2
INDENT = "    "
LEAST_WIDTH = 60
"""Columns of a terminal below which nothing is made any narrower."""
NARROWEST = 12
"""Characters that the first column keeps while others can still give way."""

Markup = Callable[[str, str], str]
"""(padded cell, word) → the cell with the caller's colours around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a text table: its heading, its width, and the side its cells stand on."""

    title: str
    width: int
    right: bool = False

    def pad(self, text: str) -> str:
        """`text` at the column's width."""
        return text.rjust(self.width) if self.right else text.ljust(self.width)


def width_here() -> int:
    """Columns of the terminal, or of COLUMNS, and never more than `WIDTH`; that where no one watches."""
    columns = shutil.get_terminal_size(fallback=(WIDTH, 24)).columns
    return min(WIDTH, max(columns, LEAST_WIDTH))


def row_of(
    columns: Sequence[Column], row: Sequence[str], verdict: str = "", markup: Markup | None = None
) -> list[str]:
    """One row over as many lines as its longest cell needs; `markup` colours the last column."""
    wrapped = [_wrap(text, column.width) for text, column in zip(row, columns, strict=True)]
    lines = []
    for i in range(max(map(len, wrapped))):
        parts = [c.pad(part[i] if i < len(part) else "") for part, c in zip(wrapped, columns, strict=True)]
        if markup is not None and parts[-1].strip():
            parts[-1] = markup(parts[-1], verdict)
            lines.append((" " * GAP).join(parts))
        else:
            lines.append((" " * GAP).join(parts).rstrip())
    return lines


def _wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width`, broken after hyphens and, if need be, within words."""
    return textwrap.wrap(text, width, break_long_words=True, break_on_hyphens=True) or [""]


def wrapped(text: str, width: int, *, deeper: str = "") -> list[str]:
    """A sentence in lines of at most `width`; one that is indented is continued as far in, and `deeper`."""
    indent = INDENT + deeper if text.startswith(INDENT) else ""
    return textwrap.wrap(text, width, subsequent_indent=indent) or [""]


def heading(columns: Sequence[Column]) -> str:
    """The columns' titles."""
    return (" " * GAP).join(c.pad(c.title) for c in columns).rstrip()


def rule(columns: Sequence[Column]) -> str:
    """A line beneath the heading."""
    return "─" * (sum(c.width for c in columns) + GAP * (len(columns) - 1))


def laid_out(table: Sequence[Sequence[str]], width: int) -> list[str]:
    """A heading, a rule and the rows, as many columns as fit, the first one wrapped; the rest is named."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    while len(widths) > 2 and min(widths[0], NARROWEST) + sum(widths[1:]) + GAP * (len(widths) - 1) > width:
        widths.pop()
    room = max(width - sum(widths[1:]) - GAP * (len(widths) - 1), 8)
    columns = [Column(title=t, width=w, right=True) for t, w in zip(table[0], widths, strict=False)]
    columns[0] = Column(title=table[0][0], width=min(widths[0], room))
    lines = [*row_of(columns, table[0][: len(columns)]), rule(columns)]
    lines += [line for row in table[1:] for line in row_of(columns, row[: len(columns)])]
    hidden = ", ".join(table[0][len(columns) :])
    return lines + (textwrap.wrap(f"not shown for want of width: {hidden}", width) if hidden else [])


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int]) -> str:
    """A Markdown table.

    right: the columns that stand to the right.
    """
    right = set(right)
    lines = ["| " + " | ".join(titles) + " |"]
    lines.append("|" + "|".join("--:" if i in right else "---" for i in range(len(titles))) + "|")
    lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
