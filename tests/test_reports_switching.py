"""What is read of switching's records, its tables, and the files that its source publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports import __main__ as cli
from reports import tables
from reports.experiments import exports, switching, switching_grids, switching_tables
from reports.records import Record
from reports.runs import Run
from tests.synthetic_runs import record as cascade
from tests.synthetic_runs import write_run
from tests.synthetic_switching import FAILED, SIZES, arm_record, records, simulated


@pytest.fixture(scope="module")
def found() -> list[Record]:
    return records()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, found: list[Record]) -> Run:
    return Run.read(write_run(tmp_path_factory.mktemp("runs") / "one", found))


@pytest.fixture(scope="module")
def files(run: Run) -> dict[str, Any]:
    """Name → content of what is exported."""
    written = [p for p in exports.write(run) if p.parent.name == "switching"]
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in written}


def arm_of(found: list[Record], name: str) -> switching.Arm:
    return next(arm for arm in switching.arms(found) if arm.name == name)


def test_arms_stand_in_the_order_of_the_tables_and_the_control_is_one(found: list[Record]) -> None:
    """The control's requests are those beside an arm of many seeds; what is simulated is no arm."""
    arms = switching.arms(found)
    assert [arm.name for arm in arms] == [
        "reload-every", "vllm-recreate", "keep-last", "fifo-ring-copy-out", "home-slot",
        "home-slot-lookahead", "resident",
    ]  # fmt: skip
    assert (arms[0].side, arms[0].seeds, len(arms[0].requests)) == ("control", 13, 390)


def test_an_arm_that_is_not_known_comes_last_and_one_with_another_control_is_none() -> None:
    """A variant beside `sequential` answers no trace on its own."""
    new, beside = arm_record("new-arm", 1), arm_record("concurrent-8", 1)
    beside.control = "sequential"
    assert [arm.name for arm in switching.arms([new, beside])] == ["reload-every", "new-arm"]


def test_misses_are_partial_where_something_of_the_model_was_there(found: list[Record]) -> None:
    """By the sizes of the settings, and without them by the most that was copied for each model."""
    arms = switching.arms(found)
    whole = switching.sizes(arms)
    assert whole == SIZES
    modes = {arm.name: arm.modes(whole) for arm in arms}
    assert set(modes["home-slot"]) == {"hit", "partial miss"}
    assert set(modes["keep-last"]) == {"hit", "full miss"}
    assert set(modes["vllm-recreate"]) == {"not known"}
    silent = arm_record("keep-last", 3)
    del silent.settings["model_bytes"]
    assert switching.sizes(switching.arms([silent])) == SIZES


def test_a_quantile_needs_requests_and_its_interval_rounds(found: list[Record]) -> None:
    """390 requests of 13 seeds have a p99 with an interval; 60 of two have a p50 without one."""
    middle, tail = arm_of(found, "home-slot").quantiles("switch_s", (0.5, 0.99))
    assert tail.value is not None
    assert tail.interval is not None
    assert tail.interval[0] <= tail.value <= tail.interval[1]
    assert middle.interval is not None
    middle, tail = arm_of(found, "resident").quantiles("switch_s", (0.5, 0.99))
    assert (middle.value is not None, middle.interval) == (True, None)
    assert (tail.value, tail.n) == (None, 60)


def test_a_request_that_failed_is_not_completed_and_its_time_is_no_latency(found: list[Record]) -> None:
    """Its point has the time of giving up. Where points do not say who failed, rounds' shares do."""
    arm = arm_of(found, "vllm-recreate")
    assert (arm.completed, arm.planned) == (60 - 2 * FAILED, 60)
    assert len(arm.values("total_s")) == 60 - 2 * FAILED
    silent = arm._replace(
        requests=tuple({k: v for k, v in r.items() if k != "failure"} for r in arm.requests)
    )
    assert silent.completed == arm.completed


def test_a_ratio_is_of_paired_rounds(found: list[Record]) -> None:
    """The control is not faster than itself."""
    ratio = switching.faster(arm_of(found, "home-slot"), "ttft_mean_s")
    assert ratio is not None
    assert ratio.low <= ratio.estimate <= ratio.high
    assert ratio.low > 2
    assert switching.faster(arm_of(found, "reload-every"), "ttft_mean_s") is None


