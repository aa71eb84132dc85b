"""Table 2, and the files that the source publishes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reports import tables
from reports.experiments import agents, agents_report, exports
from reports.runs import Run
from tests.synthetic_agents import record_of, records
from tests.synthetic_runs import record as cascade
from tests.synthetic_runs import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.read(write_run(tmp_path_factory.mktemp("runs") / "one", records()))


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_a_control_without_a_record_of_its_own_counts_as_the_arm_that_it_is() -> None:
    """And an arm's own record comes first; counts rise."""
    found = agents.points([record_of("shared-4"), record_of("shared-1")])
    assert [(p.arm, p.agents) for p in found] == [
        ("shared-recompute", 1), ("shared-recompute", 4), ("shared", 1), ("shared", 4)
    ]  # fmt: skip
    assert all(len(p.steps) == 4 * 2 * p.agents for p in found)


def test_table_2_says_which_quantile_its_steps_do_not_support(run: Run) -> None:
    """A p99 of 256 steps is none; the fourth keep-alive agent was refused."""
    exports.write(run)
    rows = {(r["arm"], r["agents"]): r for r in rows_of(run.path / "output/agents/table2.csv")}
    last = rows["shared", "32"]
    assert (last["steps"], last["p99_ms"], last["p99_needs_steps"]) == ("256", "unsupported", "368")
    assert float(last["p50_ms"]) == pytest.approx(400, rel=0.05)
    refused = rows["ray-keepalive", "4"]
    assert (refused["oom_at"], refused["finished_agents"]) == ("4", "3")
    text = (run.path / "output/agents/table2.md").read_text(encoding="utf-8")
    assert "| shared | 32 | 32 | – | 256 |" in text
    assert "unsupported (256 of 368)" in text
    assert "| ray-keepalive | 4 | 3 | agent 4 |" in text


def test_a_p99_is_printed_once_there_are_enough_steps() -> None:
    """368 of them."""
    values = [float(v) for v in range(1, 369)]
    assert agents.quantile(values[1:], 0.99) is None
    assert agents.needed(0.99) == 368
    best = agents.highest(values)
    assert best is not None
    assert (best[0], best[1].estimate) == (0.99, 365.0)
    assert agents.highest([1.0] * 5) is None
    assert (agents.highest([1.0] * 40) or (0,))[0] == 0.9


def test_each_arm_has_a_file_under_the_sources_name(run: Run) -> None:
    """Steps in milliseconds, and what was not measured null."""
    exports.write(run)
    found = json.loads((run.path / "output/agents/djinn_agents/one.json").read_text())
    assert (found["baseline"], found["arm"], found["sleep_seconds"]) == ("djinn_agents", "shared", 0.5)
    assert [r["agents"] for r in found["results"]] == [1, 2, 4, 8, 16, 32]
    last = found["results"][-1]
    assert (last["p99_ms"], last["oom"], len(last["steps"])) == (None, False, 256)
    assert {s["stage"] for s in last["steps"]} == {"reason", "reflect"}
    assert last["steps"][0]["tokens_in"] is None
    keepalive = json.loads((run.path / "output/agents/ray_keepalive/one.json").read_text())
    assert [(r["agents"], r["oom_at"]) for r in keepalive["results"]] == [(1, None), (2, None), (4, 4)]


def test_the_runs_tables_hold_table_2_and_no_row_of_a_workflow(run: Run) -> None:
    """In a terminal of 100 columns no line is longer, and every column is there."""
    text = tables.variants_table(run, width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "TTFT ×" in text
    assert "$/solved" not in text
    assert "| shared | 32 |" in tables.variants_markdown(run)


def test_policies_and_single_variants_have_tables_of_their_own(tmp_path: Path) -> None:
    """Beside Table 2, in which there are only arms and counts."""
    names = ("retention-keep", "retention-drop", "shared-prompt-512", "shared-2", "shared-recompute-2")
    found = agents_report.tables([record_of(name) for name in names])
    assert [len(table.rows) - 1 for table in found] == [2, 2, 1]
    assert [row[0] for row in found[1].rows[1:]] == ["keep", "drop"]
    assert found[2].rows[1][0] == "shared-prompt-512"
    assert found[2].rows[1][5] == "shared-recompute-prompt-512"
    assert all(len(row) == len(table.rows[0]) for table in found for row in table.rows)


def test_a_run_without_agents_has_no_such_files(tmp_path: Path) -> None:
    """Of another experiment alone."""
    other = Run.read(write_run(tmp_path / "other", [cascade()]))
    assert agents_report.write(other) == []
    assert agents_report.table(other.records) is None
