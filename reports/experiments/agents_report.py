"""Agents' table, and the files that their source publishes.

    output/agents/table2.md, table2.csv       mean, p50, p99 and the threshold of memory, every arm and count
    output/agents/<baseline>/<run>.json       per count: every step, under the source's name for the arm
    output/agents/figure6.csv                 what Figure 6 draws

The source says which statistics its Table 2 holds, and of its JSON only that all baselines share a structure;
keys are ours. Milliseconds count from when a step was due. What was not measured is null, in a CSV empty; a
quantile that its steps do not support is "unsupported", with the number that it needs.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reports.experiments.agents import REASON, REFLECT, Point, highest, is_count, needed, points, quantile
from reports.experiments.routed_tables import Table
from reports.records import Record
from reports.runs import Run
from reports.tabular import cells
from reports.tabular.cells import ABSENT
from reports.tabular.layout import markdown

__all__ = ["BASELINES", "table", "tables", "write"]

EXPERIMENT = "agents"
BASELINES = {"ray-keepalive": "ray_keepalive", "ray-serverless": "ray_serverless", "shared": "djinn_agents"}
"""Arm → the folder that the source has for it; others keep their names."""
TITLES = ("arm", "agents", "done", "OOM", "steps", "mean", "p50", "p99", "queue", "TTFT ×")
NOTES = (
    "mean, p50, p99: of the latency of all steps, from when one was due to its last token, its queue in it; "
    "p50 from 6 steps on, p99 from 368, with 95 % intervals in the files",
    "done: agents that took both steps; OOM: the agent that was refused memory; TTFT ×: REASON ÷ REFLECT, of "
    "the mean times to the first token",
)
RETENTION = "retention-"
KEPT = ("policy", "done", "refused", "REASON", "REFLECT", "reused", "again", "dropped", "offloaded")
KEPT_NOTES = (
    "REASON, REFLECT: mean latency up to the last token; reused, again: tokens of a REFLECT's history that "
    "were there, or computed once more; dropped, offloaded: sessions, per round",
)
BESIDE = ("variant", "REASON TTFT", "REFLECT TTFT", "TTFT ×", "total ×", "control", "its REFLECT TTFT")
BESIDE_NOTES = ("means over rounds; ×: REASON ÷ REFLECT of the same round",)
CSV_KEYS = (
    *("arm", "agents", "finished_agents", "steps", "mean_ms", "p50_ms", "p99_ms", "p99_needs_steps"),
    *("queue_ms", "reason_ttft_ms", "reflect_ttft_ms", "oom_at", "evidence"),
)
STEP_MS = ("ttft", "total", "queue", "import", "load", "prefill", "compute", "transfer")
STEP_COUNTS = ("tokens_in", "tokens_out", "reused_tokens", "prefilled_tokens")


def table(records: Iterable[Record], *, is_whole: bool = False) -> Table | None:
    """Table 2; None where no agent did anything.

    is_whole: quantiles with their intervals, or with what they lack, whatever the width.
    """
    records = [r for r in records if r.experiment == EXPERIMENT]
    found = points(records)
    if not found:
        return None
    return Table(
        f"Table 2 · {_scope(records)}", (TITLES, *(_row(p, is_whole=is_whole) for p in found)), NOTES
    )


def tables(records: Iterable[Record], *, is_whole: bool = False) -> list[Table]:
    """Table 2, what retention did, and the variants that are neither; none where no agent did anything."""
    records = [r for r in records if r.experiment == EXPERIMENT]
    out = [two] if (two := table(records, is_whole=is_whole)) else []
    kept = [r for r in records if r.variant.startswith(RETENTION)]
    if kept:
        out.append(Table(f"Retention · {_scope(kept)}", (KEPT, *map(_kept_row, kept)), KEPT_NOTES))
    others = [r for r in records if not (is_count(r.variant) or r in kept) and r.values("reflect_ttft_s")]
    if others:
        out.append(Table("Other variants", (BESIDE, *map(_beside_row, others)), BESIDE_NOTES))
    return out


def write(run: Run) -> list[Path]:
    """Write the files; returns their paths, none where no agent did anything."""
    records = [r for r in run.records if r.experiment == EXPERIMENT]
    found, two = points(records), table(records, is_whole=True)
    if two is None:
        return []
    folder = run.path / "output" / EXPERIMENT
    parts = [[t.scope, markdown(t.rows[0], t.rows[1:], right=range(1, 10)), *t.notes]
             for t in tables(records, is_whole=True)]  # fmt: skip
    text = "\n\n".join(line for part in parts for line in part)
    out = [_saved(folder / "table2.md", text + "\n"), _saved(folder / "table2.csv", _csv(found))]
    out.append(_saved(folder / "figure6.csv", _figure6(found)))
    for arm in dict.fromkeys(p.arm for p in found):
        content = _baseline(arm, [p for p in found if p.arm == arm], records)
        path = folder / BASELINES.get(arm, arm) / f"{run.path.name}.json"
        out.append(_saved(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"))
    return out


def _row(point: Point, *, is_whole: bool) -> tuple[str, ...]:
    totals, scale = point.values("total_s"), cells.scale_of("s", point.values("total_s"))
    reason, reflect = point.values("ttft_s", REASON), point.values("ttft_s", REFLECT)
    ratio = fmean(reason) / fmean(reflect) if reason and reflect else None
    queued = point.values("queue_s")
    return (
        point.arm + ("" if point.evidence == "measured" else f" ({point.evidence})"),
        str(point.agents),
        ABSENT if point.finished is None else str(point.finished),
        ABSENT if point.oom_at is None else f"agent {point.oom_at}",
        str(len(totals)),
        cells.estimate(fmean(totals), None, "s") if totals else ABSENT,
        _quantile(totals, 0.5, is_whole=is_whole),
        _quantile(totals, 0.99, is_whole=is_whole),
        cells.with_unit(cells.number(scale(fmean(queued))), scale.unit) if queued else ABSENT,
        cells.with_unit(cells.number(ratio), "×"),
    )


def _kept_row(record: Record) -> tuple[str, ...]:
    counts = ("finished_agents", "refused_agents")
    tokens = ("reused_tokens", "recomputed_tokens", "dropped", "offloaded")
    return (
        record.variant.removeprefix(RETENTION),
        *(_mean(record, name) for name in counts),
        *(_mean(record, f"{phase}_total_s", "s") for phase in (REASON, REFLECT)),
        *(_mean(record, name) for name in tokens),
    )


def _beside_row(record: Record) -> tuple[str, ...]:
    return (
        record.variant,
        *(_mean(record, f"{phase}_ttft_s", "s") for phase in (REASON, REFLECT)),
        *(_mean(record, f"reason_over_reflect_{kind}", "×") for kind in ("ttft", "total")),
        record.control or ABSENT,
        _mean(record, "reflect_ttft_s", "s", "control"),
    )


def _mean(record: Record, metric: str, unit: str = "", side: str = "treatment") -> str:
    values = record.values(metric, side)
    if not values:
        return ABSENT
    value = fmean(values)
    return cells.estimate(value, None, unit) if unit else cells.number(value, (value, value))


def _quantile(values: Sequence[float], share: float, *, is_whole: bool) -> str:
    found = quantile(values, share)
    if found is None:
        lacks = f" ({len(values)} of {needed(share)})" if is_whole else ""
        return f"unsupported{lacks}" if values else ABSENT
    return cells.estimate(found.estimate, (found.low, found.high) if is_whole else None, "s")


def _csv(found: Sequence[Point]) -> str:
    rows = []
    for point in found:
        totals, p50, p99 = (
            point.values("total_s"), *(quantile(point.values("total_s"), share) for share in (0.5, 0.99))
        )  # fmt: skip
        rows.append({
            "arm": point.arm, "agents": point.agents, "finished_agents": point.finished, "steps": len(totals),
            "mean_ms": _mean_ms(totals), "queue_ms": _mean_ms(point.values("queue_s")),
            "p50_ms": "unsupported" if p50 is None else 1e3 * p50.estimate,
            "p99_ms": "unsupported" if p99 is None else 1e3 * p99.estimate,
            "p99_needs_steps": needed(0.99) if p99 is None else None,
            "reason_ttft_ms": _mean_ms(point.values("ttft_s", REASON)),
            "reflect_ttft_ms": _mean_ms(point.values("ttft_s", REFLECT)),
            "oom_at": point.oom_at, "evidence": point.evidence,
        })  # fmt: skip
    return _table(CSV_KEYS, rows)


def _figure6(found: Sequence[Point]) -> str:
    """The median of each phase, and the highest quantile that its steps support."""
    rows = []
    for point in found:
        for phase in (REASON, REFLECT):
            values = point.values("total_s", phase)
            best, middle = highest(values), quantile(values, 0.5)
            rows.append({
                "arm": point.arm, "agents": point.agents, "phase": phase, "steps": len(values),
                "p50_ms": None if middle is None else 1e3 * middle.estimate,
                "quantile": best[0] if best else None,
                "quantile_ms": 1e3 * best[1].estimate if best else None,
                "oom_at": point.oom_at,
            })  # fmt: skip
    keys = ("arm", "agents", "phase", "steps", "p50_ms", "quantile", "quantile_ms", "oom_at")
    return _table(keys, rows)


def _baseline(arm: str, found: Sequence[Point], records: Sequence[Record]) -> dict[str, Any]:
    named = {f"{arm}-{point.agents}" for point in found}
    record = next(r for r in records if named & {r.variant, r.control})
    settings = record.settings
    return {
        "baseline": BASELINES.get(arm, arm),
        "model_id": settings.get("model_id"),
        "prompt_tokens": settings.get("prompt_tokens"),
        "observation_tokens": settings.get("observation_tokens"),
        "new_tokens": settings.get("new_tokens"),
        "sleep_seconds": settings.get("sleep_s"),
        "arrival_rate_per_s": settings.get("arrival_rate_per_s"),
        "budget_bytes": settings.get("budget_bytes"),
        "results": [_count(point) for point in found],
        "arm": arm,
        "profile": record.profile,
        "evidence": record.evidence,
        "device": settings.get("device"),
        "note": "; ".join(NOTES),
    }


def _count(point: Point) -> dict[str, Any]:
    totals = point.values("total_s")
    p99 = quantile(totals, 0.99)
    return {
        "agents": point.agents,
        "finished_agents": point.finished,
        "oom": point.oom_at is not None,
        "oom_at": point.oom_at,
        "mean_ms": _mean_ms(totals),
        "p99_ms": None if p99 is None else 1e3 * p99.estimate,
        "reason_ms": _mean_ms(point.values("total_s", REASON)),
        "reflect_ms": _mean_ms(point.values("total_s", REFLECT)),
        "steps": [
            {"iteration": s.get("round"), "agent": s.get("agent"), "stage": s.get("phase")}
            | {f"{key}_ms": _ms(s.get(f"{key}_s")) for key in STEP_MS}
            | {key: s.get(key) for key in STEP_COUNTS}
            for s in point.steps
        ],
    }


def _scope(records: Sequence[Record]) -> str:
    first = records[0]
    work = ("prompt_tokens", "observation_tokens", "new_tokens", "sleep_s")
    told = [f"{key.removesuffix('_s').replace('_', ' ')} {first.settings[key]}" for key in work
            if key in first.settings]  # fmt: skip
    if budget := first.settings.get("budget_bytes"):
        told.append(f"budget {budget / 1e9:.3g} GB")
    models = ", ".join(dict.fromkeys(label for r in records for label in r.models.values()))
    return " · ".join([models, *told, f"profile {first.profile}"])


def _mean_ms(values: Sequence[float]) -> float | None:
    return 1e3 * fmean(values) if values else None


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else 1e3 * value_s


def _table(keys: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _saved(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
