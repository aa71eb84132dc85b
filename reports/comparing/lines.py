"""A comparison as text: what differs around it, the claims, then the metrics that became others."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from reports.compare import FAMILIES, LEVEL, Comparison
from reports.comparing.changes import ABSOLUTE, RELATIVE
from reports.comparing.rows import WORDS, Row
from reports.tabular.cells import estimate, number, scale_of
from reports.tabular.layout import GAP, INDENT, WIDTH, Column, heading, row_of, rule

__all__ = ["text_of"]

SHOWN = ("regressed", "improved", "changed")
MOST = 12
"""Lines of one kind before the rest is only counted."""
CHANGE, WORD, NUMBERS = 27, 12, 23
"""Widths of columns."""


def text_of(found: Comparison, *, width: int = WIDTH, is_whole: bool = False) -> str:
    """The comparison, no line wider than `width` from 80 on.

    Arguments: `is_whole`, for every number, and not only those that are called better, worse or other.
    """
    blocks = [
        list(_around(found, width)),
        list(_claims(found, width, is_whole)),
        list(_metrics(found, width, is_whole)),
        list(_closing(found, width)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _around(found: Comparison, width: int) -> Iterator[str]:
    """What differs besides the numbers."""
    yield from _wrapped(f"first   {found.before}", width)
    yield from _wrapped(f"second  {found.after}", width)
    around = found.surroundings
    for title, lines in (
        ("machines differ", around.machine),
        ("settings differ", around.settings),
        ("tests differ", around.tests),
        ("not compared, since they measured something else", list(found.unlike)),
        ("code differs", around.code),
        ("packages differ", around.packages),
    ):
        if lines:
            yield f"{title}:"
            yield from (part for line in lines[:MOST] for part in _wrapped(INDENT + line, width))
            yield from _rest(lines[MOST:])
    if not around.has_equal_clocks:
        yield from _wrapped(
            "Machines or profiles differ: no verdict on times and rates; counts are compared.", width
        )


def _claims(found: Comparison, width: int, is_whole: bool) -> Iterator[str]:
    """Claims whose word or number changed, or all."""
    if not found.claims:
        yield "claims: none that both runs judged (verdicts are made by: python -m reports verdicts RUN)"
        return
    rows = [r for r in found.claims if is_whole or _is_told(r)]
    yield f"claims: {_counted(found.claims)}"
    if rows:
        yield ""
        name = max(width - CHANGE - WORD - NUMBERS - 3 * GAP, 12)
        columns = [
            Column(title="claim", width=name),
            Column(title="before → after", width=NUMBERS, right=True),
            Column(title="difference", width=CHANGE, right=True),
            Column(title="", width=WORD),
        ]
        yield from (heading(columns), rule(columns))
        for row in rows:
            yield from row_of(columns, (row.name, _numbers(row), _change(row), row.word))
            words = row.words or ("", "")
            said = f"{words[0]} → {words[1]}" if words[0] != words[1] else words[0]
            yield from _wrapped(INDENT + "; ".join(part for part in (said, row.why) if part), width)


def _metrics(found: Comparison, width: int, is_whole: bool) -> Iterator[str]:
    """Metrics that are called better, worse or other, or all; by what happened, then by size."""
    yield f"metrics: {_counted(found.metrics)}"
    rows = [row for row in found.metrics if is_whole or row.word in SHOWN]
    rows.sort(key=lambda row: (WORDS.index(row.word), -abs(row.change or 0.0)))
    if not rows:
        return
    yield ""
    room = width - CHANGE - WORD - NUMBERS - 4 * GAP
    name = room * 3 // 5
    columns = [
        Column(title="test", width=name),
        Column(title="metric", width=room - name),
        Column(title="before → after", width=NUMBERS, right=True),
        Column(title="change", width=CHANGE, right=True),
        Column(title="", width=WORD),
    ]
    yield from (heading(columns), rule(columns))
    for row in rows:
        cells = (_test(row), row.metric, _numbers(row), _change(row), row.word)
        yield from row_of(columns, cells)
        if row.why and is_whole:
            yield from _wrapped(INDENT + row.why, width)


def _closing(found: Comparison, width: int) -> Iterator[str]:
    """How it was decided, and what could not be."""
    terms = found.terms
    own = [row for row in found.metrics if row.drift and row.scale == RELATIVE and row.interval]
    half = sorted((r.interval[1] - r.interval[0]) / 2 for r in own if r.interval)
    said = (
        f"Intervals are 95 %, each for itself. “improved” and “regressed” are at {LEVEL:.0%} over all of "
        f"this: {FAMILIES} families, Holm in each. “equivalent”: the whole interval within "
        f"{terms.margin:.0%}."
    )
    yield from _wrapped(said, width)
    if own:
        middle = half[len(half) // 2]
        told = (
            f"{len(own)} times have no control beside them, so that the drift of a session "
            f"({terms.drift:.0%}, declared) counts: half of their intervals are ±{middle:.0%} or wider. "
            "Three sessions of each run measure the drift: python -m reports merge."
        )
        yield from _wrapped(told, width)
    shared = [r for r in found.metrics if r.family == "controls" and r.word in SHOWN]
    if not shared and any(r.family == "controls" for r in found.metrics):
        yield from _wrapped(
            "A change that a variant shares with its control cancels in their ratio; the controls' own "
            "numbers show none beyond the drift.",
            width,
        )


def _is_told(row: Row) -> bool:
    return row.word in SHOWN or (row.words is not None and row.words[0] != row.words[1])


def _counted(rows: Sequence[Row]) -> str:
    counts = [(word, sum(row.word == word for row in rows)) for word in WORDS]
    return ", ".join(f"{n} {word}" for word, n in counts if n) or "none"


def _test(row: Row) -> str:
    """What stands in a test's brackets, which is what tells variants apart."""
    return row.name.rpartition("::")[2] or row.name


def _numbers(row: Row) -> str:
    values = [v for v in (row.before, row.after) if v is not None]
    if not values:
        return "–"
    scale = scale_of(row.unit, values)
    before, after = (number(scale(v)) for v in (row.before, row.after))
    return f"{before} → {after} {scale.unit}".rstrip()


def _change(row: Row) -> str:
    if row.change is None:
        return "–"
    if row.scale == RELATIVE:
        return _signed(estimate(row.change, row.interval, "share"), row.change)
    is_share = row.unit in ("share", "points", "%")
    unit = "difference" if is_share and row.scale == ABSOLUTE else row.unit
    if row.scale != ABSOLUTE:
        scale = scale_of("difference" if is_share else unit, [row.change])
        return (
            "0"
            if not row.change
            else _signed(f"{number(scale(row.change))} {scale.unit}".rstrip(), row.change)
        )
    return _signed(estimate(row.change, row.interval, unit), row.change)


def _signed(text: str, value: float) -> str:
    return f"+{text}" if value > 0 else text


def _wrapped(text: str, width: int) -> list[str]:
    indent = INDENT if text.startswith(INDENT) else ""
    return textwrap.wrap(text, width, initial_indent="", subsequent_indent=indent + "  " * bool(indent)) or [
        ""
    ]


def _rest(lines: Sequence[str]) -> list[str]:
    return [f"{INDENT}and {len(lines)} more (--json tells all)"] if lines else []
