"""A program in a process group of its own, under guard before it runs its first instruction.

A gate holds the program until the watchdog knows its group, so that no kill of this process, however timed,
leaves it running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.launchers.watchdog import Watchdog, the_watchdog

__all__ = ["GuardedGroup"]

_GATE = 'read -r go || exit 1; exec "$@"'


class GuardedGroup:
    """A program that is started or about to be, and how to end its whole group."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        grace_s: float,
        env: Mapping[str, str] | None = None,
        kind: str = "group",
    ) -> None:
        """Prepare it.

        Parameters
        ----------
        log: the file that takes its output.
        grace_s: seconds between asking the group to end and killing it.
        env: variables added to this process's.
        kind: what it is to the watchdog, `group` or `service`.
        """
        self._command, self._env, self._kind = command, dict(env or {}), kind
        self._log, self._grace_s = log, grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *self._command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                start_new_session=True,
            )
        self._process = process
        self._watchdog = the_watchdog()
        self._watchdog.guard(self._kind, process.pid)
        assert process.stdin is not None
        with process.stdin as gate, contextlib.suppress(BrokenPipeError):
            gate.write(b"go\n")

    @property
    def pid(self) -> int | None:
        """The program's process, and its group; `None` before it was started."""
        return None if self._process is None else self._process.pid

    def exit_status(self) -> int | None:
        """Its exit status; `None` while it runs, or before it was started."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """End the whole group; return when it is gone."""
        if self._process is None:
            return
        group = self._process.pid
        _signal_group(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace_s)
        # The leader may end before its workers, or not at all.
        _signal_group(group, signal.SIGKILL)
        self._process.wait()
        if self._watchdog is not None:
            self._watchdog.release(self._kind, group)


def _signal_group(group: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, sign)
