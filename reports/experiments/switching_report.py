"""The files that switching's source publishes, under its names, for scripts that plot or compare them.

    output/switching/comparison_summary.json             metadata, and a row per arm
    output/switching/<arm>_sequential_results.json       its stats, and every request
    output/switching/buffer_sweep.json                   per buffer size and policy, simulated

Arms go by the source's names where they do what its arms do (`SOURCE_NAMES`), others by their own with
underscores: fifo_ring_copy_out's policy is the source's, so that it is "djinn", and the default is
"home_slot". The source copies weights back after each request; its peers here do not, since they are
read-only.

    comparison_summary.json   {"metadata": {…}, "<arm>_sequential": {p50_total_ms, p99_total_ms,
        mean_total_ms, throughput, completed; max_total_ms, requests, seeds, the same of switch and ttft,
        hit_share, partial_share, p99_needs_requests, arm, control, profile, evidence}}
    <arm>_sequential_results.json   {"stats": {baseline, completed, failed, …}, "results": [{agent_id, model,
        success, switch_ms, inference_ms, total_ms, output_tokens; seed, ttft_ms, mode, bytes, …}]}
    buffer_sweep.json         {"metadata": {…}, "20": {"<arm>": {…}}, …}: ratios are times as fast as
        pytorch_pinned

Quantiles are of all requests pooled over seeds; one that they do not support is null, and
`p99_needs_requests` says how many it takes. The source takes the largest of 30 for its p99. Milliseconds are
of the machine and link that ran, bytes decimal; what was not measured is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reports.experiments.switching import CONTROL, EXPERIMENT, Arm, arms, mode, moved, needed, sizes
from reports.experiments.switching_grids import Grid, grid
from reports.records import Record
from reports.runs import Run

__all__ = ["SOURCE_NAMES", "write"]

SOURCE_NAMES = {
    "fifo-ring-copy-out": "djinn",
    CONTROL: "pytorch_pinned",
    "fresh": "pytorch_pageable",
    "serverless-cold": "serverless",
    "vllm-recreate": "vllm",
}
"""Arm → the name that the source has for it."""
TIMES = ("total", "switch", "ttft")
BYTES = ("bytes_in", "ahead_bytes", "bytes_out", "evicted_bytes", "needed_bytes", "disk_bytes")
SWEPT = (
    *("hit_share", "bytes_in_gb", "belady_bytes_gb", "bytes_over_belady", "bytes_out_gb", "evicted_gb"),
    *("needed_gb", "switch_p50_s", "switch_p99_s", "switch_mean_s", "ttft_p50_s", "ttft_mean_s"),
    *("ttft_ratio_p50", "ttft_ratio_mean", "ttft_ratio_p99", "total_ratio_p50", "total_ratio_mean", "seeds"),
)
NOTE = (
    "pooled over seeds; null is unsupported or not measured; of a trace of 30 the p99 would be its largest; "
    "milliseconds are of this machine and its declared link"
)


def write(run: Run) -> list[Path]:
    """Write the files; returns their paths, none where nothing was switched."""
    records = [r for r in run.records if r.experiment == EXPERIMENT]
    found, swept = arms(records), grid(records, "sim-buffers", "buffer_gb")
    files: dict[str, Any] = {}
    if found:
        whole = sizes(found)
        files["comparison_summary.json"] = _summary(found, whole)
        for arm in found:
            files[f"{_name(arm.name)}_sequential_results.json"] = _results(arm, whole)
    if swept is not None:
        files["buffer_sweep.json"] = _sweep(swept)
    folder = run.path / "output" / EXPERIMENT
    return [_saved(folder / name, content) for name, content in files.items()]


def _summary(found: Sequence[Arm], whole: Mapping[str, int]) -> dict[str, Any]:
    rows = {f"{_name(arm.name)}_sequential": _row(arm, whole) for arm in found}
    return {"metadata": _metadata(found[0].record), **rows}


def _metadata(record: Record) -> dict[str, Any]:
    settings = record.settings
    return {
        "n_agents": settings.get("requests"),
        "buffer_gb": settings.get("buffer_gb"),
        "mode": "sequential",
        **{
            key: settings.get(key)
            for key in ("buffer_mb", "scale", "link_gb_s", "workload", "warm", "prompt_tokens", "new_tokens")
        },
        "models": dict(record.models),
        "note": NOTE,
    }


def _row(arm: Arm, whole: Mapping[str, int]) -> dict[str, Any]:
    """The source's keys first, ours after them."""
    times = {word: _times(arm, word) for word in TIMES}
    count = len(arm.answered)
    modes = arm.modes(whole)
    known = count - modes["not known"]
    return {
        **{f"{name}_total_ms": times["total"][name] for name in ("p50", "p99", "mean")},
        "throughput": _throughput(arm),
        "completed": arm.completed,
        "max_total_ms": times["total"]["max"],
        **{f"{name}_{word}_ms": v for word in TIMES[1:] for name, v in times[word].items()},
        "p99_needs_requests": needed(0.99) if count < needed(0.99) else None,
        "requests": arm.planned or len(arm.requests),
        "seeds": arm.seeds,
        "hit_share": modes["hit"] / known if known else None,
        "partial_share": modes["partial miss"] / known if known else None,
        "bytes_per_trace": _per_trace(arm),
        "bytes_out_per_trace": arm.mean("bytes_out"),
        "arm": arm.name,
        "control": arm.record.control if arm.side == "treatment" else None,
        "backend": arm.record.backend,
        "profile": arm.record.profile,
        "evidence": arm.record.evidence,
    }


