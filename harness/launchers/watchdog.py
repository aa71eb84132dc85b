"""Stops servers and removes containers when this process is gone, whatever ended it.

A child holds the read end of a pipe whose write end only this process has. Lines on the pipe add and remove
what is guarded; its end, which the kernel brings about even on SIGKILL, is the order to end all that is left:
first process groups, then containers, then the service that was asked to remove them, last files. The child
lives in a session of its own and ignores interrupts, so that a Ctrl-C in the terminal does not end it before
its work is done. A fork of this process keeps the write end open, so the child also looks whether its parent
has changed. It is run as a file, with the standard library alone. What is guarded is known here too: should
the child be killed, a new one is told all of it at the next word.

A container is guarded by a name that is chosen before it is asked for, and its creation may still be in
flight when this process dies: "no such container" is asked again until that cannot be so any more.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TypeAlias

__all__ = ["Watchdog", "remove_container", "the_watchdog"]

_GRACE_S = 3.0
_LOOK_S = 0.5
_IN_FLIGHT_S = 10.0
_SETTLED_S = 2.0
"""A container that was removed has to stay away for so long."""
_LIMIT_S = 30.0
"""Nothing is tried for longer."""
_REQUEST_S = 20.0
_GONE = ("200", "204")

_Guarded: TypeAlias = dict[str, set[str]]


class Watchdog:
    """The child and the pipe to it."""

    def __init__(self) -> None:
        """Start the child."""
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._wards: dict[str, None] = {}
        self._child = _child(self._owner)

    @property
    def is_ours(self) -> bool:
        """Whether it belongs to this process and not to one it was forked from."""
        return self._owner == os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether the child runs, and belongs to this process."""
        return self.is_ours and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def guard(self, kind: str, *what: object) -> None:
        """Have something ended when this process is gone.

        Parameters
        ----------
        kind: `group` (of processes, by id), `container` (name, socket of its engine), `service` (a group that
            removes the containers, and so outlives them), `file` (or folder, by path).
        """
        ward = f"{kind} {' '.join(map(str, what))}"
        with self._lock:
            self._wards[ward] = None
            self._tell(f"+{ward}")

    def release(self, kind: str, *what: object) -> None:
        """Forget what has ended; that never fails, whatever became of the child."""
        ward = f"{kind} {' '.join(map(str, what))}"
        with self._lock, contextlib.suppress(OSError):
            self._wards.pop(ward, None)
            self._tell(f"-{ward}")

    def close(self) -> None:
        """End what is still guarded, and the child; return when all are gone."""
        self._hang_up()
        self._child.wait()

    def leave(self) -> None:
        """As `close`, at the end of this process, which the child is meant to outlive: do not wait for it."""
        self._hang_up()
        # What Popen looks at before it warns that a child is still running.
        self._child.returncode = 0

    def _hang_up(self) -> None:
        self._wards.clear()
        assert self._child.stdin is not None
        self._child.stdin.close()

    def _tell(self, line: str) -> None:
        # A fork has no say in what its parent guards.
        if not self.is_ours or (self._child.poll() is None and self._is_said(line)):
            return
        if self._wards:
            assert self._child.stdin is not None
            self._child.stdin.close()
            self._child.wait()
            self._child = _child(self._owner)
            for ward in self._wards:
                self._is_said(f"+{ward}")

    def _is_said(self, line: str) -> bool:
        """Whether there was somebody to say it to."""
        assert self._child.stdin is not None
        # Its death shows as a broken pipe, our own end as a closed one.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.stdin.write(f"{line}\n".encode())
            return True
        return False


def _child(owner: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__)), str(owner)],
        # A line that cannot be delivered must not be kept for later.
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


_watchdog: Watchdog | None = None
_starting = threading.Lock()


def the_watchdog() -> Watchdog:
    """The watchdog of this process, started at the first call."""
    global _watchdog
    with _starting:
        if _watchdog is None or not _watchdog.is_ours:
            _watchdog = Watchdog()
            atexit.register(_watchdog.leave)
        return _watchdog


def remove_container(name: str, engine_socket: str) -> bool:
    """Kill and remove a container with its anonymous volumes; false when its engine knows none of that name.

    Raises
    ------
    OSError: the engine did not answer, or could not do it; the message is its own.
    """
    # Plain HTTP/1.0 by hand: the child starts in a third of the time that http.client takes to import.
    request = f"DELETE /containers/{name}?force=1&v=1 HTTP/1.0\r\nHost: localhost\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_REQUEST_S)
        connection.connect(engine_socket)
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
    status = answer.partition(" ")[2][:3]
    if status not in (*_GONE, "404"):
        raise OSError(f"{engine_socket}: {answer.rpartition(chr(10))[2] or 'it hung up'}")
    return status in _GONE


def _watch(owner: int) -> None:
    """The child's whole life: follow the pipe to its end, then end what is left."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    guarded: _Guarded = {"group": set(), "container": set(), "service": set(), "file": set()}
    rest = b""
    while True:
        # What was said before the parent died is heard, even if it died before this loop began.
        if not select.select([0], [], [], _LOOK_S if os.getppid() == owner else 0)[0]:
            if os.getppid() != owner:
                break
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            kind, _, what = line[1:].decode().partition(" ")
            (guarded[kind].add if line[:1] == b"+" else guarded[kind].discard)(what)
    _end(guarded)


def _end(guarded: _Guarded) -> None:
    _stop({int(group) for group in guarded["group"]})
    _remove(guarded["container"])
    _stop({int(group) for group in guarded["service"]})
    for path in guarded["file"]:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(path)


def _stop(groups: set[int]) -> None:
    ends_s = time.monotonic() + _GRACE_S
    for group in groups:
        _signal(group, signal.SIGTERM)
    while time.monotonic() < ends_s and any(_signal(group, 0) for group in groups):
        time.sleep(0.02)
    for group in groups:
        _signal(group, signal.SIGKILL)


def _remove(containers: set[str]) -> None:
    """Remove each, and look again: one that was still being created comes back after its removal."""
    began_s = time.monotonic()
    seen_s = dict.fromkeys(containers, began_s + _IN_FLIGHT_S - _SETTLED_S)
    while containers:
        for container in containers:
            if _is_removed(container):
                seen_s[container] = time.monotonic()
        now_s = time.monotonic()
        containers = {c for c in containers if now_s < seen_s[c] + _SETTLED_S and now_s < began_s + _LIMIT_S}
        time.sleep(0.1)


def _is_removed(container: str) -> bool:
    with contextlib.suppress(OSError):
        return remove_container(*container.split(" ", 1))
    return False


def _signal(group: int, sign: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, sign)
        return True
    return False


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
