"""`ray start --head` as a process of its own, with all that it starts, under guard and gone on every way out.

Its GCS, raylet, agents and workers stay in one process group, which the watchdog ends when this process dies,
however that happens; its folder goes with it.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from harness.errors import LaunchError
from harness.launchers.group import GuardedGroup
from harness.launchers.watchdog import the_watchdog

__all__ = ["CLI", "PRIVATE", "Head"]

CLI = (sys.executable, "-m", "ray.scripts.scripts")
PRIVATE = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Nothing is reported home."""
_STARTED = "Ray runtime started."
_TIMED_OUT = "timed out during startup"
"""Said when a raylet took more than 30 s, a limit that cannot be moved: a busy machine is tried once more."""
_MAX_PARENT_LEN = 24
"""Of the 107 characters of a socket's path, those that Ray's and our own folders leave."""
_HEAD = {
    **PRIVATE,
    # Workers stay in the group that is guarded.
    "RAY_process_group_cleanup_enabled": "false",
    # A process that waits for work beforehand would hide what it costs to start one.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_agent_register_timeout_ms": "120000",
    # As it is by default; drivers wait for ever.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "60",
}
_GRACE_S = 0.5
_LOOK_S = 0.05
_TAIL_BYTES = 1500


class Head:
    """The one node of a cluster of our own."""

    def __init__(self, num_cpus: int, object_store_bytes: int) -> None:
        self._arguments = (
            "start", "--head", "--block", "--port=0", f"--num-cpus={num_cpus}",
            f"--object-store-memory={object_store_bytes}", "--include-dashboard=false",
            "--include-log-monitor=false", "--disable-usage-stats", "--log-style=record", "--log-color=false",
        )  # fmt: skip
        self._folder: Path | None = None
        self._group: GuardedGroup | None = None

    def start(self, ends_s: float) -> str:
        """Start it; its address. `ends_s`, on the monotonic clock, until when."""
        try:
            try:
                return self._start(ends_s)
            except LaunchError as exc:
                if _TIMED_OUT not in str(exc):
                    raise
                self.stop()
                return self._start(ends_s)
        except BaseException:
            self.stop()
            raise

    def exit_status(self) -> int | None:
        """None while it runs."""
        return None if self._group is None else self._group.exit_status()

    def stop(self) -> None:
        """End all of it, and remove its folder."""
        group, folder, self._group, self._folder = self._group, self._folder, None, None
        if group is not None:
            group.stop()
        if folder is not None:
            ends_s = time.monotonic() + 2.0
            # A process that was killed is there for a moment yet, and may write.
            while folder.exists() and time.monotonic() < ends_s:
                shutil.rmtree(folder, ignore_errors=True)
            the_watchdog().release("file", folder)

    def _start(self, ends_s: float) -> str:
        self._folder = folder = _folder()
        log = folder / "head.log"
        command = [*CLI, *self._arguments, f"--temp-dir={folder}"]
        self._group = group = GuardedGroup(command, log=log, grace_s=_GRACE_S, env=_HEAD)
        group.start()
        while True:
            words, address = log.read_text(errors="replace"), _read(folder / "ray_current_cluster")
            # Either may come first.
            if _STARTED in words and address:
                return address
            end = words[-_TAIL_BYTES:].strip()
            if (status := group.exit_status()) is not None:
                raise LaunchError(f"`ray start` ended with status {status}; its log ends:\n{end}")
            if time.monotonic() > ends_s:
                raise LaunchError(f"`ray start` is not ready in time; allow more. Its log ends:\n{end}")
            time.sleep(_LOOK_S)


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _folder() -> Path:
    """One for Ray's files, guarded, at a path that is short enough for its sockets."""
    place = tempfile.gettempdir()
    parent = place if len(place) <= _MAX_PARENT_LEN else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="assay-ray-", dir=parent))
    the_watchdog().guard("file", folder)
    return folder
