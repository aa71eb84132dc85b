"""A run of decoding that is killed leaves no server, no budget, no socket and no log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytest.importorskip("msgspec")

from harness.hardware.budget import memory_folder

ROOT = Path(__file__).parents[1]
MARK = "ASSAY_DECODE_KILL_TEST"
STAND = """
import os, signal, sys
from fixtures.decode import DecodeStand
from fixtures.decode_variants import Chosen
stand = DecodeStand(Chosen(model_id="counting"), needs_blind=False)
{work}
os.kill(os.getpid(), signal.SIGKILL)
"""
WORK = {
    "while the server starts": "",
    "while a session is open": "stand.connect(False).open(100)",
    "beside a server that was killed": (
        "from fixtures.decode import server_pid\n"
        "client = stand.connect(False)\n"
        "client.open(100)\n"
        "os.kill(server_pid(client), signal.SIGKILL)\n"
    ),
    "in a change of its budget": (
        "from harness.hardware import ledger_file\n"
        "stand.connect(False)\n"
        "ledger_file.os.replace = lambda old, new: os.kill(os.getpid(), signal.SIGKILL)\n"
        "stand.budget(False, is_remote=True).allocate(10, owner='me')\n"
    ),
}
SHORT = ("while the server starts", "in a change of its budget")
LONG = ("while a session is open", "beside a server that was killed")
KILLS = 5


def left_behind(mark: str, temporary: Path) -> list[str]:
    """Processes of a run, and files of any of them."""
    # What torch compiles it keeps for the next run, however this one ends.
    found = [str(path) for path in temporary.iterdir() if not path.name.startswith("torchinductor")]
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def ledgers(pid: int) -> list[Path]:
    return list(memory_folder().glob(f"assay-*-{pid}-*"))


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.05)
    return True


def start(tmp_path: Path, *command: str) -> tuple[subprocess.Popen[str], str]:
    """A process, its children marked, whose temporary files are in a folder of their own."""
    mark, temporary = str(tmp_path), tmp_path / "t"
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, MARK: mark, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    log = (tmp_path / "log").open("w")
    with log:
        return subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=env, stdout=log, stderr=log, text=True
        ), mark


@pytest.mark.parametrize("moment", SHORT)
def test_a_killed_stand_leaves_nothing(moment: str, tmp_path: Path) -> None:
    """Whatever it was about when it was killed."""
    kill_stand(moment, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("moment", LONG)
def test_a_stand_killed_later_leaves_nothing(moment: str, tmp_path: Path) -> None:
    """The same at other moments."""
    kill_stand(moment, tmp_path)


def kill_stand(moment: str, tmp_path: Path) -> None:
    """Start one that kills itself, and look for what it left."""
    process, mark = start(tmp_path, "-c", STAND.format(work=WORK[moment]))
    assert process.wait(120) == -signal.SIGKILL, (tmp_path / "log").read_text()
    leaves_nothing(process.pid, mark, tmp_path)


def leaves_nothing(pid: int, mark: str, tmp_path: Path) -> None:
    assert within(60, lambda: not left_behind(mark, tmp_path / "t")), left_behind(mark, tmp_path / "t")
    assert within(60, lambda: not ledgers(pid)), ledgers(pid)


@pytest.mark.nightly
def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    """The whole of pytest on bench/test_decode.py, at random moments."""
    draws = random.Random(5)
    for _ in range(KILLS):
        results = tmp_path / "results"
        process, mark = start(
            tmp_path, "-m", "pytest", "bench/test_decode.py", "-k", "full or blind", "--claims=off",
            "--results-dir", str(results), "-p", "no:cacheprovider", "-q",
        )  # fmt: skip
        try:
            time.sleep(draws.uniform(3, 30))
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
        finally:
            process.kill()
            process.wait()
        leaves_nothing(process.pid, mark, tmp_path)
