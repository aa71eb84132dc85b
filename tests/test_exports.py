from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.experiments import exports
from reports.records import Record, Round
from reports.runs import Run
from tests.synthetic_runs import failed, load, record, verdict, write_run


def written(
    tmp_path: Path, records: list[Record], verdicts: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """File name → content of every export of these records."""
    paths = exports.write(Run.read(write_run(tmp_path / "run", records, verdicts or [])))
    assert all(path.parent == tmp_path / "run" / "output" / "cascade" for path in paths)
    return {path.name: json.loads(path.read_text()) for path in paths}


def test_published_runs_begin_after_the_warm_up(tmp_path: Path) -> None:
    """Four published runs of which the first is thrown away are files 2 to 4, and each says why."""
    files = written(tmp_path, [record("baseline", num_rounds=3), record("cascade", num_rounds=3)])
    assert sorted(files) == [
        "baseline_2.json",
        "baseline_3.json",
        "baseline_4.json",
        "comparison_results.json",
        "comparison_summary.json",
        "orla_2.json",
        "orla_3.json",
        "orla_4.json",
    ]
    assert files["orla_2.json"]["note"].startswith("runs 1 to 1 were warm-ups and are not recorded")


def test_a_run_has_the_published_keys_in_their_units(tmp_path: Path) -> None:
    """Seconds become milliseconds, and the code stage is called synthesis, as published."""
    values = {"total_s": 2.4, "analysis_s": 0.011, "code_s": 0.09, "summary_s": 0.008, "task_s": 0.12}
    one = record("cascade", control=None, rounds=[Round(order="CT", treatment=dict(values))])
    found = written(tmp_path, [one])["orla_2.json"]
    assert found["mode"] == "cascade"
    assert found["num_tasks"] == 20
    assert found["total_time_seconds"] == 2.4
    assert found["avg_analysis_ms"] == pytest.approx(11)
    assert found["avg_synthesis_ms"] == pytest.approx(90)
    assert found["avg_summary_ms"] == pytest.approx(8)
    assert found["avg_total_ms"] == pytest.approx(120)
    assert found["cost_usd"] is None


def test_every_file_says_what_really_ran(tmp_path: Path) -> None:
    """A published name is no claim about the engine."""
    files = written(tmp_path, [record("baseline", num_rounds=1), record("cascade", num_rounds=1)])
    for name in ("baseline_2.json", "orla_2.json"):
        assert files[name]["backend"] == "llama.cpp"
        assert files[name]["models"] == {"large": "pocket:large@f16", "small": "pocket:nano@f16"}
        assert files[name]["evidence"] == "measured"
    assert files["comparison_results.json"]["variants"]["cascade"]["backend"] == "llama.cpp"
    assert files["comparison_summary.json"]["pairs"]["cascade"]["backend"] == "llama.cpp"


@pytest.mark.parametrize(
    ("backend", "names"),
    [
        ("ollama", {"ollama_baseline_2.json", "ollama_2.json"}),
        ("llama.cpp", {"edge_baseline_2.json", "edge_2.json"}),
    ],
)
def test_only_ollama_is_called_ollama(tmp_path: Path, backend: str, names: set[str]) -> None:
    """Another second platform has files of its own."""
    edge = [
        record("edge-baseline", control=None, num_rounds=1, backend=backend),
        record("edge-cascade", control="edge-baseline", num_rounds=1, backend=backend),
    ]
    files = written(tmp_path, [record("baseline", num_rounds=1), record("cascade", num_rounds=1), *edge])
    assert set(files) == names | {
        "baseline_2.json",
        "orla_2.json",
        "comparison_results.json",
        "comparison_summary.json",
    }
    assert set(files["comparison_summary.json"]["pairs"]) == {"cascade", "edge-cascade"}


def test_ollama_alone_has_the_published_ollama_names(tmp_path: Path) -> None:
    """With one platform, the backend decides."""
    records = [record(name, num_rounds=1, backend="ollama") for name in ("baseline", "cascade")]
    assert {"ollama_baseline_2.json", "ollama_2.json"} <= set(written(tmp_path, records))


def test_the_comparison_holds_mean_deviation_and_improvement(tmp_path: Path) -> None:
    """Improvement is over the control of the same pairs, in per cent."""
    rounds = [
        Round(
            order="CT",
            treatment={"total_s": t, "analysis_s": 0.01},
            control={"total_s": c, "analysis_s": 0.04},
        )
        for t, c in ((2.0, 4.0), (3.0, 5.0), (4.0, 6.0))
    ]
    found = written(tmp_path, [record("cascade", rounds=rounds)])["comparison_results.json"]["variants"]
    assert found["cascade"]["total_time_seconds"]["mean"] == 3.0
    assert found["cascade"]["total_time_seconds"]["std"] == 1.0
    assert found["cascade"]["total_time_seconds"]["n"] == 3
    assert found["cascade"]["improvement_percent"]["total_time_seconds"] == pytest.approx(40.0)
    assert found["cascade"]["improvement_percent"]["analysis_ms"] == pytest.approx(75.0)
    assert "synthesis_ms" not in found["cascade"]["improvement_percent"]
    assert found["baseline"]["total_time_seconds"]["mean"] == 5.0
    assert found["baseline"]["improvement_percent"] == {}


def test_the_summary_holds_the_published_rows(tmp_path: Path) -> None:
    """Total, analysis, summary and cost, baseline beside cascade."""
    found = written(tmp_path, [record("baseline"), record("cascade")])["comparison_summary.json"]["pairs"][
        "cascade"
    ]
    for metric in ("total_time_seconds", "analysis_ms", "summary_ms", "cost_usd_per_task"):
        row = found[metric]
        assert row["baseline"] > row["cascade"] > 0
        assert 25 < row["improvement_percent"] < 90


def test_verdicts_travel_with_the_comparison(tmp_path: Path) -> None:
    """The numbers and what they decide stand in one file."""
    rows = [verdict("total", "confirmed", published=0.25), verdict("x", "missing", experiment="routing")]
    files = written(tmp_path, [record("cascade", num_rounds=2)], rows)
    assert [v["id"] for v in files["comparison_results.json"]["verdicts"]] == ["total"]


def test_a_failed_round_is_a_file_without_numbers(tmp_path: Path) -> None:
    """Failures count: they keep their number, and nothing is 0."""
    one = record("cascade", num_rounds=2)
    one.rounds[0] = Round(order="CT", treatment=None, control=one.rounds[0].control)
    files = written(tmp_path, [one])
    assert files["orla_2.json"]["failed"]
    assert files["orla_2.json"]["total_time_seconds"] is None
    assert not files["orla_3.json"]["failed"]


def test_files_of_an_earlier_rendering_do_not_linger(tmp_path: Path) -> None:
    """Fewer rounds leave no file behind."""
    written(tmp_path, [record("cascade", num_rounds=5)])
    assert "orla_6.json" not in written(tmp_path, [record("cascade", num_rounds=2)])
    assert not (tmp_path / "run" / "output" / "cascade" / "orla_6.json").exists()


def test_nothing_measured_writes_nothing(tmp_path: Path) -> None:
    """Neither a load ladder nor a variant that failed throughout is a published run."""
    assert written(tmp_path, [load(), failed("all-small")]) == {}
