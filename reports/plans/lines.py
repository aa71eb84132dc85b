"""Plans as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reports.planning import Planned, total_of
from reports.plans.detecting import Detection
from reports.plans.expenses import Expense
from reports.tabular.cells import duration
from reports.tabular.layout import GAP, INDENT, WIDTH, Column, row_of, rule, wrapped

__all__ = ["detections_text", "plan_text"]

NUMBERS = ((14, 8, 8, 9, 9), (12, 6, 7, 7, 7))
"""Widths of all columns but the first: from 80 columns on, and below."""
UNDECIDABLE = ("out of scope", "impossible")
AS_IT_WAS = "an exact number, an order or a curve has no spread to plan from"
NOTE = (
    "Each estimate and spread is taken for the truth: a plan is as good as the run that it is made from. "
    "Rounds are of both arms; warm-ups are counted in."
)


def plan_text(planned: Sequence[Planned], power: float, *, width: int = WIDTH, is_whole: bool = False) -> str:
    """What each claim needs, one line each; then all tests together.

    Arguments: `is_whole`, for those too that no measurement here decides.
    """
    rows = [one for one in planned if is_whole or one.word not in UNDECIDABLE]
    lines = [f"needed to decide at power {power:.0%}", ""]
    columns = _columns(("claim", "now", "has", "needs", "time", "cost"), width)
    lines += [*row_of(columns, [column.title for column in columns]), rule(columns)]
    for one in rows:
        needs = "never" if one.needs is None and "never" in one.why else _count(one.needs)
        same = "= " if one.needs is not None and one.why else ""
        cells = (one.claim, one.word, _count(one.has), f"{same}{needs}", *_taken(one.expense))
        lines += row_of(columns, cells)
        lines += (
            wrapped(INDENT + (one.why or f"{one.unit} of {one.test}"), width) if one.why and not same else []
        )
    if any(one.needs is not None and one.why for one in rows):
        lines += ["", *wrapped(f"= as often as last time: {AS_IT_WAS}", width)]
    return "\n".join([*lines, "", *_closing(planned, rows, width)])


def detections_text(
    found: Sequence[Detection], change: float, power: float, levels: Sequence[float], *, width: int = WIDTH
) -> str:
    """How often both runs must measure each metric."""
    lines = [f"needed of each run to find a change by {change:.0%} at power {power:.0%}", ""]
    columns = _columns(("test and metric", "sd per round", "has", "needs", "time", "cost"), width)
    lines += [*row_of(columns, [column.title for column in columns]), rule(columns)]
    for one in found:
        name = f"{one.test.rpartition('::')[2]} {one.metric}"
        needs = "never" if one.needs is None else f"{one.needs:,}{'*' if one.unit == 'sessions' else ''}"
        lines += row_of(columns, (name, f"{one.sd:.1%}", f"{one.has:,}", needs, *_taken(one.expense)))
    level = min(levels, default=0.0)
    told = f"rounds, at a level of {level:.1g}, which Holm leaves to one of all numbers that two runs compare"
    lines += ["", *wrapped(told, width)]
    if any(one.unit == "sessions" for one in found):
        starred = "* sessions of as many rounds as here: without a control beside it, a session's drift stays"
        lines += wrapped(starred, width)
    return "\n".join([*lines, *wrapped(NOTE, width)])


def _closing(planned: Sequence[Planned], rows: Sequence[Planned], width: int) -> Iterator[str]:
    total = total_of(rows)
    unknown = f"; of {total.unknown} of them nobody noted what they took" if total.unknown else ""
    taken = _taken(Expense(total.seconds, total.usd))
    yield from wrapped(
        f"all that can be decided: {total.tests} tests, {taken[0]}, {taken[1]}{unknown}", width
    )
    hidden = Counter(one.word for one in planned if one not in rows)
    if hidden:
        said = ", ".join(f"{n} {word}" for word, n in hidden.items())
        yield from wrapped(f"not shown, since no measurement here decides them: {said}", width)
    yield from wrapped(NOTE, width)


def _columns(titles: Sequence[str], width: int) -> list[Column]:
    numbers = NUMBERS[width < 80]
    first = Column(title=titles[0], width=width - sum(numbers) - GAP * len(numbers))
    rest = zip(titles[1:], numbers, strict=True)
    return [first, *(Column(title=t, width=w, right=i > 0) for i, (t, w) in enumerate(rest))]


def _taken(expense: Expense | None) -> tuple[str, str]:
    if expense is None:
        return "–", "–"
    usd = expense.usd
    return duration(expense.seconds), f"{usd:.2f} $" if usd >= 0.01 else f"{100 * usd:.2g} ¢"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
