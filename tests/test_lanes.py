"""Lanes as their user meets them: the claims of one process, a crash that costs one test, plain errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fixtures.lanes import Asked, Lane, lanes_of
from tests.test_plugin import ROOT, claim, usage_error

CONFTEST = 'pytest_plugins = ["reports.plugin", "fixtures.options", "fixtures.lanes", "fixtures.pairing"]'

BENCH = """
import os, signal, time
import pytest
from fixtures.lines import TerminalLines
from fixtures.pairing import Arm, Measured
from reports.plugin import RUN_DIR
from reports.records import Check, Metric, Record

pytestmark = pytest.mark.demo
FACTOR = {"half": 0.5, "same": 1.0, "slower": 1.2, "third": 0.33, "quarter": 0.25, "broken": 1.0}


class Lines(TerminalLines):
    title = "what demo says"


@pytest.fixture(scope="session")
def lines(request):
    made = Lines()
    request.config.pluginmanager.register(made, "demo-lines")
    return made


def arm(name, factor, fail):
    noise = iter([1.01, 0.99, 1.02, 0.98] * 100)

    def run():
        if fail:
            raise RuntimeError("engine went away")
        return Measured({"wall_s": factor * next(noise)})

    return Arm(name, run)


@pytest.mark.parametrize("variant", FACTOR)
def test_demo(variant, paired, lines, request):
    with open("ran.txt", "a") as log:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        log.write(f"{variant} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {cores}" + chr(10))
    if os.environ.get("DIES") == variant:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("STOPS") == variant:
        os.kill(os.getppid(), signal.SIGINT)
    time.sleep(float(os.environ.get("SLEEP", "0")))
    lines.lines.append(f"told by {variant}")
    (request.config.stash[RUN_DIR]() / f"{variant}.txt").write_text("left in the run's folder")
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")})
    record.checks.append(Check(name="labelled", ok=True, observed="the label"))
    paired.run(record, arm(variant, FACTOR[variant], variant == "broken"), arm("full", 1.0, False))
    assert not record.failures, record.failures[:1]
