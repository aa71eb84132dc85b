from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from reports.experiments import exports
from reports.records import Metric, Record, Round, Values
from reports.runs import Run
from tests.synthetic_runs import write_run


def decoded(variant: str, rounds: list[Values | None], **changes: Any) -> Record:
    """A record of decoding with these rounds."""
    usual: dict[str, Any] = {
        "experiment": "decode", "variant": variant, "control": None, "backend": "sessions",
        "profile": "pocket", "complete": True,
        "settings": {"model_id": "tiny", "prompt_tokens": 72, "new_tokens": 50, "address": "unix socket"},
        "metrics": {
            name: Metric(unit="s", better="lower", what=name) for name in ("total_s", "token_s", "queue_s")
        },
        "rounds": [Round(order="CT", treatment=values) for values in rounds],
    }  # fmt: skip
    return Record(**{**usual, **changes})


def test_a_baseline_has_the_published_keys(tmp_path: Path) -> None:
    """Milliseconds, counted from 1; what was not measured is null, and a failed run has no numbers."""
    first: Values = {"total_s": 0.8124, "token_s": 0.016248, "tokens_generated": 50.0}
    second: Values = {"total_s": 0.9, "token_s": 0.018, "memory_bandwidth_bytes_per_s": 3e10}
    path = write_run(tmp_path / "one", [decoded("native", [first, second, None])])
    written = exports.write(Run.read(path))
    found = json.loads((path / "output/decode/native_pytorch/one.json").read_text())
    assert {p.name for p in written} == {"one.json", "runs.csv"}
    assert {"baseline", "model_id", "prompt_tokens", "new_tokens", "batch_size", "runs", "aggregates"} <= set(
        found
    )
    assert (found["baseline"], found["batch_size"], found["model_id"]) == ("native_pytorch", 1, "tiny")
    published = {
        "run_id", "total_ms", "per_token_ms", "tokens_generated", "gpu_util_pct", "memory_bw_gbps",
        "host_to_device_mb", "device_to_host_mb",
    }  # fmt: skip
    assert published <= set(found["runs"][0])
    assert found["runs"][0]["total_ms"] == pytest.approx(812.4)
    assert found["runs"][0]["gpu_util_pct"] is None
    assert found["runs"][1]["memory_bw_gbps"] == pytest.approx(30)
    assert (found["runs"][2]["failed"], found["runs"][2]["total_ms"]) == (True, None)
    assert found["aggregates"] == {
        "mean_total_ms": pytest.approx(856.2),
        "p95_total_ms": pytest.approx(900),
        "mean_per_token_ms": pytest.approx(17.124),
    }


def test_all_runs_are_in_one_table(tmp_path: Path) -> None:
    """Published names where there are any, our variants as they are called."""
    records = [decoded(name, [{"total_s": 1.0}]) for name in ("full", "semantic-blind", "full-1gbps")]
    path = write_run(tmp_path / "run", records)
    exports.write(Run.read(path))
    rows = list(csv.DictReader((path / "output/decode/runs.csv").read_text().splitlines()))
    assert [(row["baseline"], row["total_ms"]) for row in rows] == [
        ("full_djinn", "1000.0"), ("semantic_blind", "1000.0"), ("full-1gbps", "1000.0")
    ]  # fmt: skip
    assert rows[0]["per_token_ms"] == ""


def test_a_run_in_which_nothing_decoded_has_no_files(tmp_path: Path) -> None:
    """All rounds failed, or there was none."""
    path = write_run(tmp_path / "run", [decoded("full", [None]), decoded("native", [])])
    assert exports.write(Run.read(path)) == []