def test_of_several_settings_that_of_the_live_arms_is_shown(found: list[Record]) -> None:
    """The published mix, filled; levels rise."""
    first = switching_grids.grids(found, "sim-policies", "buffer_gb")[0]
    assert (first.fixed["mix"], first.fixed["warm"]) == ("published", "fill")
    swept = switching_grids.grid(found, "sim-buffers", "buffer_gb")
    assert swept is not None
    assert swept.levels == (20.0, 25.0, 32.0, 40.0)
    assert swept.policies[0] == "reload-every"
    assert swept.at("no such", 25.0) == {}
    assert switching_grids.grid(found, "sim-policies", "buffer_gb") is None
    assert "100 seeds" not in switching_grids.simulated_scope(first, 25.0)
    assert "30 seeds of the published mix" in switching_grids.simulated_scope(first, 25.0)


def test_tables_fit_a_terminal_and_say_what_they_lack(run: Run) -> None:
    """An unsupported p99 is no number; bytes copied back are an exact 0."""
    text = tables.variants_table(run, width=100)
    assert max(map(len, text.splitlines())) <= 100
    row = next(line for line in text.splitlines() if line.startswith("resident"))
    assert row.split()[1:4] == ["60/60", "100", "%"]
    assert "n/a" in row
    assert next(line for line in text.splitlines() if line.startswith("vllm-recreate")).split()[1] == "54/60"
    assert "simulated · 3 models" in text
    assert "declared link 0.5 GB/s" in text
    markdown = tables.variants_markdown(run)
    assert "unsupported (60 of 368)" in markdown
    assert "| policy | 3 models | 20 models |" in markdown
    assert markdown.count("simulated ·") == 5


def test_every_ratio_of_the_markdown_has_its_interval(found: list[Record]) -> None:
    """Those of paired rounds, and the pooled quantiles of an arm of many seeds."""
    whole = switching_tables.tables(found, is_whole=True)[0]
    row = dict(zip(whole.rows[0], next(r for r in whole.rows if r[0] == "home-slot"), strict=True))
    assert all(row[title].endswith("]") for title in ("switch p50", "p99", "p50 ×", "mean ×", "max ×"))
    assert row["Belady"].endswith("×")
    assert row["out MB"] == "0"


def test_a_node_s_arena_and_bytes_are_in_gigabytes() -> None:
    """And its link is not declared."""
    node = arm_record("home-slot", 2)
    node.profile = "node"
    node.settings |= {"buffer_mb": 25_000.0, "scale": 1.0, "link_gb_s": None}
    for one in node.rounds:
        for values in (one.treatment, one.control):
            assert values is not None
            values["bytes_in"] = 1000 * (values["bytes_in"] or 0.0)
    table = switching_tables.tables([node])[0]
    assert "arena 25 GB · link as it is" in table.scope
    assert "moved GB" in table.rows[0]
    assert switching.where(switching.arms([node])) == "node, link as it is"


def test_a_variant_of_another_kind_is_listed_with_its_control() -> None:
    """What is no arm has rounds alone."""
    other = arm_record("miss-memcpy", 3)
    other.sweep, other.control = [], "memcpy"
    found = switching_tables.tables([other])
    assert [table.scope for table in found] == ["Other variants"]
    assert found[0].rows[1][:2] == ("miss-memcpy", "ttft_p50_s")
    assert found[0].rows[1][3] == "memcpy"


