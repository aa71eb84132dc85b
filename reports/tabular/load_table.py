"""Goodput of each arm at each offered rate, as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from reports.records import Record
from reports.tabular import cells
from reports.tabular.cells import ABSENT
from reports.tabular.ladders import ladders
from reports.tabular.layout import INDENT, laid_out
from reports.tabular.means import BY_SESSION

__all__ = ["load_text"]


def load_text(records: Iterable[Record], experiment: str, width: int) -> str:
    """The table with what it holds for above it; empty where no load was offered."""
    found = ladders(records, experiment)
    if not found.points:
        return ""
    rates = sorted({p.rate_per_s for p in found.points})
    known = {(p.arm, p.rate_per_s): p for p in found.points}
    table = [("goodput, tasks/s", *(f"{rate:.3g}/s" for rate in rates))]
    for arm in found.arms:
        points = [known.get((arm, rate)) for rate in rates]
        goodputs = (
            e and cells.plus_minus(e.value, e.interval) for e in (p and p.goodput_per_s for p in points)
        )
        table.append((arm, *(text or ABSENT for text in goodputs)))
    slo = cells.estimate(found.slo_s, None, "s") if found.slo_s else "several SLOs, see the records"
    lines = textwrap.wrap(
        f"{experiment}, offered load: {found.scope} · SLO {slo}", width, subsequent_indent=INDENT
    )
    notes = textwrap.wrap(BY_SESSION, width, subsequent_indent=INDENT) if found.is_by_session else []
    return "\n".join([*lines, "", *laid_out(table, width), *notes])