def _times(arm: Arm, word: str) -> dict[str, float | None]:
    key = f"{word}_s"
    values = arm.values(key)
    middle, tail = arm.quantiles(key, (0.5, 0.99))
    return {
        "p50": _ms(middle.value),
        "p99": _ms(tail.value),
        "mean": 1e3 * fmean(values) if values else None,
        "max": _ms(max(values, default=None)),
    }


def _throughput(arm: Arm) -> float | None:
    """Requests per second of the rounds' own walls, as the source divides."""
    walls = [wall for values in arm.rounds if (wall := values.get("wall_s"))]
    return arm.completed / sum(walls) if len(walls) == len(arm.rounds) and walls else None


def _per_trace(arm: Arm) -> float | None:
    totals = [total for values in arm.rounds if (total := moved(values)) is not None]
    return fmean(totals) if totals else None


def _results(arm: Arm, whole: Mapping[str, int]) -> dict[str, Any]:
    row = _row(arm, whole)
    failures = [f"round {f.round}, {f.where}: {f.error}" for f in arm.record.failures if f.arm == arm.side]
    stats = {
        "baseline": f"{_name(arm.name)}_sequential",
        "failed": row["requests"] - row["completed"],
        "failures": failures,
        **row,
    }
    new_tokens = arm.record.settings.get("new_tokens")
    return {"stats": stats, "results": [_request(one, whole, new_tokens) for one in arm.requests]}


def _request(one: Mapping[str, Any], whole: Mapping[str, int], new_tokens: int | None) -> dict[str, Any]:
    """A request under the source's keys; `total_latency_ms` is what its vLLM files call the total."""
    total_s, switch_s = one.get("total_s"), one.get("switch_s")
    is_done = total_s is not None and not one.get("failure")
    return {
        "agent_id": one.get("index"),
        "model": one.get("model"),
        "success": is_done,
        "switch_ms": _ms(switch_s),
        "inference_ms": _ms(total_s - switch_s) if total_s is not None and switch_s is not None else None,
        "total_ms": _ms(total_s),
        "total_latency_ms": _ms(total_s),
        "output_tokens": new_tokens if is_done else None,
        "error": one.get("failure"),
        "seed": one.get("seed"),
        "round": one.get("round"),
        **{f"{key}_ms": _ms(one.get(f"{key}_s")) for key in ("ttft", "plan", "bind", "wait")},
        "is_hit": None if one.get("is_hit") is None else bool(one["is_hit"]),
        "mode": mode(one, whole),
        **{key: one.get(key) for key in BYTES},
        **{f"{key}_ms": _ms(one.get(f"{key}_s")) for key in ("arrived", "began", "first_token", "done")},
    }


def _sweep(swept: Grid) -> dict[str, Any]:
    sizes_gb = {
        f"{level:g}": {
            _name(policy): {key: point.get(key) for key in SWEPT}
            for policy in swept.policies
            if (point := swept.at(policy, level))
        }
        for level in swept.levels
    }
    about = {key: value for key, value in swept.fixed.items() if value is not None}
    return {"metadata": {**about, "evidence": swept.record.evidence}, **sizes_gb}


def _name(arm: str) -> str:
    return SOURCE_NAMES.get(arm, arm.replace("-", "_"))


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else 1e3 * value_s


def _saved(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return path
