"""Stops process groups when this process is gone, whatever ended it.

A child holds the read end of a pipe whose write end only this process has. Lines on the pipe add and remove
process groups; its end, which the kernel brings about even on SIGKILL, is the order to stop all that are
left. The child lives in a session of its own and ignores interrupts, so that a Ctrl-C in the terminal does
not end it before its work is done. A fork of this process keeps the write end open, so the child also looks
whether its parent has changed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

__all__ = ["Watchdog", "the_watchdog"]

_GRACE_S = 3.0
_LOOK_S = 0.5


class Watchdog:
    """The child and the pipe to it."""

    def __init__(self) -> None:
        """Start the child."""
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__)), str(self._owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def is_alive(self) -> bool:
        """Whether the child runs, and belongs to this process and not to one it was forked from."""
        return self._owner == os.getpid() and self._child.poll() is None

    def guard(self, group: int) -> None:
        """Have this process group stopped when this process is gone."""
        self._tell(f"+{group}")

    def release(self, group: int) -> None:
        """Forget a process group, which has ended."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """Stop what is still guarded, and the child; return when both are gone."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None
        with self._lock:
            self._child.stdin.write(f"{line}\n".encode())
            self._child.stdin.flush()


_watchdog: Watchdog | None = None
_starting = threading.Lock()


def the_watchdog() -> Watchdog:
    """The watchdog of this process, started at the first call."""
    global _watchdog
    with _starting:
        if _watchdog is None or not _watchdog.is_alive:
            _watchdog = Watchdog()
        return _watchdog


def _watch(owner: int) -> None:
    """The child's whole life: follow the pipe to its end, then stop what is left."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    groups: set[int] = set()
    rest = b""
    while os.getppid() == owner:
        if not select.select([0], [], [], _LOOK_S)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    _stop(groups)


def _stop(groups: set[int]) -> None:
    ends_s = time.monotonic() + _GRACE_S
    for group in groups:
        _signal(group, signal.SIGTERM)
    while time.monotonic() < ends_s and any(_signal(group, 0) for group in groups):
        time.sleep(0.02)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _signal(group: int, sign: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, sign)
        return True
    return False


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
