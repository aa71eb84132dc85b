"""`pytest bench/test_agents.py` as a user runs it: options, skips, out of memory, a driver that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("msgspec")

from fixtures import agents_arms
from harness.errors import UnavailableError
from tests import spawned_runs
from tests.spawned_runs import ROOT, marked, stored

MARK = "ASSAY_AGENTS_TEST"
COUNTING = ("--model-id", "counting", "--prompt-tokens", "40", "--new-tokens", "2", "--sleep-s", "0.02")


def command(results: Path, *options: str) -> list[str]:
    return spawned_runs.command("bench/test_agents.py", results, "--rounds", "1", *options)


def run(results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return spawned_runs.run(command(results, *options))


def test_an_option_that_makes_no_sense_stops_the_run_with_a_line(tmp_path: Path) -> None:
    """Before anything is collected."""
    done = run(tmp_path, "--ray-address", "gpu1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert [line for line in done.stderr.splitlines() if "'gpu1' is no address; give HOST:PORT" in line]
    assert "Traceback" not in done.stderr


def test_counts_that_are_asked_for_are_the_variants(tmp_path: Path) -> None:
    """Of every arm, and none of them left to the night."""
    done = run(tmp_path, "--agents", "3,64", "--collect-only", "-k", "test_agents")
    names = [
        line.partition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "::test_agents[" in line
    ]
    arms = ("shared", "shared-recompute", "engine-prefix-cache", "ray-keepalive", "ray-serverless")
    assert sorted(names) == sorted(f"{arm}-{count}" for arm in arms for count in (3, 64))


def test_once_out_of_memory_larger_counts_are_skipped_if_asked(tmp_path: Path) -> None:
    """A refusal is no failure; what is skipped says by what."""
    budget = str(5 * 64 * 76 / 1e9)  # five sessions of 76 tokens, 64 bytes each
    options = ("--agents", "2,6,8", "--agents-budget-gb", budget, "--stop-on-oom")
    done = run(tmp_path, *COUNTING, *options, "-k", "test_agents[shared-")
    assert done.returncode == 0, done.stdout
    found = stored(tmp_path)
    oom_at = {name: record["rounds"][0]["treatment"].get("oom_at") for name, record in found.items()}
    assert (oom_at["shared-2"], oom_at["shared-6"]) == (None, 6.0)
    assert "shared-8" not in found
    assert "shared was refused memory at 6 agents; run without --stop-on-oom" in done.stdout


def test_the_replay_profile_simulates_by_published_constants_and_skips_what_is_measured(
    tmp_path: Path,
) -> None:
    """Labelled, up to 10,000 agents."""
    done = run(tmp_path, "--profile", "replay", "-k", "replay or shared-1")
    assert done.returncode == 0, done.stdout
    record = stored(tmp_path)["replay"]
    assert (record["evidence"], record["profile"]) == ("simulated", "replay")
    points = [point for point in record["sweep"] if point["name"] == "point"]
    assert {point["agents"] for point in points} >= {1, 1000, 10_000}
    assert "--profile replay simulates, and this is measured" in done.stdout


@pytest.mark.parametrize(
    ("arm", "line"), [("ray-keepalive", "assay[ray]"), ("engine-prefix-cache", "xllamacpp")]
)
def test_an_arm_whose_package_is_missing_says_the_line_that_installs_it(
    arm: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others need nothing more."""
    monkeypatch.setattr(agents_arms, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"is missing; run: pip install") as caught:
        agents_arms.require(arm)
    assert line in str(caught.value)
    agents_arms.require("shared")


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    by_s = time.monotonic() + seconds
    while not condition() and time.monotonic() < by_s:
        time.sleep(0.1)
    return bool(condition())


def leaves_nothing(tmp_path: Path, options: tuple[str, ...], running: str, number: int) -> None:
    """Start, wait until a process of that name runs, end the driver, and look."""
    mark = uuid.uuid4().hex
    # A shell's background job ignores SIGINT, and so would what it starts.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command(tmp_path, *options), cwd=ROOT, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL
        )
    finally:
        signal.signal(signal.SIGINT, ignored)
    try:
        is_up = wait_until(lambda: any(running in " ".join(one.cmdline()) for one in marked(MARK, mark)), 90)
        assert is_up, f"no {running}"
        time.sleep(1.0)
    finally:
        process.send_signal(number)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    assert wait_until(lambda: not marked(MARK, mark), 20), marked(MARK, mark)
    assert wait_until(lambda: not list(Path("/dev/shm").glob(f"assay-budget-{process.pid}-*")), 5)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)])
def test_a_driver_that_ends_in_the_middle_leaves_nothing(number: int, tmp_path: Path) -> None:
    """No server, no budget, whether it was killed or interrupted while its agents act."""
    options = (*COUNTING[:-1], "60", "--agents", "2", "-k", "test_agents[shared-2]")
    leaves_nothing(tmp_path, options, "harness.sessions serve", number)


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_while_rays_agents_act_leaves_nothing(number: int, tmp_path: Path) -> None:
    """No raylet, no worker, no budget."""
    pytest.importorskip("ray")
    leaves_nothing(tmp_path, ("--sleep-s", "60", "--agents", "2", "-k", "ray-keepalive"), "KeptAgent", number)