"""

CLAIMS = (
    claim("half-is-faster", "half", 1.5, more='also_beats = ["same", "slower"]')
    + claim("half-is-5x", "half", 5.0)
    + claim("third-is-faster", "third", 1.5, more='provenance = ["labelled"]')
    + claim("quarter-is-faster", "quarter", 1.5)
    + claim("broken-is-faster", "broken", 1.5)
    + claim("needs-a-node", "half", 1.5, more='requires = ["profile:node"]')
    + claim("nobody-runs-it", "ghost", 1.5)
)
LANES = ("-n", "2", "--lanes", "cpu", "-p", "xdist")

needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="two lanes need two CPU cores and a system that pins processes to them (Linux)",
)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest(CONFTEST)
    names = ("demo", "nightly", "overhead", "gpu")
    pytester.makefile(".ini", pytest="[pytest]\nmarkers =\n" + "".join(f"    {m}: a marker\n" for m in names))
    bench = pytester.mkdir("bench")
    (bench / "test_demo.py").write_text(BENCH)
    (bench / "claims").mkdir()
    (bench / "claims" / "demo.toml").write_text(CLAIMS)
    return pytester


def run_dir(suite: pytest.Pytester, results: str = "results") -> Path:
    return max((suite.path / results).iterdir())


def journal(suite: pytest.Pytester) -> dict[str, dict[str, Any]]:
    lines = (run_dir(suite) / "journal.jsonl").read_text().splitlines()
    return {entry["params"]["variant"]: entry for entry in map(json.loads, lines)}


def claims(folder: Path) -> dict[str, Any]:
    return {row["id"]: row for row in json.loads((folder / "claims.json").read_text())["claims"]}


def ran(suite: pytest.Pytester) -> list[list[str]]:
    return [line.split() for line in (suite.path / "ran.txt").read_text().splitlines()]


def timeless(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


@needs_cores
def test_two_lanes_decide_what_one_process_does(suite: pytest.Pytester) -> None:
    """The same claims to the last word, every benchmark in its order, each lane on its own core."""
    found = suite.runpytest_subprocess("bench", *LANES)
    alone = suite.runpytest_subprocess("bench", "--results-dir", "alone")
    laned, single = claims(run_dir(suite)), claims(run_dir(suite, "alone"))
    assert {i: timeless(row) for i, row in laned.items()} == {i: timeless(row) for i, row in single.items()}
    words = {row["verdict"] for row in laned.values()}
    assert words == {"confirmed", "refuted", "error", "out of scope", "missing"}
    assert found.parseoutcomes() == alone.parseoutcomes()
    assert found.ret == alone.ret == pytest.ExitCode.TESTS_FAILED

    names = [
        [b["fullname"] for b in json.loads((folder / "benchmark.json").read_text())["benchmarks"]]
        for folder in (run_dir(suite), run_dir(suite, "alone"))
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 6

    entries, lines = journal(suite), ran(suite)[:6]
    assert {entry["lane"] for entry in entries.values()} <= {"cpu 0", "cpu 1"} | {
        f"cpu {core}" for core in os.sched_getaffinity(0)
    }
    assert all(entries[variant]["lane"] == f"cpu {cores}" for variant, _, _, cores in lines)
    assert len({entries[variant]["lane"] for variant in ("half", "same", "slower")}) == 1
    assert {path.stem for path in run_dir(suite).glob("*.txt")} == set(entries)
    found.stdout.fnmatch_lines(["lanes: cpu *; cpu *", "*what demo says*"])
    assert all(f"told by {variant}" in found.outlines for variant in set(entries) - {"broken"})


@needs_cores
def test_a_crash_costs_the_test_that_crashed(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in one variant: it alone failed, with its reason, and nothing ran twice."""
    monkeypatch.setenv("DIES", "same")
    suite.runpytest_subprocess("bench", *LANES, "-k", "not broken and not nobody")
    entries = journal(suite)
    assert {variant: entry["outcome"] for variant, entry in entries.items()} == {
        "half": "passed", "same": "failed", "slower": "passed", "third": "passed", "quarter": "passed",
    }  # fmt: skip
    assert "crashed in this test" in entries["same"]["why"]
    assert entries["same"]["lane"] == entries["half"]["lane"] == entries["slower"]["lane"]
    assert sorted(variant for variant, *_ in ran(suite)) == sorted(entries)
    verdicts = {id: row["verdict"] for id, row in claims(run_dir(suite)).items()}
    assert verdicts["half-is-5x"] == "refuted"
    assert verdicts["third-is-faster"] == "confirmed"


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
    """Rounds on one core and rounds on all of them do not mix."""
    suite.runpytest_subprocess("bench", *LANES, "-k", "third", "--claims=off")
    result = suite.runpytest_subprocess("bench", "-k", "third", "--claims=off", "--resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*settings:*lanes*"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--lanes", "cpu"), "--lanes cpu: says what each worker runs on; add -n auto*"),
        (("--lanes", "cpu", "-n", "0"), "--lanes cpu: says what each worker runs on; add -n auto*"),
        (("--lanes", "cpu", "-n", "4096"), "--lanes cpu: 4096 lanes of 1 take 4096 cores, and * are here; *"),
        (("--lanes", "cpu:4096", "-n", "auto"), "*1 lanes of 4096 take 4096 cores*fewer than 4096 to a lane"),
        (("--lanes", "cpu", "-n", "1", "--dist", "worksteal"), "*leave out --dist worksteal"),
        (("--lanes", "cpu", "-n", "1", "--resume"), "--resume: no run in results*"),
        (("-n", "1"), "*disturb each other in workers; give each a device (--lanes gpu, *or run without -n"),
    ],
)
def test_what_cannot_run_in_lanes_is_one_line(
    suite: pytest.Pytester, args: tuple[str, ...], message: str
) -> None:
    """Culprit, value and remedy, before a worker is started."""
    usage_error(suite.runpytest("bench", "-p", "xdist", *args), message)
    assert not (suite.path / "ran.txt").exists()
    assert not (suite.path / "results").exists()


