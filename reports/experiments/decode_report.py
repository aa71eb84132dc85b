"""Decoding's published files: the runs of each baseline as JSON, and all of them as one CSV.

    output/decode/<baseline>/<run>.json    runs and aggregates, under the source's keys
    output/decode/runs.csv                 a row per run of every variant

A key that was not measured is null, in the CSV empty; megabytes and gigabytes are of 10⁶ and 10⁹ bytes.
Published runs count from 1, and their warm-ups are thrown away; here warm-ups are not recorded.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reports.records import Record, Values
from reports.runs import Run

__all__ = ["BASELINES", "write"]

EXPERIMENT = "decode"
BASELINES = {
    "native": "native_pytorch",
    "semantic-blind": "semantic_blind",
    "partially-aware": "partially_aware",
    "full": "full_djinn",
}
"""Variant → the name that the source has for it; others keep theirs."""
KEYS = {
    "total_ms": ("total_s", 1e3),
    "per_token_ms": ("token_s", 1e3),
    "tokens_generated": ("tokens_generated", 1.0),
    "gpu_util_pct": ("gpu_util_share", 100.0),
    "memory_bw_gbps": ("memory_bandwidth_bytes_per_s", 1e-9),
    "host_to_device_mb": ("host_to_device_bytes", 1e-6),
    "device_to_host_mb": ("device_to_host_bytes", 1e-6),
    "client_server_bytes_per_token": ("client_server_bytes_per_token", 1.0),
    "queue_ms": ("queue_s", 1e3),
    "compute_ms": ("compute_s", 1e3),
    "transfer_ms": ("transfer_s", 1e3),
    "ttft_ms": ("ttft_s", 1e3),
    "tpot_ms": ("tpot_s", 1e3),
    "memory_util_pct": ("memory_util_share", 100.0),
    "power_w": ("power_w", 1.0),
    "energy_j_per_token": ("energy_j_per_token", 1.0),
    "gpu_memory_used_gb": ("device_used_gb", 1.0),
}
"""The source's key → the metric, and what it is multiplied by; from the socket's bytes on they are ours."""
NOTE = (
    "memory_bw_gbps is GB/s of weights, keys and values that tokens have to read; gpu_util_pct, "
    "memory_util_pct, power_w and energy are NVML's, of the whole device, while the run is repeated for 2 s, "
    "and null without a GPU; p95 is the nearest rank and, of fewer than 20 runs, the largest; warm-ups are "
    "not recorded"
)


def write(run: Run) -> list[Path]:
    """Write the files; returns their paths, none where nothing was decoded."""
    records = [r for r in run.records if r.experiment == EXPERIMENT and r.values("total_s")]
    if not records:
        return []
    folder, out = run.path / "output" / EXPERIMENT, []
    for record in records:
        path = folder / BASELINES.get(record.variant, record.variant) / f"{run.path.name}.json"
        content = _baseline(record)
        out.append(_saved(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"))
    return [*out, _saved(folder / "runs.csv", _csv(records))]


def _baseline(record: Record) -> dict[str, Any]:
    settings = record.settings
    return {
        "baseline": BASELINES.get(record.variant, record.variant),
        "model_id": settings.get("model_id"),
        "prompt_tokens": settings.get("prompt_tokens"),
        "new_tokens": settings.get("new_tokens"),
        "batch_size": settings.get("sessions", 1),
        "runs": _runs(record),
        "aggregates": {
            "mean_total_ms": _mean(record, "total_s"),
            "p95_total_ms": _p95(record.values("total_s")),
            "mean_per_token_ms": _mean(record, "token_s"),
        },
        "backend": record.backend,
        "djinn_server": settings.get("address"),
        "link_bps": settings.get("link_bps"),
        "variant": record.variant,
        "profile": record.profile,
        "evidence": record.evidence,
        "formula": settings.get("formula"),
        "device": settings.get("device"),
        "note": NOTE,
    }


def _runs(record: Record) -> list[dict[str, Any]]:
    """A run per round; one that failed has no numbers."""
    return [
        {"run_id": number, **_named(one.treatment or {}), "failed": one.treatment is None}
        for number, one in enumerate(record.rounds, 1)
    ]


def _named(values: Values) -> dict[str, float | None]:
    found: Mapping[str, float | None] = {key: values.get(metric) for key, (metric, _) in KEYS.items()}
    return {key: None if value is None else value * KEYS[key][1] for key, value in found.items()}


def _mean(record: Record, metric: str) -> float | None:
    values = record.values(metric)
    return 1e3 * fmean(values) if values else None


def _p95(values: Sequence[float]) -> float | None:
    return 1e3 * sorted(values)[math.ceil(0.95 * len(values)) - 1] if values else None


def _csv(records: Sequence[Record]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ["baseline", "variant", "model_id", "run_id", *KEYS, "failed"], lineterminator="\n"
    )
    writer.writeheader()
    for record in records:
        name = BASELINES.get(record.variant, record.variant)
        about = {"baseline": name, "variant": record.variant, "model_id": record.settings.get("model_id")}
        writer.writerows({**about, **one} for one in _runs(record))
    return text.getvalue()


def _saved(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
