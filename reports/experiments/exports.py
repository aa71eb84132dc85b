"""The files that the source publishes, under their names, for scripts that plot or compare them.

For routing, `output/routing/report.json`: `routing_report`; for decoding, `output/decode/`:
`decode_report`; for agents, `output/agents/`: `agents_report`; for switching, `output/switching/`:
`switching_report`; for strategies, `STRATEGIES.md`: `strategies_report`. For the cascade, in
`output/cascade/`:

    baseline_N.json, orla_N.json             one run over the tasks each, baseline and cascade
    ollama_baseline_N.json, ollama_N.json    the same pair where Ollama served it
    edge_baseline_N.json, edge_N.json        the same pair on a second platform that is not Ollama
    comparison_results.json                  mean ± sd of every variant, its improvement over its control
    comparison_summary.json                  the published table: total, analysis, summary and cost

A name says which of the published files one reads, and not which engine ran: every file carries its backend,
models, profile and evidence. Published runs count from 1, and run 1 is the warm-up that is thrown away.
Warm-ups are not recorded here, so that files begin at 2, and each says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.experiments import agents_report, decode_report, routing_report, switching_report
from reports.records import Record, Values
from reports.runs import Run
from reports.tabular.means import Estimate
from reports.tabular.summaries import Variant, stages_of, summarize

__all__ = ["PUBLISHED_STAGES", "write"]

EXPERIMENT = "cascade"
PUBLISHED_STAGES = {"code": "synthesis"}
"""Our stage → the published key's word, where they differ."""
EDGE = "edge-"
PAIR = {"baseline": "baseline", "cascade": ""}
"""Variant → what its published file is called after the platform."""
NOTE = (
    "mean ± sd over recorded rounds, warm-ups excluded; ci95 is a two-sided 95 % interval; improvement is "
    "1 - mean of the variant / mean of its control measured beside it, as published; verdicts rest on the "
    "paired ratios in claims.json"
)
PER_TASK = "per-task times are not kept per round; averages are over the tasks of the run"


def write(run: Run) -> list[Path]:
    """Write the published files of every experiment that has some; returns their paths.

    Raises
    ------
    JournalError: the run's telemetry cannot be read.
    """
    from reports.experiments import strategies_report  # it needs scipy, and a command's help does not

    others = (routing_report, decode_report, agents_report, switching_report, strategies_report)
    return _cascade(run) + [path for module in others for path in module.write(run)]


