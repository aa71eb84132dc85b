"""A server program in a process group of its own, with its log in a file.

The group is what is stopped, never the process alone: servers leave workers behind. It is given to the
watchdog *before* the program starts (a gate holds it until then), so that no kill of this process, however
timed, leaves a server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import LaunchError, UnavailableError
from harness.launchers.base import Server
from harness.launchers.probe import served_models, wait_until_answering
from harness.launchers.watchdog import Watchdog, the_watchdog

__all__ = ["ProcessLauncher"]

_GATE = 'read -r go || exit 1; exec "$@"'
_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLauncher:
    """Starts a program that serves HTTP on a local port."""

    command: tuple[str, ...]
    """Program and arguments; `{port}` in an argument becomes the port chosen by the kernel."""
    name: str = "server"
    model: str | None = None
    """The model's name; `None` asks the server."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables added to this process's."""
    ready_path: str = "/v1/models"
    deadline_s: float = 120.0
    grace_s: float = 5.0
    """Seconds between asking the group to end and killing it."""
    log: Path | None = None
    """Where output goes; `None` makes a temporary file, removed when the server stops."""
    install: str = ""
    """The line that installs the program, for the error when it is not on PATH."""

    def launch(self) -> Server:
        """Start the program and wait until it answers; see `Launcher.launch`."""
        began_s = time.perf_counter()
        if shutil.which(self.command[0]) is None:
            raise UnavailableError(
                f"{self.name}: {self.command[0]} is not on PATH: {self.install or 'install it'}"
            )
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        log = self.log or _temporary_log(self.name)
        running = _Running(self._start(port, log), the_watchdog(), self.grace_s, None if self.log else log)
        try:
            wait_until_answering(url + self.ready_path, self.deadline_s, give_up=running.has_exited)
            model = self.model or served_models(url)[0]
        except (OSError, ValueError, LookupError) as exc:
            what = (
                "exited" if running.has_exited() else f"did not answer within {self.deadline_s:g} s ({exc})"
            )
            tail = _tail(log)
            running.stop()
            command = " ".join(self.command)
            raise LaunchError(f"{self.name}: `{command}` {what}; its log ends:\n{tail}") from exc
        except BaseException:
            running.stop()
            raise
        return Server(url=url, model=model, start_s=time.perf_counter() - began_s, stop=running.stop)

    def _start(self, port: int, log: Path) -> subprocess.Popen[bytes]:
        command = [argument.replace("{port}", str(port)) for argument in self.command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                start_new_session=True,
            )
        the_watchdog().guard(process.pid)
        assert process.stdin is not None
        with process.stdin as gate, contextlib.suppress(BrokenPipeError):
            gate.write(b"go\n")
        return process


class _Running:
    """A started program, and how to end its whole group."""

    def __init__(
        self, process: subprocess.Popen[bytes], watchdog: Watchdog, grace_s: float, remove: Path | None
    ) -> None:
        self._process, self._watchdog, self._grace_s, self._remove = process, watchdog, grace_s, remove

    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        group = self._process.pid
        _signal_group(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace_s)
        # The leader may end before its workers, or not at all.
        _signal_group(group, signal.SIGKILL)
        self._process.wait()
        self._watchdog.release(group)
        if self._remove is not None:
            self._remove.unlink(missing_ok=True)


def _signal_group(group: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, sign)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _temporary_log(name: str) -> Path:
    handle, path = tempfile.mkstemp(prefix=f"assay-{name}-", suffix=".log")
    os.close(handle)
    return Path(path)


def _tail(log: Path) -> str:
    return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
