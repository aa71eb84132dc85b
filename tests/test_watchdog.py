"""The watchdog itself: killed, ended, and waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.launchers import ProcessLauncher, canned
from harness.launchers.watchdog import Watchdog, the_watchdog

ROOT = Path(__file__).parents[1]
CANNED = (sys.executable, canned.__file__, "--port", "{port}")


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true in that time."""
    ends_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.02)
    return True


def kill(watchdog: Watchdog) -> None:
    """End the child as the kernel's out-of-memory killer would."""
    os.kill(watchdog.pid, signal.SIGKILL)
    assert within(5, lambda: not watchdog.is_alive)


class TestKilledWatchdog:
    """What is lost when the watchdog is killed: nothing."""

    def test_a_server_still_stops_and_takes_its_log_along(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopping a server needs no watchdog."""
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        server = ProcessLauncher(command=CANNED).launch()
        assert len(list(tmp_path.iterdir())) == 1
        kill(the_watchdog())
        server.stop()
        assert list(tmp_path.iterdir()) == []

    def test_the_next_one_guards_what_it_guarded(self, tmp_path: Path) -> None:
        """A new child is told everything that the killed one knew."""
        kept, gone, late = (tmp_path / name for name in ("kept", "gone", "late"))
        watchdog = Watchdog()
        for path in (kept, gone, late):
            path.touch()
        for path in (kept, gone):
            watchdog.guard("file", path)
        kill(watchdog)
        watchdog.guard("file", late)
        watchdog.release("file", kept)
        watchdog.close()
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]

    def test_a_suite_killed_after_its_watchdog_leaves_nothing(self, tmp_path: Path) -> None:
        """Both killed, one after the other: the watchdog that came between ends all groups."""
        suite = (
            "import os, signal, subprocess, time\n"
            "from harness.launchers.watchdog import the_watchdog\n"
            "groups = [subprocess.Popen(['sleep', '100'], start_new_session=True).pid for _ in range(2)]\n"
            "print(*groups, flush=True)\n"
            "the_watchdog().guard('group', groups[0])\n"
            "os.kill(the_watchdog().pid, signal.SIGKILL)\n"
            "while the_watchdog().is_alive: time.sleep(0.01)\n"
            "the_watchdog().guard('group', groups[1])\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        groups = done.stdout.split()
        assert len(groups) == 2
        assert within(10, lambda: not any(map(is_running, map(int, groups))))


class TestEnds:
    """What is seen of the watchdog when the suite ends: nothing."""

    def test_the_end_of_a_suite_is_silent(self) -> None:
        """No warning of a child that still runs, or of its pipe, and the child ends."""
        suite = (
            "import sys\n"
            "from harness.launchers import ProcessLauncher, canned\n"
            "from harness.launchers.watchdog import the_watchdog\n"
            "command = (sys.executable, canned.__file__, '--port', '{port}')\n"
            "with ProcessLauncher(command=command).launch():\n"
            "    print(the_watchdog().pid)\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "always::ResourceWarning", "-c", suite],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stderr, done.returncode) == ("", 0)
        assert within(5, lambda: not is_running(int(done.stdout)))

    def test_what_a_suite_forgot_is_ended_after_it(self) -> None:
        """A group still under guard at a regular end is ended too."""
        suite = (
            "import subprocess\n"
            "from harness.launchers.watchdog import the_watchdog\n"
            "group = subprocess.Popen(['sleep', '100'], start_new_session=True).pid\n"
            "the_watchdog().guard('group', group)\n"
            "print(group)\n"
        )
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        assert within(10, lambda: not is_running(int(done.stdout)))

    def test_a_fork_ends_nothing_of_its_parents(self) -> None:
        """A fork that ends, or releases, leaves the parent's guard as it was."""
        suite = (
            "import os, subprocess, sys, time\n"
            "from harness.launchers.watchdog import the_watchdog\n"
            "process = subprocess.Popen(['sleep', '100'], start_new_session=True)\n"
            "watchdog = the_watchdog()\n"
            "watchdog.guard('group', process.pid)\n"
            "if (fork := os.fork()) == 0:\n"
            "    watchdog.release('group', process.pid)\n"
            "    sys.exit()\n"
            "os.waitpid(fork, 0)\n"
            "time.sleep(0.3)\n"
            "print(process.poll(), watchdog.is_alive)\n"
            "watchdog.close()\n"
            "print(process.wait(5))\n"
        )
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        assert done.stdout.decode().splitlines() == ["None True", str(-signal.SIGTERM)]

    def test_a_log_is_under_guard_before_it_is_there(self, tmp_path: Path) -> None:
        """A suite killed between naming its log and guarding it leaves no file."""
        suite = (
            "import os, signal, tempfile\n"
            "from harness.launchers import process\n"
            f"tempfile.tempdir = {str(tmp_path)!r}\n"
            "class Killer:\n"
            "    def guard(self, *ward):\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "process.the_watchdog = Killer\n"
            "process.ProcessLauncher(command=('true',)).launch()\n"
        )
        done = subprocess.run([sys.executable, "-c", suite], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        assert list(tmp_path.iterdir()) == []


def is_running(pid: int) -> bool:
    """Whether the process runs; one that has ended and is not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
