"""`pytest bench/test_switching.py` as a user runs it: records, options, traces, and arms that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("msgspec")

from fixtures.switching import SwitchingStand
from fixtures.switching_lines import Lines
from fixtures.switching_runs import Side, Switching
from fixtures.switching_variants import Work
from harness.errors import BackendBroken, UnavailableError, UsageError
from tests import spawned_runs
from tests.spawned_runs import ROOT, marked, stored

MARK = "ASSAY_SWITCHING_TEST"
HAS_GPU = find_spec("pynvml") is not None and Path("/dev/nvidia0").exists()


def command(results: Path, *options: str) -> list[str]:
    return spawned_runs.command("bench/test_switching.py", results, *options)


def run(results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return spawned_runs.run(command(results, *options))


def test_an_arm_and_a_simulation_leave_whole_records(tmp_path: Path) -> None:
    """Beside the control, request by request, every check made and passed."""
    done = run(tmp_path, "--rounds", "1", "-k", "home-slot-sync or sim-trace")
    assert done.returncode == 0, done.stdout
    found = stored(tmp_path)
    live, simulated = found["home-slot-sync"], found["sim-trace"]
    assert (live["control"], live["complete"], live["failures"]) == ("reload-every", True, [])
    assert {check["name"] for check in live["checks"]} == {
        "equal_tokens", "blobs_unchanged", "nothing_copied_out", "own_process", "same_trace",
        "hits_as_simulated", "bytes_as_simulated", "link_as_declared", "bytes_landed_in_arena",
        "all_completed", "greedy_deterministic",
    }  # fmt: skip
    requests = [point for point in live["sweep"] if point["name"] == "request"]
    assert [sum(point["arm"] == arm for point in requests) for arm in ("treatment", "control")] == [30, 30]
    values = live["rounds"][0]["treatment"]
    assert values["bytes_in"] == values["simulated_bytes_in"]
    assert live["settings"]["workload"] == "published-mix"
    assert (simulated["evidence"], len(simulated["tasks"])) == ("simulated", 1)
    assert "home-slot-sync" in done.stdout.partition("switching: hits")[2].splitlines()[1]


def test_a_trace_with_an_unknown_model_stops_the_run_with_a_line(tmp_path: Path) -> None:
    """It names the file, the request, and the models that there are."""
    path = tmp_path / "mine.json"
    trace = {"schema": 1, "name": "mine", "source": "a test", "prompt_tokens": 4, "output_tokens": 2}
    path.write_text(json.dumps({**trace, "requests": [{"at_s": 0.0, "model": "gpt-5"}]}))
    done = run(tmp_path, "--workload", str(path))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if "gpt-5" in line]
    assert "mine.json" in line
    assert "request #1" in line
    assert "llama-mini" in line
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_a_node_without_a_gpu_says_what_it_needs() -> None:
    """In the words of whoever has to find one."""
    option = {"profile": "node", "models": None, "buffer_gb": None, "link_gb_s": None}
    with pytest.raises(UnavailableError, match="needs an NVIDIA GPU"):
        Work.of(type("Option", (), option))


@pytest.fixture(scope="module")
def switching() -> Iterator[Switching]:
    """Arms that answer three requests a trace over a link of 2 GB/s."""
    stand = SwitchingStand(Work(num_requests=3, link_gb_s=2.0))
    yield Switching(stand, "pocket", Lines())
    stand.close()


def test_a_round_whose_arm_dies_fails_and_the_next_begins_anew(switching: Switching) -> None:
    """With the signal in the error, and another process after it."""
    side, record = Side("keep-last"), switching.record("keep-last", "reload-every")
    arm = switching._arm(record, side, 0)
    arm.prepare()
    first = switching.stand.serve("keep-last").pid
    os.kill(first, signal.SIGKILL)
    with pytest.raises(BackendBroken, match="SIGKILL"):
        arm.run()
    arm.prepare()
    assert arm.run().values["completed_share"] == 1
    assert side.pids > {first}
    assert ([each.seed for each in side.rounds], len(record.sweep)) == ([1], 3)


def test_tokens_are_compared_with_weights_that_never_moved(switching: Switching) -> None:
    """The reference answers in a process of its own, each prompt once."""
    asks = switching.stand.asks(switching.stand.work.trace_of(0))
    expected = switching.stand.expected([*asks, *asks])
    assert set(expected) == set(asks)
    assert {len(tokens) for tokens in expected.values()} == {2}


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize(("variant", "num_processes"), [("keep-last", 4), ("concurrent-8", 3)])
def test_a_driver_that_ends_in_the_middle_leaves_nothing(
    variant: str, num_processes: int, number: int, tmp_path: Path
) -> None:
    """No arm, no server, no fork server."""
    mark = uuid.uuid4().hex
    # A shell's background job ignores SIGINT, and so would what it starts.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command(tmp_path, "--rounds", "200", "-k", variant), cwd=ROOT, env={**os.environ, MARK: mark},
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, ignored)
    try:
        by_s = time.monotonic() + 90
        while len(marked(MARK, mark)) < num_processes and time.monotonic() < by_s:
            time.sleep(0.1)
        assert len(marked(MARK, mark)) >= num_processes
        time.sleep(3.0)
    finally:
        process.send_signal(number)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    by_s = time.monotonic() + 30
    while marked(MARK, mark) and time.monotonic() < by_s:
        time.sleep(0.1)
    assert not marked(MARK, mark)


TINY = ("random:tiny-llama", "random:tiny-qwen")


@pytest.mark.parametrize("buffer_gb", [0.5, 0.7])
def test_an_arena_smaller_than_a_model_is_refused_by_what_to_give(buffer_gb: float) -> None:
    """Whether none fits or only the largest does not: the control holds every model whole."""
    stand = SwitchingStand(Work(models=TINY, buffer_gb=buffer_gb))
    with pytest.raises(
        UsageError, match=rf"--buffer-gb {buffer_gb}: .*random:tiny-llama has .* or more"
    ) as told:
        stand.require_room()
    least_gb = float(str(told.value).split("give ")[1].split(" ")[0])
    SwitchingStand(Work(models=TINY, buffer_gb=least_gb)).require_room()
    with pytest.raises(UsageError):
        SwitchingStand(Work(models=TINY, buffer_gb=least_gb - 0.001)).require_room()


@pytest.mark.nightly
def test_a_control_that_answers_nothing_is_said_and_not_timed() -> None:
    """With its own reason, and not as an empty median."""
    stand = SwitchingStand(Work(models=TINY, buffer_gb=0.5))
    try:
        with pytest.raises(BackendBroken, match=r"reload-every cannot be timed: .*BudgetError"):
            assert stand.beside
    finally:
        stand.close()


def test_the_command_says_it_in_one_line_for_every_arm(tmp_path: Path) -> None:
    """Nothing is started or stored."""
    asked = ("--models", ",".join(TINY), "--buffer-gb", "0.5", "-k", "home-slot-sync or keep-last")
    done = run(tmp_path, "--rounds", "1", *asked)
    assert done.returncode == 1
    assert "UsageError: --buffer-gb 0.5: an arena of 0.5 MB here" in done.stdout
    assert "StatisticsError" not in done.stdout
    assert stored(tmp_path) == {}
