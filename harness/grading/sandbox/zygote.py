"""The supervisor and the zygote: a warm interpreter that forks one confined child per candidate.

The supervisor stands outside the namespaces and waits for one of two things: that the suite closes the
pipe (on purpose, or because it was killed), or that the zygote ends. Then it kills what is left. The zygote
is process 1 of the pid namespace: candidates cannot kill it, and it can kill all of them at once.

Requests and answers are JSON behind a four-byte length, on standard input and output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import secrets
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from typing import Any, NoReturn

from harness.grading.sandbox import candidate, confine

__all__ = ["main"]

_HEADER = struct.Struct(">I")
_POLL_S = 0.05
_PRELOADED = (  # noqa: SIM905 - a list of sixty literals would hide what is in it
    "abc array ast base64 bisect calendar cmath collections contextlib copy csv dataclasses datetime "
    "decimal email.utils encodings.idna enum fractions functools hashlib heapq hmac html html.parser "
    "inspect io ipaddress itertools json keyword locale math numbers operator os.path pathlib posixpath "
    "pprint queue random re secrets statistics string struct textwrap threading time timeit traceback "
    "types typing unicodedata urllib.parse urllib.request uuid warnings weakref zoneinfo "
).split()
"""Modules that candidates import often: loaded once, shared by all forks."""


def main() -> NoReturn:
    """Run the supervisor; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    missing = confine.unshare_all() if sys.argv[2] == "1" else ["namespaces: not asked for"]
    to_nobody = confine.can_change_user()
    if os.geteuid() == 0 and not to_nobody:
        missing.append("unprivileged user: this root may not become another")
    workdir = os.path.join(tempfile.gettempdir(), f"assay-{secrets.token_hex(8)}")
    confine.subreaper()
    alive, keep = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(alive)
        confine.die_with_parent()
        _Zygote(missing, to_nobody, workdir).serve()
    os.close(keep)
    os.close(1)
    poll = select.poll()
    poll.register(0, 0)  # nothing is read here: only the hang-up is reported
    poll.register(alive, 0)
    poll.poll()
    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
    os.waitpid(pid, 0)
    _kill_descendants()
    shutil.rmtree(workdir, ignore_errors=True)
    os._exit(0)


class _Zygote:
    """Serves requests until the pipe closes."""

    def __init__(self, missing: list[str], to_nobody: bool, workdir: str) -> None:
        self._workdir, self._to_nobody = workdir, to_nobody
        self._null = os.open(os.devnull, os.O_RDWR)
        os.umask(0o022)  # candidates have to enter the folders made here
        for name in _PRELOADED:
            importlib.import_module(name)
        sys.path[:] = [path for path in sys.path if path != sys.argv[1]]
        self._is_init = os.getpid() == 1
        if not self._is_init:
            confine.subreaper()
        if not missing:
            missing += confine.build_root()
        self._has_root = not missing
        if missing:
            os.mkdir(workdir, 0o700)
            os.chdir(workdir)
            if to_nobody:
                os.chown(workdir, confine.NOBODY, confine.NOBODY)
        confine.harden()
        self._missing = missing

    def serve(self) -> NoReturn:
        """Announce what is missing, then answer one request after the other."""
        _send({"missing": self._missing})
        gc.collect()
        gc.freeze()
        while (request := _receive()) is not None:
            try:
                answer = self._run(request)
                self._tidy()
            except OSError as exc:
                answer = {"broken": f"{exc.strerror} ({exc.filename or 'fork'})"}
            _send(answer)
        os._exit(0)

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_candidate(writer, request)
        os.close(writer)
        try:
            report, ended = _collect(reader, pid, request)
        finally:
            os.close(reader)
            status = self._kill(pid)
        return {
            "report": report.decode("utf-8", "replace"),
            "ended": ended or _ending(status, request["cpu_s"]),
        }

    def _become_candidate(self, writer: int, request: dict[str, Any]) -> NoReturn:
        try:
            os.setsid()
            output = _scratch_file()
            os.dup2(self._null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.dup2(writer, 3)  # last: any of the others may have been number 3
            os.closerange(4, 256)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            confine.drop(self._to_nobody)
            limits = ("cpu_s", "memory_bytes", "file_bytes", "processes")
            confine.limit(*(request[name] for name in limits))
            candidate.run(3, request["nonce"], request["source"], request["tests"])
        finally:
            os._exit(0)

    def _kill(self, pid: int) -> int:
        """End the candidate and all that it started; return its wait status."""
        if self._is_init:
            return _kill_all_but_init(pid)
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        _kill_descendants()
        return status

    def _tidy(self) -> None:
        if self._has_root:
            confine.renew_scratch()
        else:
            for entry in os.scandir(self._workdir):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _collect(reader: int, pid: int, request: dict[str, Any]) -> tuple[bytes, str | None]:
    """Read the report until it ends; return it, and why it was cut short."""
    deadline = time.monotonic() + request["wall_s"]
    last = f'{request["nonce"]} ["end"]\n'.encode()
    report = bytearray()
    while not report.endswith(last):
        left = deadline - time.monotonic()
        if left <= 0:
            return bytes(report), f"no end after {request['wall_s']:g} s"
        if select.select([reader], [], [], min(left, _POLL_S))[0]:
            chunk = os.read(reader, 65536)
            if not chunk:
                break
            report += chunk
            if len(report) > request["report_bytes"]:
                return bytes(report), f"reported more than {request['report_bytes']} bytes"
        elif _is_zombie(pid):
            break  # gone, while something it started holds the pipe open
    return bytes(report), None


def _is_zombie(pid: int) -> bool:
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: the time limit will tell
        return False
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _ending(status: int, cpu_s: int) -> str:
    if not os.WIFSIGNALED(status):
        return f"exit {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    if number == signal.SIGXCPU:
        return f"used more than {cpu_s} s of CPU time"
    return f"signal {signal.Signals(number).name if number in set(signal.Signals) else number}"


def _kill_all_but_init(pid: int) -> int:
    """Kill every other process of the namespace, of which the caller is the first, and reap them."""
    status = 0
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return status
        try:
            reaped, ending = os.waitpid(-1, 0)
        except ChildProcessError:
            continue
        if reaped == pid:
            status = ending


def _kill_descendants() -> None:
    """Kill and reap all descendants that are known to be ours (Linux: orphans come to their subreaper)."""
    path = f"/proc/self/task/{os.getpid()}/children"
    while True:
        try:
            with open(path) as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            children = []
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0 if children else os.WNOHANG)
        except ChildProcessError:
            return
        if not children:
            return


def _scratch_file() -> int:
    """Open a nameless file for what a candidate prints: its size limit is the limit of the output."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("output")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _receive() -> dict[str, Any] | None:
    header = _read(_HEADER.size)
    if header is None:
        return None
    body = _read(_HEADER.unpack(header)[0])
    return None if body is None else json.loads(body)


def _read(size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            return None
        data += chunk
    return data


def _send(message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    data = _HEADER.pack(len(body)) + body
    while data:
        data = data[os.write(1, data) :]
