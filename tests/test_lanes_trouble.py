"""Lanes that are interrupted, killed, resumed, or whose workers cannot start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.laned import BENCH, CONFTEST, LANES, claims, journal, make_suite, needs_cores, ran, run_dir


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    return make_suite(pytester, monkeypatch)


@needs_cores
@pytest.mark.nightly
def test_resuming_runs_what_crashed_alone(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """--resume with the same lanes: what finished is replayed, and benchmark.json is whole."""
    chosen = ("-k", "not broken and not nobody")
    monkeypatch.setenv("DIES", "same")
    suite.runpytest_subprocess("bench", *LANES, *chosen)
    monkeypatch.delenv("DIES")
    again = suite.runpytest_subprocess("bench", *LANES, *chosen, "--resume")
    assert [variant for variant, *_ in ran(suite)[5:]] == ["same"]
    assert again.parseoutcomes()["resumed"] == 4
    assert again.ret == pytest.ExitCode.OK
    assert len(json.loads((run_dir(suite) / "benchmark.json").read_text())["benchmarks"]) == 5
    assert claims(run_dir(suite))["half-is-faster"]["verdict"] == "confirmed"


@needs_cores
@pytest.mark.nightly
def test_resuming_without_the_lanes_is_another_plan(suite: pytest.Pytester) -> None:
    """Rounds on one core and rounds on all of them do not mix, whether --lanes or -n made the difference."""
    chosen = ("-k", "third", "--claims=off")
    suite.runpytest_subprocess("bench", *LANES, *chosen)
    size = len(os.sched_getaffinity(0)) // 2
    wider = ("-n", "1", "--lanes", "cpu", "-p", "xdist")
    for options, lanes in (((), "None"), (wider, f"cpu:{len(os.sched_getaffinity(0))}")):
        result = suite.runpytest_subprocess("bench", *options, *chosen, "--resume")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*settings.lanes: cpu:{size} → {lanes}"])
    again = suite.runpytest_subprocess("bench", *LANES[:2], "--lanes", f"cpu:{size}", *chosen, "--resume")
    assert again.parseoutcomes()["resumed"] == 1


@needs_cores
@pytest.mark.nightly
def test_the_first_failure_ends_a_run_that_asks_for_it(suite: pytest.Pytester) -> None:
    """-x: what a lane was told runs to its end, the rest does not run, and a line says how to go on."""
    (suite.path / "bench" / "test_demo.py").write_text(
        BENCH.replace("FACTOR = {", 'FACTOR = {"broken": 1.0, ')
    )
    found = suite.runpytest_subprocess("bench", *LANES, "-x", "--claims=off")
    assert found.ret == pytest.ExitCode.INTERRUPTED
    assert len(ran(suite)) <= 4
    found.stdout.fnmatch_lines(["*tests did not run to their end*continue with --resume*"])


@needs_cores
@pytest.mark.nightly
def test_an_interrupted_run_keeps_what_was_measured(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: finished variants are journaled and judged, no process stays, --resume goes on."""
    # A shell that runs this in the background has interrupts ignored, and children inherit that.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (suite.path / "conftest.py").write_text(heard + CONFTEST)
    monkeypatch.setenv("STOPS", "slower")
    monkeypatch.setenv("SLEEP", "0.3")
    found = suite.runpytest_subprocess("bench", *LANES)
    assert found.ret == pytest.ExitCode.INTERRUPTED
    entries = journal(suite)
    assert "half" in entries
    assert "slower" not in entries
    assert claims(run_dir(suite))["half-is-5x"]["verdict"] == "refuted"
    pids = {int(pid) for _, pid, *_ in ran(suite)}
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    monkeypatch.delenv("STOPS")
    again = suite.runpytest_subprocess("bench", *LANES, "--resume", "-k", "half or third or quarter")
    assert again.parseoutcomes()["resumed"] >= 1
    assert again.ret == pytest.ExitCode.OK


@needs_cores
@pytest.mark.nightly
def test_killing_the_controller_leaves_no_worker_behind(suite: pytest.Pytester) -> None:
    """SIGKILL: the workers end, and what was journaled can be resumed."""
    command = [sys.executable, "-m", "pytest", "bench", *LANES]
    run = subprocess.Popen(command, cwd=suite.path, env={**os.environ, "SLEEP": "1"})
    deadline = time.monotonic() + 60
    while not list(suite.path.glob("results/*/journal.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    pids = {int(pid) for _, pid, *_ in ran(suite)}
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    finished = set(journal(suite))
    again = suite.runpytest_subprocess("bench", *LANES, "--resume", "-k", "not broken and not nobody")
    assert again.ret == pytest.ExitCode.OK
    assert finished <= set(journal(suite))


@needs_cores
@pytest.mark.nightly
def test_where_no_worker_is_replaced_the_other_lane_goes_on(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--max-worker-restart=0: the rest of the crashed lane's block runs on the other."""
    monkeypatch.setenv("DIES", "half")
    suite.runpytest_subprocess("bench", *LANES, "--max-worker-restart=0", "--claims=off")
    entries = journal(suite)
    assert set(entries) == {"half", "same", "slower", "third", "quarter", "broken"}
    assert len({entry["lane"] for variant, entry in entries.items() if variant != "half"}) == 1


@needs_cores
@pytest.mark.nightly
def test_a_worker_that_cannot_start_ends_the_run_with_its_reason(suite: pytest.Pytester) -> None:
    """It is not replaced again and again."""
    (suite.path / "conftest.py").write_text(
        f"{CONFTEST}\nimport os, pytest\n"
        "def pytest_collection_finish(session):\n"
        "    if 'PYTEST_XDIST_WORKER' in os.environ: raise pytest.UsageError('--backend a=b: no b here')\n"
    )
    found = suite.runpytest_subprocess("bench", *LANES)
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["ERROR: on lane cpu *: --backend a=b: no b here"])
    assert not any("INTERNALERROR" in line for line in found.outlines)
    assert "replacing" not in found.stdout.str()


@needs_cores
@pytest.mark.nightly
def test_a_worker_that_dies_as_it_starts_ends_the_run(suite: pytest.Pytester) -> None:
    """It is not replaced: the next one would die too."""
    (suite.path / "conftest.py").write_text(
        f"{CONFTEST}\nimport os\n"
        "def pytest_collection_finish(session):\n"
        "    if os.environ.get('PYTEST_XDIST_WORKER') == 'gw1': os._exit(3)\n"
        "def pytest_collection(session):\n"
        "    if os.environ.get('PYTEST_XDIST_WORKER') == 'gw0': os._exit(3)\n"
    )
    found = suite.runpytest_subprocess("bench", *LANES, "--claims=off")
    assert found.ret == pytest.ExitCode.INTERRUPTED
    found.stdout.fnmatch_lines(["*--lanes: the worker of lane cpu * ended before its first test: *"])
