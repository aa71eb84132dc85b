"""Ray, started here and gone on every way out, or found at an address; one per process, as Ray has it.

What is started is `ray start --head --block` in a group that the watchdog ends when this process dies, with
all that it starts: GCS, raylet, agents, and the workers, which are told not to leave the group. Its folder
goes with it. There is no dashboard, no prestarted worker, no log in the driver, and nothing is reported home.

A driver whose GCS is gone is ended by Ray, without a word to Python, 60 s later; it is told to bear with that
for as long as it lives, and who waits asks `failure` instead.

Traps: Ray has no authentication unless `RAY_AUTH_MODE=token` is set, and listens on the machine's address:
whoever reaches that can run programs. A cluster at an address must have a node on this machine, since a
`DeviceBudget` is shared within one; all is placed on that node. A GCS on another machine is not watched.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from harness.agents.head import CLI, PRIVATE, Head
from harness.errors import BackendBroken, LaunchError, UnavailableError, UsageError
from harness.hardware.processes import Process, find_process, is_alive

__all__ = ["RayCluster", "require_ray"]

_ROOT = Path(__file__).resolve().parents[2]
_DRIVER = {
    **PRIVATE,
    "RAY_gcs_rpc_server_reconnect_timeout_s": "1000000",
    # Ray would start another cluster for whoever calls something after it was closed.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}
_MOST_CHECK_S = 30.0


class _Part(NamedTuple):
    """A process without which nothing goes on."""

    name: str
    process: Process


def require_ray() -> Any:
    """The ray module. Raises UnavailableError where it is not installed."""
    if find_spec("ray") is None:
        raise UnavailableError("ray is missing; run: pip install 'assay[ray]'")
    os.environ.update(_DRIVER)
    return import_module("ray")


class RayCluster:
    """A Ray cluster that this process is connected to, from the constructor to `close`.

    Arguments
    ---------
    address: HOST:PORT of a cluster that runs; None starts one here.
    num_cpus: that the one started here takes itself to have; so many workers start at once.
    object_store_bytes: of the one started here; agents pass next to nothing through it.
    deadline_s: until it is connected.
    job_env: Ray's runtime_env of all that this process has run, such as the folder that it is sent with.

    Raises
    ------
    UnavailableError: ray is not installed.
    UsageError: this process is connected already, or the address is none.
    LaunchError: nothing answers there in time, the versions differ, or none could be started.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: int = 4,
        object_store_bytes: int = 80_000_000,
        deadline_s: float = 120.0,
        job_env: Mapping[str, Any] | None = None,
    ) -> None:
        self._ray = require_ray()
        if self._ray.is_initialized():
            raise UsageError("this process is connected to Ray already; close that first")
        self._head: Head | None = None
        self._parts: tuple[_Part, ...] = ()
        self._is_open = True
        began_s = time.perf_counter()
        try:
            if address is None:
                self._head = Head(num_cpus, object_store_bytes)
                address = self._head.start(time.monotonic() + deadline_s)
            else:
                _check_address(address, min(deadline_s, _MOST_CHECK_S))
            self._connect(address, dict(job_env or {}))
        except BaseException:
            self.close()
            raise
        self.address = address
        self.start_s = time.perf_counter() - began_s
        """Seconds that it took to be connected."""

    @property
    def failure(self) -> str | None:
        """What is gone without which nothing goes on; None while all runs."""
        if not self._is_open:
            return "Ray was closed"
        # One ends soon after the other, so it may be both.
        gone = [f"{part.name} (pid {part.process.pid})" for part in self._parts if not is_alive(part.process)]
        if gone:
            return f"Ray's {' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone"
        status = None if self._head is None else self._head.exit_status()
        return None if status is None else f"Ray ended with status {status}"

    def require(self, who: str) -> None:
        """Return while all runs. Raises BackendBroken, in the name of `who`, when not."""
        if (cause := self.failure) is not None:
            raise BackendBroken(f"{who}: {cause}")

    @property
    def pids(self) -> Mapping[str, int]:
        """Processes that nothing goes on without, by name: `raylet`, and `gcs_server` if it is here."""
        return {part.name: part.process.pid for part in self._parts}

    def remote(self, target: Any, *, env: Mapping[str, str], **options: Any) -> Any:
        """A function or class as Ray calls it: on this machine, and at once, whatever else runs.

        Arguments: `env`, variables of the processes that run it; `options`, of Ray's `remote`.
        """
        strategies = import_module("ray.util.scheduling_strategies")
        settings = {
            # Ray queues what asks for resources; room is the device budget's matter alone.
            "num_cpus": 0,
            "scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(self.node_id, soft=False),
            "runtime_env": self.runtime_env(env),
        }
        return self._ray.remote(**settings, **options)(target)

    def runtime_env(self, env: Mapping[str, str]) -> dict[str, Any]:
        """Ray's name for the variables of a process; one runs only what asks for the same."""
        paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        # A device goes by the name it has in this process: with no GPU asked for, Ray would hide them all.
        own = {"PYTHONPATH": paths, "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}
        if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            own["CUDA_VISIBLE_DEVICES"] = visible
        return {"env_vars": {**own, **env}}

    def close(self) -> None:
        """Leave, and end what was started, its files included; a second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._ray.shutdown()
        finally:
            if self._head is not None:
                self._head.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, address: str, job_env: dict[str, Any]) -> None:
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(
                address=address, namespace="assay", log_to_driver=False, configure_logging=False,
                runtime_env=job_env,
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError) as exc:
            raise LaunchError(f"ray at {address}: {_one_line(exc)}") from exc
        finally:
            # Ray has SIGTERM raise SystemExit, which a test runner takes for a test that failed.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
        self.node_id: str = self._ray.get_runtime_context().get_node_id()
        node = next(node for node in self._ray.nodes() if node["NodeID"] == self.node_id)
        raylet_socket = Path(node["RayletSocketName"])
        self._parts = (
            *_parts("raylet", f"--raylet_socket_name={raylet_socket}"),
            *_parts("gcs_server", f"--log_dir={raylet_socket.parents[1] / 'logs'}"),
        )


def _check_address(address: str, limit_s: float) -> None:
    """Return when a cluster of our version answers there.

    Ray would try a wrong address for minutes and cannot be stopped, so it is asked from a process that can.
    """
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"ray address {address!r}: give HOST:PORT of a cluster with a node on this machine")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=limit_s).close()
    except OSError as exc:
        raise LaunchError(
            f"ray at {address}: nothing answers ({exc}); start one with `ray start --head`, or give none"
        ) from exc
    command = [*CLI, "health-check", "--address", address]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env={**os.environ, **PRIVATE}
        )
    except subprocess.TimeoutExpired as exc:
        raise LaunchError(
            f"ray at {address}: something listens there, but no Ray answered within {limit_s:g} s; give the "
            "address that `ray start --head` printed"
        ) from exc
    if asked.returncode:
        said = _one_line("".join(asked.stderr.strip().splitlines()[-1:]))
        raise LaunchError(f"ray at {address}: {said}; it has to be the Ray that is installed here")


def _parts(name: str, argument: str) -> list[_Part]:
    """This machine's processes of that program with that argument."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone meanwhile
            program, *arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(program).name == name and argument in arguments:
                found.append(_Part(name, find_process(int(entry.name))))
    return found


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:500]
