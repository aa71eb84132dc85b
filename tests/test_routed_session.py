"""`pytest bench/test_routing.py` as a user runs it: its options, its files, its ways out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  # here, since compiled modules cannot be loaded anew for every inner run
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401

from reports.experiments import telemetry
from reports.runs import Run

ROOT = Path(__file__).resolve().parents[1]
TASK = {
    "type": "math",
    "difficulty": 1,
    "num_tokens": 50,
    "max_tokens": 8,
    "key": {"grade": "number", "value": 1},
}
MINE = {
    "schema": 1,
    "name": "mine",
    "source": "a test",
    "jobs": [
        {
            "id": name,
            "shape": "own",
            "source": "a test",
            "edges": [["a", "b"]],
            "tasks": [{**TASK, "id": "a", "prompt": "1?"}, {**TASK, "id": "b", "prompt": "{a}?"}],
        }
        for name in ("first", "second", "third")
    ],
}
PLUGIN = """
import os, sys
from harness.hardware import budget
budget.MEMORY_FOLDER = os.environ["LEDGERS"]
if "HIDDEN" in os.environ:
    sys.modules[os.environ["HIDDEN"]] = None
"""


def command(results: Path, *options: str) -> list[str]:
    shared = ["--results-dir", str(results), "-p", "no:cacheprovider", "-p", "inner_plugin", "-q"]
    return [sys.executable, "-m", "pytest", "bench/test_routing.py", *shared, *options]


def environment(tmp_path: Path, **more: str) -> Mapping[str, str]:
    """Ledgers are kept where this test sees them."""
    ledgers = tmp_path / "ledgers"
    ledgers.mkdir(exist_ok=True)
    (tmp_path / "inner_plugin.py").write_text(PLUGIN)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "LEDGERS": str(ledgers), **more}


def run(tmp_path: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path / "results", *options),
        cwd=ROOT,
        env=environment(tmp_path, **more),
        capture_output=True,
        text=True,
        check=False,
    )


def only_run(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "results").iterdir()
    return folder


def ledgers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "ledgers").iterdir())


def check_whole(folder: Path, variants: set[str], jobs: list[str]) -> None:
    """Everything that a finished run of these variants leaves."""
    found = Run.read(folder, judged=False)
    assert {record.variant for record in found.records} == variants
    for record in found.records:
        assert record.complete
        assert not record.failures
        assert all(check.ok for check in record.checks)
        assert {pair.id.rpartition(".")[0] for pair in record.tasks} == set(jobs)
        scores = [pair.treatment["score"] for pair in record.tasks if pair.treatment]
        assert len(scores) == len(record.tasks)
        assert None not in scores
        assert {point["job"] for point in record.sweep if point["name"] == "job"} == set(jobs)
        assert all(point["score"] is not None for point in record.sweep if point["name"] == "job")
    traces = telemetry.read(folder)
    assert {trace.variant for trace in traces} == {*variants, "planner"}
    assert {trace.job for trace in traces} == set(jobs)
    for variant in variants:
        kept = {path.stem for path in (folder / "artifacts" / variant).glob("*.json")}
        assert kept == set(jobs)
    (report,) = folder.glob("**/report.json")
    told = json.loads(report.read_text())["comparison_lp_vs_llm"]
    if "lp-3" in variants:  # of the published router alone
        assert told["lp"]["num_jobs"] == told["llm"]["num_jobs"] == len(jobs)
        assert 0 < told["lp"]["avg_job_score"] <= 1


def test_a_replayed_run_leaves_everything_that_is_told_of_it(tmp_path: Path) -> None:
    """Records, telemetry, artifacts, report; the first jobs of the workload; no ledger."""
    done = run(
        tmp_path,
        "--profile",
        "replay",
        "--tasks",
        "3",
        "--rounds",
        "1",
        "--claims=off",
        "-k",
        "sequential or lp-3",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    check_whole(only_run(tmp_path), {"lp-3", "sequential", "sequential-learning"}, ["wb1", "wb2", "wb3"])
    assert ledgers(tmp_path) == []


def test_without_cvxpy_its_variants_alone_are_skipped(tmp_path: Path) -> None:
    """With the line that installs it."""
    done = run(
        tmp_path,
        *("--profile", "replay", "--tasks", "1", "--rounds", "1", "--claims=off"),
        *("-k", "lp or greedy or sweep-num_models"),
        HIDDEN="cvxpy",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "1 passed, 4 skipped" in done.stdout
    _, _, told = done.stdout.partition("not available here")
    why, _, rest = told.partition("\n    ")
    assert "pip install 'assay[routing]'" in why
    assert re.sub(r"\s+", " ", rest).startswith("lp, lp-3, lp-flat, sweep-num_models")
    assert {r.variant for r in Run.read(only_run(tmp_path)).records if r.complete} == {"greedy"}
    assert ledgers(tmp_path) == []


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """The real fixtures, and a test that says which jobs and tasks there are."""
    plugins = [
        "reports.plugin", "fixtures.options", "fixtures.backends", "fixtures.pairing", "fixtures.unavailable",
        "fixtures.workflows", "fixtures.routed",
    ]  # fmt: skip
    pytester.syspathinsert(ROOT)
    pytester.makeconftest(f"pytest_plugins = {plugins}")
    pytester.makepyfile(
        test_inner="""
        def test_routing(jobs, fleet_here):
            print("JOBS", *(job.id for job in jobs.jobs[:4]), len(jobs.jobs), fleet_here.budget_bytes)

        def test_cascade(workload):
            print("TASKS", len(workload.tasks))
        """
    )
    (pytester.path / "mine.json").write_text(json.dumps(MINE))
    return pytester


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        (["--workload=mine.json", "--tasks=9"], "JOBS first second third 3 4000000"),
        (["--workload=mine.json", "--tasks=2", "--vram-gb=0.0025"], "JOBS first second 2 2500000"),
        (["--profile=replay"], "JOBS wb1 wb2 wb3 wb1-000 63 8000000000"),
    ],
)
def test_jobs_are_a_users_or_the_profiles(suite: pytest.Pytester, options: list[str], jobs: str) -> None:
    """At most as many as asked for, under the budget asked for."""
    result = suite.runpytest("-s", "-k", "routing", *options)
    result.stdout.fnmatch_lines([f"*{jobs}"])


def test_a_file_of_jobs_is_no_workload_of_one_workflow(suite: pytest.Pytester) -> None:
    """What it cannot run is skipped with a line, and the same the other way round."""
    workflow = ROOT / "bench" / "workloads" / "swe-mini.json"
    result = suite.runpytest("-k", "cascade", "--workload=mine.json")
    result.stdout.fnmatch_lines(
        ["*mine.json holds jobs: -m routing; *docs/workloads.md*", "    test_cascade"]
    )
    result = suite.runpytest("-k", "routing", f"--workload={workflow}")
    unwrapped = " ".join(result.stdout.str().split())  # where a line breaks depends on the path's length
    assert "holds tasks of one workflow; jobs: docs/jobs.md test_routing" in unwrapped


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 1, "jobs": [', "*not valid JSON*"),
        ('{"schema": 1, "jobs": [{"id": 3}]}', "*name: missing; add it (see docs/jobs.md)*"),
        (json.dumps(MINE).replace('"b"]', '"c"]'), "*job first*edges[[]0[]]*write two of a, b*"),
        (
            json.dumps(MINE | {"jobs": []}),
            "*jobs: [[][]] is not allowed; write a list of at least one object*",
        ),
    ],
)
def test_a_malformed_file_of_jobs_ends_the_run_with_one_line(
    suite: pytest.Pytester, text: str, says: str
) -> None:
    """Before anything runs, as a usage error."""
    (suite.path / "mine.json").write_text(text)
    result = suite.runpytest("--workload=mine.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line.strip()]
    assert len(lines) == 1
    result.stderr.fnmatch_lines([f"ERROR: *mine.json{says}"])


def test_a_foreseen_error_is_one_line(suite: pytest.Pytester) -> None:
    """Neither a traceback, nor the error that it stands for beside it."""
    suite.makepyfile(
        test_inner="""
        from fixtures.backends import plain_errors
        from harness.errors import BudgetError

        def test_it():
            with plain_errors():
                raise BudgetError("no room")
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(failed=1)
    told = [line for line in result.outlines if "no room" in line]
    assert told == ["BudgetError: no room", "FAILED test_inner.py::test_it - Failed: BudgetError: no room"]


