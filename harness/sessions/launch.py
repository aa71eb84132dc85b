"""`python -m harness.sessions serve` as a process of its own, on a unix socket, and gone on every way out.

The program is in a group that the watchdog ends when this process dies, however that happens; its log and
its socket go with it. Its last words are in the error when it does not become ready.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import LaunchError
from harness.launchers.group import GuardedGroup
from harness.launchers.watchdog import the_watchdog
from harness.sessions.address import Address, socket_folder

__all__ = ["ServerProcess"]

ROOT = Path(__file__).resolve().parents[2]
_LOOK_S = 0.05
_TAIL_BYTES = 2000


class ServerProcess:
    """A session server; started at once, and waited for when its address is asked for."""

    def __init__(
        self,
        arguments: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        deadline_s: float = 600.0,
        grace_s: float = 5.0,
    ) -> None:
        """Start it.

        Parameters
        ----------
        arguments: of `serve`, but for where it listens.
        env: variables added to this process's.
        deadline_s: from now until it says that it is ready; three models of 13 GB take two minutes to pack.
        grace_s: between asking it to end and killing it.
        """
        folder, name = socket_folder(), f"assay-sessions-{uuid.uuid4().hex[:12]}"
        self._socket, self._log = folder / f"{name}.sock", folder / f"{name}.log"
        where = Address.of_path(str(self._socket))
        self._command = (
            *(sys.executable, "-u", "-m", "harness.sessions", "serve"), *arguments,
            *("--socket", str(self._socket)),
        )  # fmt: skip
        self._ready_by_s = time.monotonic() + deadline_s
        self._deadline_s, self._address = deadline_s, where
        self._is_ready = False
        for path in (self._socket, self._log):
            the_watchdog().guard("file", path)
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._group = GuardedGroup(
            self._command, log=self._log, grace_s=grace_s, env={"PYTHONPATH": paths, **(env or {})}
        )
        try:
            self._group.start()
        except BaseException:
            self.stop()
            raise

    @property
    def address(self) -> Address:
        """Where it listens, once it does.

        Raises
        ------
        LaunchError: it ended, or is not ready within its deadline; its log's end is in the message.
        """
        while not self._is_ready:
            status = self._group.exit_status()
            self._is_ready = any(line.startswith("ready ") for line in self._words().splitlines())
            if status is not None:
                raise self._failure(f"exited with status {status}")
            if not self._is_ready:
                if time.monotonic() > self._ready_by_s:
                    raise self._failure(f"is not ready after {self._deadline_s:g} s; allow more")
                time.sleep(_LOOK_S)
        return self._address

    @property
    def pid(self) -> int | None:
        """Its process."""
        return self._group.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._group.exit_status()

    @property
    def log(self) -> str:
        """What it has said so far, if it was not stopped; with `--verbose` a line per turn."""
        return self._words()

    def stop(self) -> None:
        """End it and remove what it left; a second call does nothing."""
        self._group.stop()
        for path in (self._socket, self._log):
            path.unlink(missing_ok=True)
            the_watchdog().release("file", path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _words(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _failure(self, what: str) -> LaunchError:
        command, end = " ".join(self._command[2:]), self._words()[-_TAIL_BYTES:].strip()
        return LaunchError(f"`python {command}` {what}; its log ends:\n{end}")
