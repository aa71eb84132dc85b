"""The tables of a run, as text for a terminal and as Markdown.

Nothing is coloured here: a caller that has colours passes `markup`, which is handed each verdict's cell after
it was padded, and whose answer may be longer than what it was given without moving a column.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from reports.experiments import agents_report, switching, switching_tables
from reports.experiments.routed_tables import Table, kind_of, tables_of
from reports.records import Record
from reports.runs import Run
from reports.tabular import cells
from reports.tabular.cells import ABSENT, Scale
from reports.tabular.gpus import gpu_table
from reports.tabular.ladders import ladders
from reports.tabular.layout import (
    GAP,
    INDENT,
    WIDTH,
    Column,
    Markup,
    heading,
    laid_out,
    markdown,
    row_of,
    rule,
)
from reports.tabular.load_table import load_text
from reports.tabular.means import BY_SESSION, Estimate
from reports.tabular.plain import plain_table
from reports.tabular.summaries import Variant, scope, stages_of, summarize
from reports.tabular.verdict_cells import (
    Verdict,
    counts,
    letter_and_word,
    measured,
    published,
    says,
    sentence,
    source,
    why,
    word_of,
)

__all__ = ["Markup", "claims_markdown", "claims_table", "variants_markdown", "variants_table"]

COMMON = 3
"""Claims that must share a reason before it gets a number."""
MOST = (24, 28)
"""Characters of the published and of the measured value on one line."""
GIVE_WAY = ((0, 12), (1, 12), (2, 18), (0, 8))
"""Which column of the claims gives way where the width is short, down to what, one after the other."""
SHARE = cells.scale_of("share", ())


def claims_table(verdicts: Iterable[Verdict], *, width: int = WIDTH, markup: Markup | None = None) -> str:
    """Every claim with its published and its measured value and its verdict; beneath, what it says and why.

    Arguments
    ---------
    verdicts: as `claims.json` holds them.
    width: columns of the terminal; the table does not exceed them, from 60 on.
    markup: colours a verdict's cell.
    """
    verdicts = list(verdicts)
    if not verdicts:
        return "no claim was judged"
    rows = [(v["id"], published(v), measured(v), letter_and_word(v)) for v in verdicts]
    columns = _claim_columns(rows, width)
    lines = [*row_of(columns, [c.title for c in columns]), rule(columns)]
    common = _common_reasons(verdicts)
    for verdict, row in zip(verdicts, rows, strict=True):
        lines += _claim_row(columns, row, word_of(verdict), width, markup)
        lines += _prose(f"{says(verdict)} ({source(verdict)})", width)
        reason = why(verdict)
        lines += (
            _prose(f"→ {f'reason {common[reason]}' if reason in common else reason}", width) if reason else []
        )
    lines += [""] if common else []
    for reason, number in common.items():
        lines += _prose(f"reason {number}: {reason}", width)
    return "\n".join([*lines, "", *textwrap.wrap(counts(verdicts), width, subsequent_indent=INDENT)])


def claims_markdown(verdicts: Iterable[Verdict]) -> str:
    """The claims as a Markdown table: claim, source, published, measured, verdict."""
    rows = [(says(v), source(v), published(v), measured(v), _verdict_md(v)) for v in verdicts]
    return markdown(("claim", "source", "published", "measured", "verdict"), rows, right=())


def variants_table(run: Run, *, width: int = WIDTH) -> str:
    """Every variant of every experiment: time, stages, cost and solved tasks; then goodput under load.

    Where the columns do not fit, the last stages give way and a line names them. Routers have their own.
    """
    parts = [_variants_of(group, width) for group in _groups(summarize(_workflows(run.records)))]
    parts += [_text_of(e, t, width) for e in run.experiments for t in _tables(_of(run, e))]
    parts += [text for experiment in run.experiments if (text := load_text(run.records, experiment, width))]
    return "\n\n".join(parts) or "no variant was measured"


def variants_markdown(run: Run) -> str:
    """The variants as one Markdown table per experiment, with intervals on every column that has them."""
    out = []
    for group in _groups(summarize(_workflows(run.records))):
        titles, *rows = _full(group, stages_of(group))
        out += [scope(group), markdown(titles, rows, right=range(1, len(titles))), *_unit(group)]
    out += [_markdown_of(t) for e in run.experiments for t in _tables(_of(run, e), is_whole=True)]
    return "\n\n".join(out) or "no variant was measured"


def _of(run: Run, experiment: str) -> list[Record]:
    return [r for r in run.records if r.experiment == experiment]


def _tables(records: Sequence[Record], *, is_whole: bool = False) -> list[Table]:
    """Those of experiments that run no workflow."""
    from reports.experiments import strategies_tables  # it needs scipy, and a command's help does not

    found = agents_report.tables(records, is_whole=is_whole)
    found = found or switching_tables.tables(records, is_whole=is_whole)
    found = found or strategies_tables.tables(records, is_whole=is_whole)
    found = found or tables_of(records, is_whole=is_whole)
    found = [*found, *gpu_table(records)]
    if found or ladders(records, records[0].experiment).points or summarize(_workflows(records)):
        return found
    plain = plain_table(records)
    return [plain] if plain else []


def _workflows(records: Iterable[Record]) -> list[Record]:
    """Those that a row of times, cost and solved tasks says something of."""
    from reports.experiments import strategies

    others = (agents_report.EXPERIMENT, switching.EXPERIMENT, strategies.EXPERIMENT)
    return [r for r in records if r.experiment not in others and kind_of(r) is None]


def _text_of(experiment: str, table: Table, width: int) -> str:
    lines = textwrap.wrap(f"{experiment}: {table.scope}", width, subsequent_indent=INDENT)
    lines += ["", *laid_out(table.rows, width)] if table.rows else []
    for note in table.notes:
        lines += textwrap.wrap(note, width, subsequent_indent=INDENT)
    return "\n".join(lines)


def _markdown_of(table: Table) -> str:
    parts = [table.scope]
    if table.rows:
        parts.append(markdown(table.rows[0], table.rows[1:], right=range(1, len(table.rows[0]))))
    return "\n\n".join([*parts, *table.notes])


def _claim_columns(rows: Sequence[Sequence[str]], width: int) -> list[Column]:
    """Columns as wide as their longest cell, up to a limit; the claims' ids have what is left."""
    titles = ("claim", "published", "measured [95 % interval]", "verdict")
    wanted = [max(len(t), *(len(row[i]) for row in rows)) for i, t in enumerate(titles)]
    wanted[1:3] = [min(w, most) for w, most in zip(wanted[1:3], MOST, strict=True)]
    for i, least in GIVE_WAY:
        over = sum(wanted) + GAP * (len(titles) - 1) - width
        wanted[i] = max(min(wanted[i], least), wanted[i] - max(over, 0))
    return [Column(title=t, width=w) for t, w in zip(titles, wanted, strict=True)]


