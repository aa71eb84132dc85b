"""However a node's run ends, pytest ends in good order, and what had finished can be gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench import node

ROOT = Path(__file__).parents[1]
RUN = "import sys; from bench.node import _run; sys.exit(_run([sys.executable, '-c', *sys.argv[1:]]))"
CHILD = """
import pathlib, sys, time
here = pathlib.Path(sys.argv[1])
try:
    (here / "began").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)    # judging what it has
    (here / "judged").touch()
    sys.exit(2)
"""


def until(happens: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 300
    while not happens():
        assert time.monotonic() < ends_s, "it never did"
        time.sleep(0.02)


def started(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, CHILD, str(folder)]
    run = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    until(lambda: (folder / "began").exists())
    return run


def test_ctrl_c_waits_for_pytest(tmp_path: Path) -> None:
    """It reaches both, as a terminal sends it; the status is pytest's."""
    run = started(tmp_path)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) == 2
    assert (tmp_path / "judged").exists()


def test_being_told_to_end_is_passed_on(tmp_path: Path) -> None:
    """As a batch system does it, to the first process alone."""
    run = started(tmp_path)
    run.terminate()
    assert run.wait(60) == 2
    assert (tmp_path / "judged").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: prctl")
def test_a_kill_leaves_no_pytest_behind(tmp_path: Path) -> None:
    """It ends as after Ctrl-C, in its own time, and does not go on measuring unseen."""
    run = started(tmp_path)
    run.kill()
    run.wait(60)
    until(lambda: (tmp_path / "judged").exists())


def test_a_run_that_would_not_begin_leaves_the_last_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where code or weights differ from those of the run that is to be gone on with."""
    run = tmp_path / "20260101-000000"
    run.mkdir()
    (run / "run.json").write_text("{}")
    monkeypatch.setattr(node, "_run", lambda command: node.REFUSED)
    asked = ["--tiny", "--no-measure", "--results-dir", str(tmp_path), "--resume"]
    assert node.main(asked) == node.REFUSED
    assert not (run / "hardware.json").exists()
    monkeypatch.setattr(node, "_run", lambda command: -signal.SIGKILL)
    assert node.main(asked) == 137
    assert (run / "hardware.json").exists()
    told = capsys.readouterr().err
    assert told.startswith("bench.node: pytest was ended by SIGKILL; what had finished is kept. Go on with: ")
    assert told.count("--resume") == 1


@pytest.mark.nightly
@pytest.mark.parametrize("end", ["Ctrl-C", "SIGKILL of pytest", "SIGKILL of all"])
def test_a_run_that_was_ended_half_way_is_gone_on_with(end: str, tmp_path: Path) -> None:
    """One folder, whose journal then holds every variant once, with the hardware beside it."""
    claims = [
        f"--claim=plans-{name}" for name in ("exact-fits", "greedy-fits", "order-free-fits", "lp-violates")
    ]
    select = ["-m", "routing", *claims]
    options = ["--tiny", "--no-measure", "--results-dir", str(tmp_path), "-p", "no:cacheprovider", *select]
    command = [sys.executable, "-m", "bench.node", *options]
    log = tmp_path / "log"
    with log.open("w") as out:
        run = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
        try:
            until(lambda: bool([*tmp_path.glob("*/journal.jsonl")]))
            if end == "Ctrl-C":
                os.killpg(run.pid, signal.SIGINT)
            elif end == "SIGKILL of all":
                os.killpg(run.pid, signal.SIGKILL)
            else:
                children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
                os.kill(int(children[0]), signal.SIGKILL)
            status = run.wait(300)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    [folder] = [path.parent for path in tmp_path.glob("*/journal.jsonl")]
    some = (folder / "journal.jsonl").read_text().splitlines()
    assert 1 <= len(some) < 4, log.read_text()
    assert status == {"Ctrl-C": 2, "SIGKILL of pytest": 137, "SIGKILL of all": -9}[end]
    if end != "SIGKILL of all":
        last = log.read_text().splitlines()[-1]
        assert last.startswith("bench.node: pytest was "), last
        assert last.endswith("--resume")
    whole = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stdout[-3000:]
    assert whole.stdout.splitlines()[-1] == f"results: {folder}"
    assert len((folder / "journal.jsonl").read_text().splitlines()) == 4
    assert (folder / "hardware.json").exists()
