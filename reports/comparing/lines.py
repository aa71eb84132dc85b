"""A comparison as text: what differs around it, the claims, then the metrics that became others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.compare import FAMILIES, LEVEL, Comparison
from reports.comparing.changes import ABSOLUTE, RELATIVE
from reports.comparing.rows import WORDS, Row
from reports.tabular.cells import estimate, number, scale_of
from reports.tabular.layout import GAP, INDENT, WIDTH, Column, row_of, rule, wrapped

__all__ = ["text_of"]

SHOWN = ("regressed", "improved", "changed")
MOST, MOST_PLACES = 12, 3
"""Lines of one kind before the rest is only counted; of tests that were measured elsewhere."""
WORD = 12
NUMBERS, CHANGE = (23, 14), (27, 18)
"""Widths of columns: from 80 columns on, and below."""


def text_of(found: Comparison, *, width: int = WIDTH, is_whole: bool = False) -> str:
    """The comparison, no line wider than `width` from 60 on.

    Arguments: `is_whole`, for every number, and not only those that are called better, worse or other.
    """
    blocks = [
        list(_around(found, width, is_whole)),
        list(_claims(found, width, is_whole)),
        list(_metrics(found, width, is_whole)),
        list(_closing(found, width)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _around(found: Comparison, width: int, is_whole: bool) -> Iterator[str]:
    """What differs besides the numbers."""
    yield from _wrapped(f"first   {found.before}", width)
    yield from _wrapped(f"second  {found.after}", width)
    around = found.surroundings
    for title, lines in (
        ("machines differ", around.machine),
        ("settings differ", around.settings),
        ("tests differ", around.tests),
        ("not compared, since they measured something else", list(found.unlike)),
        (f"measured on another lane or node ({len(around.places)})", around.places),
        ("code differs", around.code),
        ("packages differ", around.packages),
    ):
        if lines:
            yield f"{title}:"
            most = MOST if lines is not around.places else len(lines) if is_whole else MOST_PLACES
            yield from (part for line in lines[:most] for part in _wrapped(INDENT + line, width))
            yield from _rest(lines[most:], "--json" if lines is not around.places else "--all")
    if not around.has_equal_clocks:
        yield from _wrapped(
            "Machines, profiles or lanes differ: no verdict on times and rates; counts are compared.", width
        )
    if not around.is_machine_told:
        yield from _wrapped(
            "Neither run says on which machine it was measured: times are compared as those of one.", width
        )


def _claims(found: Comparison, width: int, is_whole: bool) -> Iterator[str]:
    """Claims whose word or number changed, or all: the words, then the number."""
    if not found.claims:
        yield "claims: none that both runs judged (verdicts are made by: python -m reports verdicts RUN)"
        return
    yield f"claims: {_counted(found.claims)}"
    rows = [r for r in found.claims if is_whole or _is_told(r)]
    if rows:
        yield from _table(rows, width, "claim and its metric", is_whole=True)


def _metrics(found: Comparison, width: int, is_whole: bool) -> Iterator[str]:
    """Metrics that are called better, worse or other, or all; by what happened, then by size."""
    yield f"metrics: {_counted(found.metrics)}"
    rows = [row for row in found.metrics if is_whole or row.word in SHOWN]
    rows.sort(key=lambda row: (WORDS.index(row.word), -abs(row.change or 0.0)))
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        together.setdefault((row.word, row.name), []).append(row)
    if rows:
        some = [row for group in together.values() for row in group]
        yield from _table(some, width, "test and metric", is_whole=is_whole)


def _table(rows: Sequence[Row], width: int, title: str, *, is_whole: bool) -> Iterator[str]:
    """Each name once, and beneath it a line per number; with `is_whole`, also why it is called so."""
    numbers, change = (widths[width < 80] for widths in (NUMBERS, CHANGE))
    columns = [
        Column(title=title, width=width - change - WORD - numbers - 3 * GAP),
        Column(title="before → after", width=numbers, right=True),
        Column(title="change", width=change, right=True),
        Column(title="", width=WORD),
    ]
    yield from ("", *row_of(columns, [column.title for column in columns]), rule(columns))
    last = ""
    for row in rows:
        if row.name != last:
            yield from _wrapped(_name(row), width)
        last = row.name
        metric = f"{INDENT}{row.metric}{', by task' if row.over == 'tasks' else ''}"
        yield from row_of(columns, (metric, _numbers(row), _change(row), row.word))
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
        f"{terms.margin:.0%}. Beside a control, the change is that of the ratio to it."
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


def _name(row: Row) -> str:
    """A test without its file; a claim with its words."""
    name = row.name.rpartition("::")[2] or row.name
    if row.words is None:
        return name
    before, after = row.words
    return f"{name}: {before} → {after}" if before != after else f"{name}: {before}"


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
    return wrapped(text, width, deeper="  ")


def _rest(lines: Sequence[str], option: str) -> list[str]:
    return [f"{INDENT}and {len(lines)} more ({option} tells all)"] if lines else []