@pytest.mark.parametrize("value", ["0", "-1", "abc", "nan"])
def test_a_budget_that_is_no_memory_is_refused(suite: pytest.Pytester, value: str) -> None:
    """As a usage error that names the option."""
    result = suite.runpytest(f"--vram-gb={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--vram-gb: '{value}' is no memory; give GB above 0, such as 8"])


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.nightly
def test_a_pocket_run_that_is_killed_half_way_is_finished_by_resume(tmp_path: Path) -> None:
    """Real engines; every variant is measured once, and a kill leaves no more than its ledgers."""
    options = ["--tasks", "3", "--rounds", "2", "--claims=off", "-k", "sequential"]
    results = tmp_path / "results"
    process = subprocess.Popen(
        command(results, *options), cwd=ROOT, env=environment(tmp_path), stdout=subprocess.DEVNULL
    )
    wait_for(lambda: any(p.stat().st_size for p in results.glob("*/journal.jsonl")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kinds = Counter(path.suffix for path in ledgers(tmp_path))
    assert kinds[".json"] <= 1
    assert sum(kinds.values()) <= 2
    assert sum(path.stat().st_size for path in ledgers(tmp_path)) < 10_000
    for path in ledgers(tmp_path):
        path.unlink()
    with next(results.glob("*/telemetry.jsonl")).open("a") as file:
        file.write('{"event": "plan_st')
    done = run(tmp_path, *options, "--resume")
    assert done.returncode == 0, done.stdout[-2000:]
    lines = (only_run(tmp_path) / "journal.jsonl").read_text().splitlines()
    finished = Counter(json.loads(line)["params"]["variant"] for line in lines)
    assert finished == Counter(["sequential", "sequential-learning"])
    check_whole(only_run(tmp_path), {"sequential", "sequential-learning"}, ["wb1-000", "wb2-001", "wb3-002"])
    assert ledgers(tmp_path) == []


@pytest.mark.nightly
def test_ctrl_c_leaves_no_ledger(tmp_path: Path) -> None:
    """Wherever it strikes; what was told until then can be read."""
    results = tmp_path / "results"
    process = subprocess.Popen(
        command(results, "--tasks", "3", "--claims=off", "-k", "sequential"),
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    wait_for(lambda: list(results.glob("*/telemetry.jsonl")), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == pytest.ExitCode.INTERRUPTED
    assert ledgers(tmp_path) == []
    assert telemetry.read(only_run(tmp_path))
