"""The strategies' published report, from records alone: `STRATEGIES.md` in the run's folder, and its JSON.

    STRATEGIES.md                       the five sections of the source's report
    output/strategies/results.json      the numbers as data: a row per strategy, model and family

The source's report is `MODAL_BENCHMARK_RESULTS.md`: summary statistics, strategy comparison table, results by
model, detailed results JSON, analysis and recommendations. `strategies_advice` computes the last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reports.experiments.routed_tables import Table
from reports.experiments.strategies import EXPERIMENT, Cell, cells_of, families_of, troubles
from reports.experiments.strategies_advice import advise, contests
from reports.experiments.strategies_tables import advice_table, contest_table
from reports.records import Record
from reports.runs import Run
from reports.stats import Interval
from reports.tabular import cells
from reports.tabular.layout import markdown

__all__ = ["write"]

TITLES = (
    *("model", "strategy", "tasks", "solved", "gain, points", "oracle", "tokens", "latency", "tok/s"),
    *("success", "tokens ×", "time ×", "cost ×", "cost per solved", "failures"),
)
NOTES = (
    "solved: share of tasks whose chosen answer passes every hidden test, or is right (Wilson's 95 % "
    "interval). gain: solved less that of one greedy answer of the same model on the same tasks (Tango's "
    "95 % interval). oracle: share of tasks of which any answer drawn is right, the ceiling of every rule. "
    "tokens: read and written per task, as the server counted them; × is against one greedy answer. latency, "
    "tok/s, time: of the timed rounds, time × paired. success: tasks without a failed call, whatever was "
    "answered. “–” was not measured."
)
MINIATURES = (
    "The models of the pocket profile are capability miniatures of 0.3 to 3.5 million parameters: what holds "
    "for them says where on the way from unskilled to saturated a strategy pays, and nothing of real models."
)


def write(run: Run) -> list[Path]:
    """Write the files; returns their paths, none where no strategy was graded."""
    records = [r for r in run.records if r.experiment == EXPERIMENT]
    found = {family: cells_of(records, family) for family in families_of(records)}
    if not found["all"]:
        return []
    rows = [_as_json(cell) for group in found.values() for cell in group]
    data = run.path / "output" / EXPERIMENT / "results.json"
    data.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"results": rows}, indent=1, allow_nan=False, ensure_ascii=False)
    data.write_text(text + "\n", encoding="utf-8")
    report = run.path / "STRATEGIES.md"
    report.write_text("\n".join(_lines(records, found, rows)) + "\n", encoding="utf-8")
    return [report, data]


def _lines(
    records: Sequence[Record], found: dict[str, list[Cell]], rows: Sequence[dict[str, Any]]
) -> Iterator[str]:
    whole = found["all"]
    yield from ("# Strategies", "", "## Summary statistics", "")
    yield from _summary(records, whole)
    yield from ("", "## Strategy comparison", "", NOTES, "")
    models = list(dict.fromkeys(cell.model for cell in whole))
    yield from _table(sorted(whole, key=lambda c: (models.index(c.model), c.strategy != "single")))
    yield from ("", "## Results by model")
    for model in models:
        yield from ("", f"### {model}", "")
        own = [cell._replace(strategy=f"{cell.strategy}, {family}") for family, group in found.items()
               for cell in group if cell.model == model and family != "all"]  # fmt: skip
        yield from _table(own)
    yield from ("", "## Analysis and recommendations", "")
    yield from _advice(records, list(found))
    yield from (
        "",
        "## Detailed results",
        "",
        "```json",
        json.dumps(list(rows), indent=1, allow_nan=False),
        "```",
    )


def _summary(records: Sequence[Record], whole: Sequence[Cell]) -> Iterator[str]:
    models = {role: label for record in records for role, label in record.models.items()}
    tasks = max(cell.n for cell in whole)
    strategies = dict.fromkeys(cell.strategy for cell in whole)
    yield f"- {len(strategies)} strategies on {len(models)} models, {tasks} tasks each"
    yield from (f"- {role}: {label}" for role, label in models.items())
    yield f"- failures: {sum(cell.failures for cell in whole)}"
    for record in records:
        yield from (f"- {record.variant}: {trouble}" for trouble in troubles(record))
    left_out = {str(r.settings["left_out"]) for r in records if "left_out" in r.settings}
    yield from (f"- left out: {reason}" for reason in sorted(left_out))
    if any(record.profile == "pocket" for record in records):
        yield f"- {MINIATURES}"


def _table(rows: Sequence[Cell]) -> Iterator[str]:
    yield f"| {' | '.join(TITLES)} |"
    yield f"|{'|'.join(['---'] * 2 + ['---:'] * (len(TITLES) - 2))}|"
    for cell in rows:
        yield f"| {' | '.join(_row(cell))} |"


def _row(cell: Cell) -> list[str]:
    return [
        cell.model,
        cell.strategy,
        str(cell.n),
        _estimate(cell.solved, "share"),
        _estimate(cell.gain, "difference").replace(" points", ""),
        cells.estimate(cell.oracle, None, "share"),
        cells.number(cell.tokens),
        cells.estimate(cell.latency_s, None, "s"),
        cells.number(cell.tokens_per_s),
        cells.estimate(cell.success, None, "share"),
        _estimate(cell.tokens_times, "×"),
        _estimate(cell.time_times, "×"),
        _estimate(cell.cost_times, "×"),
        cells.estimate(cell.cost_per_solved_usd, None, "USD"),
        str(cell.failures),
    ]


def _advice(records: Sequence[Record], families: Sequence[str]) -> Iterator[str]:
    found = [one for family in families for one in advise(records, family)]
    if not found:
        yield "No strategy was graded beside another on the same model, so none can be recommended."
        return
    yield from _as_markdown(advice_table(found))
    if rivals := [one for family in families for one in contests(records, family)]:
        yield from ("", "### Equal tokens", "", *_as_markdown(contest_table(rivals)))


def _as_markdown(table: Table) -> Iterator[str]:
    yield from (*table.notes, "")
    yield markdown(table.rows[0], table.rows[1:], right=())


def _estimate(found: Interval | None, unit: str) -> str:
    return cells.ABSENT if found is None else cells.estimate(found.estimate, (found.low, found.high), unit)


def _as_json(cell: Cell) -> dict[str, Any]:
    def parts(found: Interval | None) -> dict[str, float] | None:
        return None if found is None else {"estimate": found.estimate, "low": found.low, "high": found.high}

    return {
        "model": cell.model, "strategy": cell.strategy, "family": cell.family, "tasks": cell.n,
        "solved": parts(cell.solved), "gain": parts(cell.gain), "oracle": cell.oracle, "gap": cell.gap,
        "tokens": cell.tokens, "tokens_times": parts(cell.tokens_times), "time_times": parts(cell.time_times),
        "cost_times": parts(cell.cost_times),
        "latency_s": cell.latency_s, "tokens_per_s": cell.tokens_per_s, "success": cell.success,
        "cost_per_solved_usd": cell.cost_per_solved_usd,
        "failures": cell.failures,
    }  # fmt: skip
