"""However a node's run ends, pytest ends in good order, and what had finished can be gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("torch")

from bench import node
from bench.interrupts import AGAIN, Ended

ROOT = Path(__file__).parents[1]
RUN = """
import sys
from bench.interrupts import run_to_end
from pathlib import Path
sys.exit(run_to_end([sys.executable, "-c", *sys.argv[1:]], Path.cwd()).status)
"""
CHILD = """
import os, pathlib, sys, time
here = pathlib.Path(sys.argv[1])
try:
    (here / "began").write_text(str(os.getpid()))
    os.replace(here / "began", here / "pid")
    time.sleep(120)
except KeyboardInterrupt:
    (here / "judging").touch()
    while not (here / "go").exists():
        time.sleep(0.02)
    (here / "judged").touch()
    sys.exit(2)
"""
HASTY = """
import os, signal, subprocess, sys
from pathlib import Path
from bench import interrupts

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        if sys.argv[1] == "before":
            os.kill(os.getpid(), signal.SIGTERM)
        super().__init__(*args, **options)
        print(self.pid, flush=True)
        if sys.argv[1] == "after":
            os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen = Popen
ended = interrupts.run_to_end([sys.executable, "-c", "import time; time.sleep(120)"], Path.cwd())
print(*ended)
"""
FORKED = """
import os
from bench.interrupts import _ends_with_parent
bind = _ends_with_parent()
os.write(1, b"begins ")
if os.fork() == 0:
    if os.fork() == 0:    # its parent is another than the one that asked for it
        bind()
        os.write(1, b"lives on")
        os._exit(0)
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]) != -2)
raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
GATE = """
import os, pathlib, time
import pytest

seen = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    seen.append(item)
    gate = pathlib.Path(os.environ["GATE"])
    while len(seen) > 1 and not gate.exists():
        time.sleep(0.02)
"""