def _cascade(run: Run) -> list[Path]:
    records = [r for r in run.records if r.experiment == EXPERIMENT]
    variants = [v for v in summarize(records) if v.task_s.value is not None or any(v.rounds)]
    if not variants:
        return []
    folder = run.path / "output" / EXPERIMENT
    files: dict[str, dict[str, Any]] = {}
    for variant in variants:
        files |= _runs(variant, _warmups(variant, records), is_alone=not _has_edge(variants))
    files["comparison_results.json"] = _comparison(variants, records, run)
    files["comparison_summary.json"] = _summary(files["comparison_results.json"])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        if old.name not in files:
            old.unlink()  # of an earlier rendering with more rounds
    for name, content in files.items():
        (folder / name).write_text(
            json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return [folder / name for name in files]


def _runs(variant: Variant, num_warmups: int, *, is_alone: bool) -> dict[str, dict[str, Any]]:
    """One file per round of a published variant; none for the others."""
    role = variant.name.removeprefix(EDGE)
    if role not in PAIR:
        return {}
    is_edge = variant.name.startswith(EDGE)
    is_ollama = "ollama" in variant.backend.lower() and (is_edge or is_alone)
    platform = "ollama" if is_ollama else "edge" if is_edge else "" if role == "baseline" else "orla"
    stem = "_".join(part for part in (platform, PAIR[role]) if part)
    first = num_warmups + 1
    return {
        f"{stem}_{number}.json": _one(variant, values, number, num_warmups)
        for number, values in enumerate(variant.rounds, first)
    }


def _one(variant: Variant, values: Values | None, number: int, num_warmups: int) -> dict[str, Any]:
    """A round under the published keys, seconds to milliseconds; a failed one has no numbers."""
    found = values or {}
    total_s = found.get("total_s")
    whole_s = found.get("task_s")
    if whole_s is None and total_s is not None and variant.num_tasks:
        whole_s = total_s / variant.num_tasks
    averages = {f"avg_{_word(s)}_ms": _ms(found.get(f"{s}_s")) for s in variant.stages_s}
    return {
        "mode": variant.name,
        "num_tasks": variant.num_tasks,
        "total_time_seconds": total_s,
        **averages,
        "avg_total_ms": _ms(whole_s),
        "prompt_tokens": found.get("prompt_tokens"),
        "output_tokens": found.get("output_tokens"),
        "cost_usd": found.get("cost_usd"),
        "run": number,
        "failed": values is None,
        **_label(variant),
        "note": f"runs 1 to {num_warmups} were warm-ups and are not recorded; {PER_TASK}"
        if num_warmups
        else f"no warm-up was run; {PER_TASK}",
    }


def _comparison(variants: Sequence[Variant], records: Sequence[Record], run: Run) -> dict[str, Any]:
    """Mean and standard deviation of every variant over its rounds, and its improvement over its control."""
    out: dict[str, Any] = {}
    for variant in variants:
        key = variant.name if variant.name not in out else f"{variant.name} ({variant.backend})"
        out[key] = {
            **_label(variant),
            "num_rounds": variant.num_rounds,
            "num_failures": variant.num_failures,
            "total_time_seconds": _stat(variant.total_s),
            **{f"{_word(s)}_ms": _stat(e, 1e3) for s, e in variant.stages_s.items()},
            "task_ms": _stat(variant.task_s, 1e3),
            "cost_usd_per_task": _stat(variant.cost_usd),
            "solved_share": _stat(variant.solved),
            "cost_usd_per_solved_task": _stat(variant.cost_per_solved_usd),
            "control": variant.control,
            "improvement_percent": _improvements(variant, records, stages_of(variants)),
        }
    return {
        "experiment": EXPERIMENT,
        "machine": run.about.get("machine"),
        "note": NOTE,
        "variants": out,
        "verdicts": [
            {key: v.get(key) for key in ("id", "verdict", "estimate", "interval", "published", "reason")}
            for v in run.verdicts
            if v.get("experiment", EXPERIMENT) == EXPERIMENT
        ],
    }


def _summary(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """The published table's rows for each published pair that was measured."""
    pairs = {}
    for name in ("cascade", f"{EDGE}cascade"):
        row = comparison["variants"].get(name)
        control = comparison["variants"].get(row["control"]) if row else None
        if row is None or control is None:
            continue
        metrics = ("total_time_seconds", "analysis_ms", "summary_ms", "cost_usd_per_task", "solved_share")
        pairs[name] = {
            **{key: row[key] for key in ("backend", "models", "profile", "evidence")},
            **{
                metric: {
                    "baseline": control[metric]["mean"],
                    "cascade": row[metric]["mean"],
                    "improvement_percent": row["improvement_percent"].get(metric),
                }
                for metric in metrics
                if metric in row and metric in control
            },
        }
    return {"experiment": EXPERIMENT, "note": comparison["note"], "pairs": pairs}


def _improvements(
    variant: Variant, records: Sequence[Record], stages: Sequence[str]
) -> dict[str, float | None]:
    """1 - treatment / control in per cent, both from the pairs of one record; empty without a control."""
    if variant.control is None:
        return {}
    mine = [
        r
        for r in records
        if (r.variant, r.backend, r.profile) == (variant.name, variant.backend, variant.profile)
    ]
    metrics = {"total_time_seconds": "total_s", **{f"{_word(s)}_ms": f"{s}_s" for s in stages}}
    out: dict[str, float | None] = {}
    for name, metric in metrics.items():
        out[name] = _saved(next((pairs for r in mine if (pairs := r.pairs(metric))), []))
    out["cost_usd_per_task"] = _saved(next((pairs for r in mine if (pairs := r.task_pairs("cost_usd"))), []))
    return out


def _saved(pairs: Sequence[tuple[float, float]]) -> float | None:
    control = sum(c for _, c in pairs)
    return 100 * (1 - sum(t for t, _ in pairs) / control) if control > 0 else None


def _stat(e: Estimate, factor: float = 1.0) -> dict[str, Any]:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    ends = None if e.interval is None else [scaled(end) for end in e.interval]
    return {"mean": scaled(e.value), "std": scaled(e.sd), "ci95": ends, "n": e.n}


def _label(variant: Variant) -> dict[str, Any]:
    """What ran, so that no name is taken for an engine."""
    return {
        "backend": variant.backend,
        "models": dict(variant.models),
        "profile": variant.profile,
        "evidence": variant.evidence,
    }


def _word(stage: str) -> str:
    return PUBLISHED_STAGES.get(stage, stage)


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else value_s * 1e3


def _warmups(variant: Variant, records: Sequence[Record]) -> int:
    """Warm-up rounds before the variant's recorded ones."""
    names = {variant.name, variant.beside}
    found = (r.settings.get("warmup_rounds") for r in records if r.variant in names and r.rounds)
    return int(next((n for n in found if n is not None), 0))


def _has_edge(variants: Sequence[Variant]) -> bool:
    return any(v.name.startswith(EDGE) for v in variants)
