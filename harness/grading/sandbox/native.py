"""Run a compiled program once per argument, each time in namespaces and limits of its own.

    python -c BOOTSTRAP FOLDER ISOLATE PROGRAM LIMITS NUM      prints one JSON object

A program gets its place, 0 to NUM - 1, as its only argument. It is opened before the file system is taken
away, and run by its descriptor. What it prints goes to a file without a name, bounded like every file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from typing import Any, NoReturn

from harness.grading.sandbox import confine

__all__ = ["main"]

_MAX_OUTPUT = 64 * 2**10
_POLL_S = 0.002
_NOT_RUN = 127


def main() -> NoReturn:
    """Run every place of the program, and say what each printed and how it ended."""
    confine.die_with_parent()  # a suite that is killed leaves nothing behind
    isolate, program, limits, num = sys.argv[2] == "1", sys.argv[3], json.loads(sys.argv[4]), int(sys.argv[5])
    runs = [_in_a_process(isolate, program, limits, place) for place in range(num)]
    print(json.dumps({"missing": runs[0]["missing"] if runs else [], "runs": runs}))
    sys.exit(0)


def _in_a_process(isolate: bool, program: str, limits: dict[str, Any], place: int) -> dict[str, Any]:
    """Fork, since namespaces are left by nobody who entered them."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        confine.die_with_parent()
        try:
            said = json.dumps(_run(isolate, program, limits, place))
        except BaseException as exc:  # whatever it was, the suite is to hear of it
            said = json.dumps({"broken": f"{type(exc).__name__}: {exc}"})
        with os.fdopen(write, "w") as pipe:
            pipe.write(said)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    found: dict[str, Any] = json.loads(said or '{"broken": "its supervisor died"}')
    return found


def _run(isolate: bool, program: str, limits: dict[str, Any], place: int) -> dict[str, Any]:
    code = os.open(program, os.O_RDONLY)
    os.set_inheritable(code, True)
    with tempfile.TemporaryFile() as printed:
        missing = confine.unshare_all() if isolate else ["namespaces: not asked for"]
        to_nobody = confine.can_change_user()
        failed, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(failed)
            _become(code, printed.fileno(), tell, isolate and not missing, to_nobody, limits, place)
        os.close(tell)
        with os.fdopen(failed) as pipe:
            trouble = pipe.read()
        ended = _wait(pid, limits["wall_s"])
        printed.seek(0)
        output = printed.read(_MAX_OUTPUT).decode("utf-8", "replace")
    if trouble.startswith("broken "):
        return {"broken": trouble.removeprefix("broken ")}
    missing += trouble.splitlines()
    return {"missing": missing, "output": output, "ended": ended}


def _become(
    code: int, printed: int, tell: int, has_root: bool, to_nobody: bool, limits: dict[str, Any], place: int
) -> NoReturn:
    """Give everything up and become the program; `tell` is closed by that, and carries what went wrong."""
    os.set_inheritable(tell, False)
    try:
        lacks = confine.build_root() if has_root else []
        os.write(tell, "\n".join(lacks).encode())
        null = os.open("/scratch", os.O_RDONLY) if has_root and not lacks else os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(printed, 1)
        os.dup2(null, 2)
        confine.harden()
        confine.limit(limits["cpu_s"], limits["memory_bytes"], limits["file_bytes"], limits["processes"])
        confine.drop(to_nobody)
        os.execve(code, ["candidate", str(place)], {})
    except BaseException as exc:
        os.write(tell, f"broken {type(exc).__name__}: {exc}".encode())
    finally:
        os._exit(_NOT_RUN)


def _wait(pid: int, wall_s: float) -> str:
    """Wait for the program, and end it when its time is over; its namespace ends with it."""
    deadline = time.monotonic() + wall_s
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        time.sleep(_POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return f"no end within {wall_s:g} s"