def until(happens: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 300
    while not happens():
        assert time.monotonic() < ends_s, "it never did"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether it has ended; a zombie has, which nobody asked for."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


@contextlib.contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command, whose child has begun; both are gone afterwards."""
    command = [sys.executable, "-c", RUN, CHILD, str(folder)]
    with (folder / "log").open("w") as log:
        # The tests themselves may run under nohup, which the command would take over.
        former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        run = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=log)
        signal.signal(signal.SIGHUP, former)
    pid = folder / "pid"
    try:
        until(lambda: pid.exists() or run.poll() is not None)
        yield run
    finally:
        if run.poll() is None:
            run.kill()
            run.wait(60)
        if pid.exists() and not is_gone(int(pid.read_text())):
            os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("first", ["INT", "TERM", "HUP"])
def test_whatever_ends_it_interrupts_pytest_once(first: str, tmp_path: Path) -> None:
    """To the command alone, as `timeout` and tox send it, and again: the judging is not interrupted."""
    with started(tmp_path) as run:
        run.send_signal(signal.Signals[f"SIG{first}"])
        until(lambda: (tmp_path / "judging").exists())
        for again in [signal.SIGTERM, signal.SIGHUP] + [signal.SIGINT] * (1 if first == "INT" else 2):
            run.send_signal(again)
            time.sleep(0.1)  # or two of a kind are one
        until(lambda: AGAIN.decode() in (tmp_path / "log").read_text())
        (tmp_path / "go").touch()
        assert run.wait(60) == 2
    assert (tmp_path / "judged").exists()


def test_a_terminals_ctrl_c_reaches_pytest_once(tmp_path: Path) -> None:
    """It goes to the whole foreground group, in which pytest is not; the status is pytest's."""
    with started(tmp_path) as run:
        child = int((tmp_path / "pid").read_text())
        assert os.getpgid(child) == child
        os.killpg(run.pid, signal.SIGINT)
        (tmp_path / "go").touch()
        assert run.wait(60) == 2
    assert (tmp_path / "judged").exists()


def test_a_third_ctrl_c_kills(tmp_path: Path) -> None:
    """What does not end otherwise; nothing is left."""
    with started(tmp_path) as run:
        run.send_signal(signal.SIGINT)
        until(lambda: (tmp_path / "judging").exists())
        run.send_signal(signal.SIGINT)
        until(lambda: AGAIN.decode() in (tmp_path / "log").read_text())
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 256 - signal.SIGKILL
        assert is_gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_while_pytest_is_started_leaves_none(when: str) -> None:
    """It is told as soon as it is there."""
    ran = subprocess.run(
        [sys.executable, "-c", HASTY, when], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    pid, ended = ran.stdout.splitlines()
    assert ended.split()[1] == "True"
    assert is_gone(int(pid))


def test_a_debugger_stays_where_the_terminal_is() -> None:
    """Only the foreground group may read from it."""
    code = "import os, sys; sys.exit(os.getpgid(0) == os.getpid())"
    for option, has_group in (("--pdb", 0), ("--no-header", 1)):
        ran = [sys.executable, "-c", RUN, code, option]
        assert subprocess.run(ran, cwd=ROOT, timeout=100).returncode == has_group


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """Under nohup the run goes on."""
    code = "import signal, sys; sys.exit(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    ran = ["nohup", sys.executable, "-c", RUN, code]
    assert subprocess.run(ran, cwd=ROOT, timeout=100, stdout=subprocess.DEVNULL).returncode == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: prctl")
def test_a_parent_that_is_gone_before_it_is_asked_leaves_no_pytest() -> None:
    """The kernel tells of its end only who has asked before."""
    ran = subprocess.run([sys.executable, "-c", FORKED], cwd=ROOT, capture_output=True, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, b"begins "), ran.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: prctl")
def test_a_kill_leaves_no_pytest_behind(tmp_path: Path) -> None:
    """It ends as after Ctrl-C, in its own time, and does not go on measuring unseen."""
    with started(tmp_path) as run:
        run.kill()
        run.wait(60)
        (tmp_path / "go").touch()
        until(lambda: (tmp_path / "judged").exists())


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    """The newest one, of a command that ends as `ends` has it."""
    run = tmp_path / "20260101-000000"
    run.mkdir()
    (run / "run.json").write_text("{}")
    return run


def ends(monkeypatch: pytest.MonkeyPatch, status: int, *, is_interrupted: bool = False) -> None:
    monkeypatch.setattr(node, "run_to_end", lambda command, cwd: Ended(status, is_interrupted))


def asked(run: Path, *options: str) -> int:
    return node.main(["--tiny", "--results-dir", str(run.parent), *options, "--resume"])


def test_a_run_that_would_not_begin_leaves_the_last_one_alone(
    a_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where code or weights differ from those of the run that is to be gone on with."""
    ends(monkeypatch, node.REFUSED)
    assert asked(a_run, "--no-measure") == node.REFUSED
    assert not (a_run / "hardware.json").exists()
    ends(monkeypatch, -signal.SIGKILL)
    assert asked(a_run, "--no-measure") == 137
    assert (a_run / "hardware.json").exists()
    told = capsys.readouterr().err
    assert told.startswith("bench.node: pytest was ended by SIGKILL; what had finished is kept. Go on with: ")
    assert told.count("--resume") == 1


@pytest.mark.parametrize(
    ("ended", "status", "how"),
    [
        (Ended(2, True), 2, "was interrupted"),
        (Ended(2, False), 2, "ended with status 2, see above"),
        (Ended(-40, False), 168, "was ended by signal 40"),
    ],
)
def test_how_pytest_ended_is_told(
    ended: Ended,
    status: int,
    how: str,
    a_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file that cannot be imported has the status of an interrupt; some signals have no name."""
    ends(monkeypatch, ended.status, is_interrupted=ended.is_interrupted)
    assert asked(a_run) == status
    assert capsys.readouterr().err.startswith(f"bench.node: pytest {how}; what had finished is kept. Go on")


def test_ctrl_c_during_the_ceilings_leaves_them_out(
    a_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the machine has is written all the same, and another Ctrl-C waits for it."""
    made = node.whole

    def interrupted(*, weights: Path | None, folder: Path, measure: bool) -> dict[str, object]:
        signal.raise_signal(signal.SIGINT)
        return made(weights=weights, folder=folder, measure=measure)

    monkeypatch.setattr(node, "whole", interrupted)
    ends(monkeypatch, 0)
    assert asked(a_run) == 0
    assert json.loads((a_run / "hardware.json").read_text())["ceilings"] == []
    assert capsys.readouterr().err == "bench.node: interrupted; hardware.json is without ceilings\n"


def test_hardware_that_cannot_be_written_is_told_in_a_line(
    a_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run itself is kept, and the status says that it is not all there."""
    (a_run / "hardware.json").mkdir()
    ends(monkeypatch, 0)
    assert asked(a_run, "--no-measure") == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("bench.node: [Errno 21] Is a directory: ")
    assert told.endswith("; the rest of the run is kept")


@pytest.mark.nightly
@pytest.mark.parametrize("end", ["Ctrl-C", "SIGKILL of pytest", "SIGKILL of all"])
def test_a_run_that_was_ended_half_way_is_gone_on_with(end: str, tmp_path: Path) -> None:
    """One folder, whose journal then holds every variant once, with the hardware beside it."""
    claims = [
        f"--claim=plans-{name}" for name in ("exact-fits", "greedy-fits", "order-free-fits", "lp-violates")
    ]
    select = ["-m", "routing", *claims]
    options = ["--tiny", "--no-measure", "--results-dir", str(tmp_path), "-p", "no:cacheprovider", *select]
    command = [sys.executable, "-m", "bench.node", *options, "-p", "gate"]
    (tmp_path / "gate.py").write_text(GATE)
    gate, log = tmp_path / "gate", tmp_path / "log"
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "GATE": str(gate)}
    with log.open("w") as out:
        run = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)
    child: list[int] = []
    try:
        until(lambda: run.poll() is not None or bool(finished(tmp_path)))
        assert run.poll() is None, log.read_text()
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        child.append(int(children[0]))
        if end == "Ctrl-C":
            os.killpg(run.pid, signal.SIGINT)
        elif end == "SIGKILL of all":
            os.killpg(run.pid, signal.SIGKILL)
            os.killpg(child[0], signal.SIGKILL)
        else:
            os.kill(child[0], signal.SIGKILL)
        status = run.wait(300)
        until(lambda: is_gone(child[0]))
    finally:
        if run.poll() is None:
            run.kill()
        if child and not is_gone(child[0]):
            os.kill(child[0], signal.SIGKILL)
    [folder] = [path.parent for path in tmp_path.glob("*/journal.jsonl")]
    assert len(finished(tmp_path)) == 1, log.read_text()
    assert status == {"Ctrl-C": 2, "SIGKILL of pytest": 137, "SIGKILL of all": -9}[end]
    if end != "SIGKILL of all":
        last = log.read_text().splitlines()[-1]
        assert last.startswith("bench.node: pytest was "), last
        assert last.endswith("--resume")
    gate.touch()
    whole = subprocess.run(
        [*command, "--resume"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=500
    )
    assert whole.returncode == 0, whole.stdout[-3000:]
    assert whole.stdout.splitlines()[-1] == f"results: {folder}"
    assert len(finished(tmp_path)) == 4
    assert (folder / "hardware.json").exists()


def finished(results: Path) -> list[str]:
    """Whole lines of the only journal."""
    return [
        line
        for path in results.glob("*/journal.jsonl")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
