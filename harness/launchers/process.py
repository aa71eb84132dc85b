"""A server program in a process group of its own, with its log in a file.

The group is what is stopped, never the process alone: servers leave workers behind. Whatever ends this
process, the watchdog ends the group and removes the log.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import LaunchError, UnavailableError, UsageError
from harness.launchers.base import Server
from harness.launchers.group import GuardedGroup
from harness.launchers.ports import free_port, is_free
from harness.launchers.probe import wait_until_answering
from harness.launchers.started import started_model
from harness.launchers.watchdog import the_watchdog

__all__ = ["ProcessLauncher"]

_TAIL_BYTES = 4000
_PORT_TRIES = 3
_PROGRESS_S = 1.0
_HAS_PACKAGES = (
    "import importlib.util, sys; sys.exit(not all(importlib.util.find_spec(p) for p in sys.argv[1:]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLauncher:
    """Starts a program that serves HTTP on a local port."""

    command: tuple[str, ...]
    """Program and arguments; `{host}` and `{port}` in them become those of the server."""
    name: str = "server"
    model: str | None = None
    """The model's name; `None` asks the server."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables added to this process's, with the same placeholders."""
    host: str = "127.0.0.1"
    """An address of this machine."""
    port: int | None = None
    """`None` chooses a free one, and another when that is lost to somebody else meanwhile."""
    ready_path: str = "/v1/models"
    deadline_s: float = 120.0
    grace_s: float = 5.0
    """Seconds between asking the group to end and killing it."""
    log: Path | None = None
    """Where output goes; `None` makes a temporary file, removed when the server stops."""
    install: str = ""
    """The line that installs the program, for the error when it is not there."""
    packages: tuple[str, ...] = ()
    """What the program, a Python interpreter, must be able to import."""
    fetch: str = ""
    """The line that fetches a model that the server does not list, for the error; empty does not look."""
    engine: str | None = None
    """What serves ("sglang"), for the backend's sake."""
    on_progress: Callable[[str], None] | None = None
    """Told the log's last line while the server starts, at most once a second."""

    def __post_init__(self) -> None:
        if self.port is not None and not 0 < self.port < 65536:
            what = f"port is {self.port}; give one from 1 to 65535, or none for a free one"
            raise UsageError(f"{self.name}: {what}")

    def launch(self) -> Server:
        """Start the program and wait until it answers; see `Launcher.launch`."""
        began_s = time.perf_counter()
        self.check_program()
        if self.port is not None and not is_free(self.host, self.port):
            what = f"port {self.port} of {self.host} is in use"
            raise LaunchError(f"{self.name}: {what}; stop what listens there, or choose another port")
        for tries_left in reversed(range(1 if self.port else _PORT_TRIES)):
            running = _Running(self, self.port or free_port(self.host))
            try:
                running.start()
                model = self._wait(running, began_s + self.deadline_s - time.perf_counter())
            except (OSError, ValueError, LookupError) as exc:
                try:
                    is_lost = running.has_exited() and not is_free(self.host, running.port)
                    failure = self._failure(running, exc)
                finally:
                    running.stop()
                if is_lost and tries_left:
                    continue
                raise failure from exc
            except BaseException:
                running.stop()
                raise
            start_s = time.perf_counter() - began_s
            return Server(
                url=running.url,
                model=model,
                start_s=start_s,
                stop=running.stop,
                engine=self.engine,
                pid=running.pid,
            )
        raise AssertionError("the last try returns or raises")

    def check_program(self) -> None:
        """Raise UnavailableError, with the line that installs it, if the program is not here."""
        program = self.command[0]
        remedy = self.install or "install it"
        if shutil.which(program) is None:
            where = "does not exist" if os.sep in program else "is not on PATH"
            raise UnavailableError(f"{self.name}: {program} {where}: {remedy}")
        if self.packages and not _has_packages(program, self.packages):
            packages = ", ".join(self.packages)
            raise UnavailableError(f"{self.name}: {program} lacks one of {packages}: {remedy}")

    def _wait(self, running: _Running, deadline_s: float) -> str:
        """Return the model's name once the server answers."""
        told_s = time.monotonic()

        def give_up() -> bool:
            nonlocal told_s
            if self.on_progress is not None and time.monotonic() - told_s >= _PROGRESS_S:
                told_s = time.monotonic()
                self.on_progress(_tail(running.log).splitlines()[-1])
            return running.has_exited()

        wait_until_answering(running.url + self.ready_path, deadline_s, give_up=give_up)
        if running.exit_status():
            raise ChildProcessError("somebody else answered")
        return started_model(self.name, running.url, self.model, self.fetch)

    def _failure(self, running: _Running, exc: Exception) -> LaunchError:
        status = running.exit_status()
        if status is not None:
            what = f"exited with status {status}"
        else:
            what = f"did not answer within {self.deadline_s:g} s ({exc}); allow more with deadline_s"
        kept = f"; its log {self.log} ends" if self.log else "; its log ends"
        command = shlex.join(running.command)
        return LaunchError(f"{self.name}: `{command}` {what}{kept}:\n{_tail(running.log)}")


class _Running:
    """A program with its port and its log."""

    def __init__(self, launcher: ProcessLauncher, port: int) -> None:
        self.port = port
        self.url = f"http://{launcher.host}:{port}"
        self.command = [self._fill(launcher, argument) for argument in launcher.command]
        self._is_log_ours = launcher.log is None
        self.log = launcher.log or _temporary_log(launcher.name)
        env = {key: self._fill(launcher, value) for key, value in launcher.env.items()}
        self._group = GuardedGroup(self.command, env=env, log=self.log, grace_s=launcher.grace_s)

    def _fill(self, launcher: ProcessLauncher, text: str) -> str:
        return text.replace("{host}", launcher.host).replace("{port}", str(self.port))

    def start(self) -> None:
        self._group.start()

    @property
    def pid(self) -> int | None:
        return self._group.pid

    def exit_status(self) -> int | None:
        return self._group.exit_status()

    def has_exited(self) -> bool:
        return self.exit_status() is not None

    def stop(self) -> None:
        self._group.stop()
        if self._is_log_ours:
            self.log.unlink(missing_ok=True)
            the_watchdog().release("file", self.log)


def _has_packages(python: str, packages: tuple[str, ...]) -> bool:
    if python == sys.executable:
        return all(importlib.util.find_spec(package) for package in packages)
    return subprocess.run([python, "-c", _HAS_PACKAGES, *packages], capture_output=True).returncode == 0


def _temporary_log(name: str) -> Path:
    path = Path(tempfile.gettempdir(), f"assay-{name}-{uuid.uuid4().hex[:12]}.log")
    # Under guard before it is there: a kill in between would leave it.
    the_watchdog().guard("file", path)
    path.touch(mode=0o600, exist_ok=False)
    return path


def _tail(log: Path) -> str:
    return log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() or "(empty)"