def _claim_row(
    columns: Sequence[Column], row: Sequence[str], word: str, width: int, markup: Markup | None
) -> list[str]:
    """A claim's row; an id that its column cannot hold stands above, whole, so that it can be copied."""
    if not columns[0].width < len(row[0]) <= width:
        return row_of(columns, row, word, markup)
    return [row[0], *row_of(columns, ("", *row[1:]), word, markup)]


def _verdict_md(verdict: Verdict) -> str:
    reason = verdict.get("reason")
    text = f"**{sentence(verdict)}**"
    return f"{text}: {reason}" if reason else text


def _common_reasons(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Reasons that several claims share and that fill a line: each gets a number and is printed once."""
    found = Counter(why(v) for v in verdicts)
    often = [reason for reason, n in found.items() if n >= COMMON and len(reason) > WIDTH / 2]
    return {reason: number for number, reason in enumerate(often, 1)}


def _prose(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)


def _groups(variants: Sequence[Variant]) -> list[list[Variant]]:
    groups: dict[tuple[str, str, str], list[Variant]] = {}
    for variant in variants:
        groups.setdefault((variant.experiment, variant.profile, variant.backend), []).append(variant)
    return list(groups.values())


def _variants_of(group: Sequence[Variant], width: int) -> str:
    stages = stages_of(group)
    for shown in range(len(stages), -1, -1):
        table = _compact(group, stages[:shown])
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        room = width - sum(widths[1:]) - GAP * (len(widths) - 1)
        if room >= min(widths[0], 12):
            break
    columns = [Column(title=t, width=w, right=True) for t, w in zip(table[0], widths, strict=True)]
    columns[0] = Column(title=table[0][0], width=min(widths[0], max(room, 8)))
    lines = textwrap.wrap(f"{group[0].experiment}: {scope(group)}", width, subsequent_indent=INDENT)
    lines += ["", heading(columns), rule(columns)]
    lines += [line for row in table[1:] for line in row_of(columns, row)]
    for note in _notes(group, stages[shown:]):
        lines += textwrap.wrap(note, width, subsequent_indent=INDENT)
    return "\n".join(lines)


def _compact(group: Sequence[Variant], stages: Sequence[str]) -> list[tuple[str, ...]]:
    """A heading and a row per variant, for the terminal: intervals on totals and solved shares alone."""
    total, part, cost, per = _scales(group, stages)
    heading = ("variant", f"total {total.unit}", *(f"{s} {part.unit}" for s in stages))
    rows = [(*heading, f"cost {cost.unit}", "solved %", f"{per.unit}/solved")]
    for v in group:
        rows.append(
            (
                v.name + ("*" if v.beside else ""),
                cells.plus_minus(total(v.total_s.value), total.interval(v.total_s.interval)),
                *(_alone(v.stages_s.get(s), part) for s in stages),
                _alone(v.cost_usd, cost),
                _cell(v.solved, SHARE, 1),
                _alone(v.cost_per_solved_usd, per),
            )
        )
    return rows


def _full(group: Sequence[Variant], stages: Sequence[str]) -> list[tuple[str, ...]]:
    """A heading and a row per variant, every number with its interval."""
    total, part, cost, per = _scales(group, stages)
    heading = ("variant", f"total, {total.unit}", *(f"{s}, {part.unit}" for s in stages))
    rows = [(*heading, f"cost per task, {cost.unit}", "solved, %", f"cost per solved task, {per.unit}")]
    for v in group:
        parts = (_cell(v.stages_s.get(s), part) for s in stages)
        money = (_cell(v.cost_usd, cost), _cell(v.solved, SHARE), _cell(v.cost_per_solved_usd, per))
        rows.append((v.name + ("*" if v.beside else ""), _cell(v.total_s, total), *parts, *money))
    return rows


def _scales(group: Sequence[Variant], stages: Sequence[str]) -> tuple[Scale, Scale, Scale, Scale]:
    """One scale per column: total, stages, cost, cost per solved task."""
    return (
        cells.scale_of("s", [v.total_s.value for v in group]),
        cells.scale_of("s", [v.stages_s[s].value for v in group for s in stages if s in v.stages_s]),
        cells.scale_of("USD", [v.cost_usd.value for v in group]),
        cells.scale_of("USD", [v.cost_per_solved_usd.value for v in group]),
    )


def _alone(e: Estimate | None, scale: Scale) -> str:
    """A number whose interval is not shown: only its last digit may be in doubt."""
    return ABSENT if e is None else cells.number(scale(e.value), scale.interval(e.interval), digits=1)


def _cell(e: Estimate | None, scale: Scale, digits: int = 2) -> str:
    if e is None:
        return ABSENT
    value, ends = scale(e.value), scale.interval(e.interval)
    return f"{cells.number(value, ends, digits)} {cells.interval_text(value, ends, digits)}".rstrip()


def _notes(group: Sequence[Variant], hidden: Sequence[str]) -> list[str]:
    notes = ["total: of a round, ± half of its 95 % interval; stages and cost: per task"]
    notes += _unit(group)
    notes += [f"not shown for want of width: {', '.join(hidden)}"] if hidden else []
    notes += [f"* {v.name}: measured as the control beside {v.beside}" for v in group if v.beside]
    notes += [f"{v.name}: failures: {v.num_failures}" for v in group if v.num_failures]
    return notes + [f"{v.name}: {v.num_ungraded} tasks not graded" for v in group if v.num_ungraded]


def _unit(group: Sequence[Variant]) -> list[str]:
    """What one observation of the times is, where it is no round."""
    return [BY_SESSION] if any(v.is_by_session for v in group) else []