def test_the_summary_has_the_source_s_keys_and_names(files: dict[str, Any]) -> None:
    """Per arm p50, p99, mean, completed; an unsupported p99 is null, with the number that it needs."""
    summary = files["comparison_summary.json"]
    assert set(summary) == {
        "metadata", "djinn_sequential", "pytorch_pinned_sequential", "vllm_sequential",
        "keep_last_sequential", "home_slot_sequential", "home_slot_lookahead_sequential",
        "resident_sequential",
    }  # fmt: skip
    assert summary["metadata"]["buffer_gb"] == 25.0
    ours, source = summary["home_slot_sequential"], summary["djinn_sequential"]
    keys = ["p50_total_ms", "p99_total_ms", "mean_total_ms", "throughput", "completed"]
    assert list(ours)[:5] == keys
    assert (ours["completed"], ours["requests"], ours["seeds"]) == (390, 390, 13)
    assert (ours["p99_needs_requests"], ours["p99_total_ms"] > ours["p50_total_ms"]) == (None, True)
    assert (source["p99_total_ms"], source["p99_needs_requests"]) == (None, 368)
    assert (source["arm"], source["control"]) == ("fifo-ring-copy-out", "reload-every")
    assert (summary["vllm_sequential"]["completed"], summary["vllm_sequential"]["hit_share"]) == (54, None)
    assert 0 < ours["partial_share"] < 1
    assert ours["hit_share"] + ours["partial_share"] == pytest.approx(1)


def test_every_request_is_exported_under_the_source_s_keys(files: dict[str, Any]) -> None:
    """As its plot reads them: `results`, each with `success` and `total_ms`."""
    found = files["vllm_sequential_results.json"]
    assert found["stats"]["failed"] == 2 * FAILED
    assert [r["success"] for r in found["results"][:4]] == [False] * FAILED + [True]
    assert found["results"][0]["error"] == "LaunchError: out of memory"
    assert found["results"][3]["total_latency_ms"] == found["results"][3]["total_ms"] > 5
    one = files["home_slot_sequential_results.json"]["results"][7]
    assert one["switch_ms"] + one["inference_ms"] == pytest.approx(one["total_ms"])
    assert one["mode"] in ("hit", "partial miss")
    assert (one["agent_id"], one["seed"]) == (7, 0)


def test_the_sweep_of_buffers_is_exported_by_size(files: dict[str, Any]) -> None:
    """Filled; under the source's names, and said to be simulated."""
    swept = files["buffer_sweep.json"]
    assert list(swept) == ["metadata", "20", "25", "32", "40"]
    assert swept["metadata"] == {
        "models": 3, "mix": "published", "warm": "fill", "link_gb_s": 25.0, "evidence": "simulated"
    }  # fmt: skip
    assert swept["20"]["djinn"] == swept["25"]["djinn"]
    assert swept["32"]["home_slot"]["ttft_ratio_mean"] == 30.0


def test_a_run_without_switching_exports_and_tabulates_nothing_of_it(tmp_path: Path) -> None:
    """And one that only simulated has no summary."""
    other = Run.read(write_run(tmp_path / "cascade", [cascade()]))
    assert not [p for p in exports.write(other) if p.parent.name == "switching"]
    assert switching_tables.tables(other.records) == []
    only = Run.read(write_run(tmp_path / "sim", [simulated("sim-buffers")]))
    assert [p.name for p in exports.write(only)] == ["buffer_sweep.json"]


def test_a_run_whose_arm_failed_in_every_round_is_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no request, and is left out; the others are shown."""
    broken = arm_record("lru", 2)
    broken.sweep = [p for p in broken.sweep if p["arm"] == "control"]
    for one in broken.rounds:
        object.__setattr__(one, "treatment", None)
    path = write_run(tmp_path / "run", [broken, arm_record("keep-last", 2)])
    assert cli.main(["render", str(path)]) == 0
    out = capsys.readouterr().out
    assert "keep-last" in out
    assert (path / "output/switching/keep_last_sequential_results.json").is_file()
    assert not (path / "output/switching/lru_sequential_results.json").exists()


def test_a_users_trace_that_is_asked_three_times_is_no_three_seeds() -> None:
    """What is drawn by seed and what is repeated are told apart, also in a run of one round."""
    repeated = arm_record("home-slot", 3)
    repeated.settings |= {"seeds": 1, "workload": "mine"}
    assert "3 rounds of the same 30 requests, mine" in switching.scope(switching.arms([repeated]))
    assert "3 seeds of 30 requests" in switching.scope(switching.arms([arm_record("home-slot", 3)]))
    assert "1 seed of 30 requests" in switching.scope(switching.arms([arm_record("home-slot", 1)]))