@pytest.mark.parametrize("given", ["tpu", "gpu:0", "cpu:", "cpu:x", ""])
def test_an_unknown_kind_of_lane_is_named(suite: pytest.Pytester, given: str) -> None:
    """With the kinds that there are."""
    result = suite.runpytest("bench", "-p", "xdist", "-n", "1", f"--lanes={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*'{given}' is no kind of lane; give gpu, gpu:2, cpu or cpu:4"])


def test_collecting_only_starts_no_worker(suite: pytest.Pytester) -> None:
    """It lists variants and claims, and makes no run."""
    result = suite.runpytest("bench", *LANES[2:], "-n", "1", "--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines_random(["*test_demo[[]half[]]", "*half-is-5x"])
    assert not (suite.path / "results").exists()


@pytest.mark.parametrize(
    ("asked", "num", "expected"),
    [
        (Asked("gpu", 1), None, [Lane("gpu 0", ("a",)), Lane("gpu 1", ("b",)), Lane("gpu 2", ("c",))]),
        (Asked("gpu", 1), 2, [Lane("gpu 0", ("a",)), Lane("gpu 1", ("b",))]),
        (Asked("gpu", 2), None, [Lane("gpu 0,1", ("a", "b"))]),
        (Asked("cpu", None), 1, [Lane("cpu a,b,c", cores=("a", "b", "c"))]),
        (Asked("cpu", None), 3, [Lane(f"cpu {core}", cores=(core,)) for core in "abc"]),
    ],
)  # fmt: skip
def test_devices_are_shared_out_in_their_order(asked: Asked, num: int | None, expected: list[Lane]) -> None:
    """No device is in two lanes; what does not fill a lane stays idle."""
    assert lanes_of(asked, num, ["a", "b", "c"]) == expected


def test_a_gpu_lane_sees_its_devices_alone() -> None:
    """By UUID, which means the same device to CUDA and to its driver."""
    lane = Lane("gpu 2,3", ("GPU-c", "GPU-d"))
    assert lane.environment == {"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-d"}


GPUS = """
import sys
from tests.fake_nvml import FakeGpu, FakeNvml

sys.modules["pynvml"] = FakeNvml(gpus=[FakeGpu(uuid=f"GPU-{name}") for name in "abcd"])
"""


def test_each_worker_sees_the_gpu_of_its_lane_alone(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that CUDA_VISIBLE_DEVICES leaves; the library is a stand-in, the workers are real."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-b")
    (suite.path / "conftest.py").write_text(GPUS + CONFTEST)
    chosen = ("-k", "third or quarter", "--claims=off", "-p", "xdist")
    found = suite.runpytest_subprocess("bench", "-n", "auto", "--lanes", "gpu", *chosen)
    assert found.ret == pytest.ExitCode.OK
    found.stdout.fnmatch_lines(["lanes: gpu 0; gpu 1"])
    uuid_of = {"gpu 0": "GPU-c", "gpu 1": "GPU-b"}
    entries = journal(suite)
    assert {variant: uuid_of[entries[variant]["lane"]] for variant in entries} == {
        variant: devices for variant, _, devices, _ in ran(suite)
    }
    usage_error(
        suite.runpytest("bench", "-n", "3", "--lanes", "gpu", "-p", "xdist"), "*3 GPUs, and 2 are here*"
    )


def test_more_lanes_than_gpus_are_refused() -> None:
    """With the number that there can be."""
    with pytest.raises(
        pytest.UsageError, match=r"--lanes gpu: 3 lanes of 1 take 3 GPUs, and 2 are here; give -n 2"
    ):
        lanes_of(Asked("gpu", 1), 3, ["a", "b"])
    with pytest.raises(pytest.UsageError, match=r"0 are here"):
        lanes_of(Asked("gpu", 1), None, [])


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
        f"{CONFTEST}\nimport os\n"
        "def pytest_collection_finish(session):\n"
        "    if 'PYTEST_XDIST_WORKER' in os.environ: raise RuntimeError('no server here')\n"
    )
    found = suite.runpytest_subprocess("bench", *LANES)
    assert found.ret != pytest.ExitCode.OK
    assert "replacing" not in found.stdout.str()
