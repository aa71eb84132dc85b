"""Lanes as their user meets them: the claims of one process, a crash that costs one test, plain errors."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from fixtures.lanes import Asked, Lane, lanes_of
from tests.laned import CONFTEST, LANES, claims, journal, make_suite, needs_cores, ran, run_dir
from tests.test_plugin import usage_error


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    return make_suite(pytester, monkeypatch)


def timeless(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


EXPECTED = """

def pytest_sessionfinish(session):
    from reports.session.progress import Progress

    if (progress := session.config.stash.get(Progress.KEY, None)) and progress.num_lanes > 1:
        told = f"{progress.num_lanes} lanes, blocks of {sorted(map(len, progress.blocks))}"
        (session.config.rootpath / "expected.txt").write_text(told)
"""


@needs_cores
def test_two_lanes_decide_what_one_process_does(suite: pytest.Pytester) -> None:
    """The same claims to the last word, every benchmark in its order, each lane on its own core."""
    (suite.path / "conftest.py").write_text(CONFTEST + EXPECTED)
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
    # Its setup, which the first variant of each lane had, is part of how long a test took. A lane that comes
    # up late may find nothing left to do.
    assert sum(entry["duration_s"] >= 0.2 for entry in entries.values()) >= len(
        {entry["lane"] for entry in entries.values()}
    )
    assert {path.stem for path in run_dir(suite).glob("*.txt")} == set(entries)
    found.stdout.fnmatch_lines(["lanes: cpu *; cpu *", "*what demo says*"])
    assert all(f"told by {variant}" in found.outlines for variant in set(entries) - {"broken"})
    # What the time left is reckoned by: the three variants of one claim stay on one lane.
    assert (suite.path / "expected.txt").read_text() == "2 lanes, blocks of [1, 1, 1, 3]"


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


@needs_cores
def test_a_preview_knows_the_plan_of_the_run(suite: pytest.Pytester) -> None:
    """Or it would not find what earlier runs in the same lanes took."""
    num = len(os.sched_getaffinity(0))
    config = suite.parseconfigure("bench", *LANES, "--collect-only")
    assert str(config.option.lanes) == f"cpu:{num // 2}"


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


def test_a_lane_has_as_many_threads_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of GPUs too, or eight workers would each compute on all; what is set already stays."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    lanes = Lane("gpu 2", ("GPU-c",), (4, 5, 6)), Lane("cpu 1,2", cores=(1, 2))
    assert [lane.environment["OMP_NUM_THREADS"] for lane in lanes] == ["3", "2"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert {lane.environment["OMP_NUM_THREADS"] for lane in lanes} == {"1"}


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
    num = len(os.sched_getaffinity(0))
    found.stdout.fnmatch_lines([f"lanes: gpu 0; gpu 1; cores to each: {num // 2 or num}"])
    uuid_of = {"gpu 0": "GPU-c", "gpu 1": "GPU-b"}
    entries = journal(suite)
    assert {variant: uuid_of[entries[variant]["lane"]] for variant in entries} == {
        variant: devices for variant, _, devices, _ in ran(suite)
    }
    # A lane that comes up late may find nothing left to do.
    shares = {entries[variant]["lane"]: tuple(cores.split(",")) for variant, _, _, cores in ran(suite)}
    assert {len(share) for share in shares.values()} == {num // 2 or num}
    assert num == 1 or len(set(shares.values())) == len(shares)
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
