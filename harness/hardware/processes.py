"""Which process is meant, and whether it is still alive.

A number alone does not name a process: the kernel gives it out again. On Linux the time at which the process
started goes with it (field 22 of `/proc/<pid>/stat`, in clock ticks since boot; proc_pid_stat(5)).

Traps: a killed child stays listed as a zombie until its parent asks for it, though its memory is gone, so a
zombie counts as dead. Where there is no `/proc` (macOS) only `kill(pid, 0)` is left: there a zombie, and a
new process under the old number, count as alive. Numbers are those of one pid namespace.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Process", "find_process", "is_alive", "this_process"]

PROC = "/proc"


class Process(NamedTuple):
    """One process, and no later one of the same number."""

    pid: int
    started_ticks: int | None
    """Clock ticks from boot to its start; None where the system does not say."""


class _Stat(NamedTuple):
    state: bytes
    started_ticks: int


def this_process() -> Process:
    """The calling process; asked of the system each time, since a fork changes it."""
    return find_process(os.getpid())


def find_process(pid: int) -> Process:
    """The process that has this number now."""
    stat = _stat(pid)
    return Process(pid, None if stat is None else stat.started_ticks)


def is_alive(process: Process) -> bool:
    """Whether it still runs; in doubt it does."""
    stat = _stat(process.pid)
    if stat is not None:
        is_same = process.started_ticks in (None, stat.started_ticks)
        return is_same and stat.state not in (b"Z", b"X")
    # Not listed: it is dead, there is no /proc, or /proc hides what others run. The kernel knows which.
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"{PROC}/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return None
    # The name of the program, in brackets, may itself hold spaces and brackets.
    fields = text.rpartition(b")")[2].split()
    return _Stat(fields[0], int(fields[19]))
