"""The end of a session: what follows from its journal is written into the run's folder, and told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import gate, journal
from reports.errors import ReportError
from reports.runs import Run
from reports.session.terminal import markup_of
from reports.tabular.layout import width_here, wrapped

if TYPE_CHECKING:
    from reports.session.judge import Judge
    from reports.session.rerun import Rerun

__all__ = ["draw", "tell_gate", "tell_verdicts", "unfinished", "write_verdicts"]

NOT_JUDGED = "no claim was judged, so that nothing was compared with claims.lock; select claims, too"


def write_verdicts(run: Path, judge: Judge, root: Path, own_json: str | None) -> None:
    """Judge, and write claims.json, the claims that it was judged by, and a copy of the benchmarks.

    Arguments: `root`, the suite's folder; `own_json`, where else the benchmarks were asked for.

    Raises
    ------
    OSError: something cannot be written. ReportError: a claim cannot be judged.
    """
    out = [judge.judge(*row)[0] for row in judge.rows]
    # A device has no end: /dev/full would be copied until the disk is full.
    if own_json and Path(own_json).is_file():
        shutil.copy(own_json, run / "benchmark.json")
    folder = run / "claims"
    folder.mkdir(exist_ok=True)
    for experiment in {experiment for experiment, _ in judge.rows}:
        shutil.copy(root / "bench" / "claims" / f"{experiment}.toml", folder)
    journal.write_json(run / "claims.json", {"claims": [v.to_json() for v in out]})


def draw(run: Path) -> str | None:
    """Make figures, exports and page; why there are none, where something is wrong with one.

    Whatever that is, the verdicts are to be shown.
    """
    from reports.commands.render import render

    try:
        render(run)
    except Exception as exc:
        told = str(exc) if isinstance(exc, (ReportError, OSError)) else f"{type(exc).__name__}: {exc}"
        return f"no figures: {told}"
    return None


def unfinished(run: Path | None, exc: Exception) -> str:
    """What became of a run whose files could not be written."""
    return (
        f"{run}: cannot be finished ({exc}); what was journaled is kept. "
        f"Mend that, then continue with --resume, or: python -m reports verdicts {run}"
    )


def tell_verdicts(run: Path, reporter: Any) -> None:
    """Print the variants and the claims."""
    from reports import tables

    reporter.section("claims")
    read = Run.read(run)
    width, markup = width_here(), markup_of(reporter)
    reporter.write_line(tables.variants_table(read, width=width))
    reporter.write_line(tables.claims_table(read.verdicts, width=width, markup=markup))


def tell_gate(judge: Judge, rerun: Rerun, reporter: Any) -> None:
    """What the gate made of each claim, and what it could not look at."""
    reporter.section("gate")
    if judge.rulings is None:
        reporter.write_line(NOT_JUDGED, yellow=True)
        return
    width = width_here()
    reporter.write_line(gate.gate_table(judge.rulings.values(), width))
    if new := judge.unlocked():
        for line in wrapped(new, width):
            reporter.write_line(line, yellow=True)
    if left := rerun.left_open():
        reporter.write_line(left, yellow=True)
