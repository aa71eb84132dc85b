"""The engine that runs containers: docker or podman, through the Docker API on a Unix socket.

Looked for in this order: DOCKER_HOST, CONTAINER_HOST, the sockets where docker and podman put them, and last
podman on PATH without a socket: then a `podman system service` of our own listens on a private one while
there are containers. A remote engine is refused: its ports are not on this machine, and the watchdog could
not clean up there.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from harness.errors import LaunchError, UnavailableError
from harness.launchers.group import GuardedGroup
from harness.launchers.watchdog import the_watchdog

__all__ = ["ContainerEngine", "foreign_errors", "open_engine"]

_REQUEST_S = 120.0
_SERVICE_READY_S = 20.0
_SERVICE_GRACE_S = 5.0
_CREDENTIALS = struct.Struct("3i")
_LONG = 70
"""A socket's path has 107 characters at most."""
_SPOOL = "/var/tmp"
"""Where podman keeps temporary files, and so layers of gigabytes."""
_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
_MOST = 1_048_576
"""What podman asks for where nothing is said."""
_CDI_SINCE = (5, 4)
"""The podman whose Docker API heeds requests for devices. Source: containers/podman pull 25171."""


class ContainerEngine:
    """A connection to docker or podman; `close()` when the container is gone."""

    def __init__(self, name: str, path: str, service: _Service | None) -> None:
        """Connect.

        Raises
        ------
        UnavailableError: the Docker SDK is missing.
        LaunchError: nobody answers on the socket.
        """
        self.sdk = _docker()
        self.socket = path
        self._service = service
        silent = f"the container engine at {path} does not answer; start it"
        # The SDK leaves its socket open where it cannot connect.
        if not _is_listening(path):
            raise LaunchError(f"{name}: {silent}, or set DOCKER_HOST to another's socket")
        with foreign_errors(name, silent):
            self.client = self.sdk.DockerClient(base_url=f"unix://{path}", timeout=_REQUEST_S, version="auto")
            version = self.client.version()
        podman = [part["Version"] for part in version.get("Components") or () if "Podman" in part["Name"]]
        self.program = "podman" if podman else "docker"
        """What it is, by its own word."""
        self.version: str = podman[0] if podman else str(version.get("Version", ""))

    @property
    def ulimits(self) -> dict[str, int]:
        """Hard limits on files and processes that a container must be given: those of podman itself.

        podman as root asks for more than it has, and without CAP_SYS_RESOURCE, as in a sandbox, the container
        then does not start. Empty for docker, and where podman's limits are not ours to see.
        """
        if self.program == "docker":
            return {}
        try:
            hard = [resource.prlimit(_pid_behind(self.socket), limit)[1] for limit in _LIMITS.values()]
        except OSError:
            return {}
        mosts = (_MOST if most == resource.RLIM_INFINITY else min(most, _MOST) for most in hard)
        return dict(zip(_LIMITS, mosts, strict=True))

    def device_requests(self, name: str, gpus: str) -> list[Any]:
        """What gives a container NVIDIA GPUs: `all`, or indexes with commas between.

        Raises
        ------
        UnavailableError: this podman would start the container without them, and say nothing.
        """
        request = _docker().types.DeviceRequest
        if self.program == "docker":
            if gpus == "all":
                return [request(count=-1, capabilities=[["gpu"]])]
            return [request(device_ids=gpus.split(","), capabilities=[["gpu"]])]
        if tuple(int(part) for part in self.version.split(".")[:2]) < _CDI_SINCE:
            since = ".".join(map(str, _CDI_SINCE))
            what = f"podman {self.version} gives no GPU through its API"
            raise UnavailableError(f"{name}: {what}; install podman {since} or later, or docker")
        return [request(driver="cdi", device_ids=[f"nvidia.com/gpu={one}" for one in gpus.split(",")])]

    def close(self) -> None:
        """Hang up; a service of our own ends with its last user. A second call does nothing."""
        service, self._service = self._service, None
        self.client.close()
        if service is not None:
            service.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_engine(name: str) -> ContainerEngine:
    """The engine of this machine.

    Raises
    ------
    UnavailableError: there is none, it is remote, or the Docker SDK is missing; the remedy names the role.
    LaunchError: it does not answer.
    """
    _docker()
    path = _socket_path(name)
    if path is not None:
        return ContainerEngine(name, path, None)
    if shutil.which("podman") is None:
        remedy = "apt install podman, or set DOCKER_HOST=unix:///PATH to a running engine's socket"
        raise UnavailableError(f"{name}: neither docker nor podman runs here: {remedy}")
    service = _service
    service.borrow(name)
    try:
        return ContainerEngine(name, str(service.path), service)
    except BaseException:
        service.give_back()
        raise


@contextlib.contextmanager
def foreign_errors(name: str, what: str) -> Iterator[None]:
    """Raise the SDK's errors as LaunchError: role, what was done, and the engine's own words.

    Raises
    ------
    LaunchError: the block raised an error of the SDK, or of the connection beneath it.
    """
    try:
        yield
    # What the SDK's HTTP library raises is OSError.
    except (_docker().errors.DockerException, OSError) as exc:
        said = getattr(exc, "explanation", None) or exc
        raise LaunchError(f"{name}: {what} ({said})") from exc


class _Service:
    """Our own `podman system service`, up while somebody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_users = 0
        self._folder: Path | None = None
        self._group: GuardedGroup | None = None

    @property
    def path(self) -> Path:
        """Its socket."""
        assert self._folder is not None
        return self._folder / "podman.sock"

    def borrow(self, name: str) -> None:
        """Start it for its first user.

        Raises
        ------
        LaunchError: it does not come up.
        """
        with self._lock:
            if self._num_users == 0 or self._group is None or self._group.exit_status() is not None:
                self._start(name)
            self._num_users += 1

    def give_back(self) -> None:
        """Stop it after its last user."""
        with self._lock:
            self._num_users -= 1
            if self._num_users == 0:
                self._stop()

    def _start(self, name: str) -> None:
        place = os.environ.get("TMPDIR", _SPOOL)
        self._folder = Path(
            tempfile.mkdtemp(prefix="assay-podman-", dir=place if len(place) < _LONG else _SPOOL)
        )
        the_watchdog().guard("file", self._folder)
        command = ("podman", "system", "service", "--time=0", f"unix://{self.path}")
        log = self._folder / "log"
        # podman leaves the archives that it was sent in its temporary folder: this one goes with it.
        env = {"TMPDIR": str(self._folder)}
        self._group = GuardedGroup(command, log=log, grace_s=_SERVICE_GRACE_S, env=env, kind="service")
        try:
            self._group.start()
            ends_s = time.monotonic() + _SERVICE_READY_S
            while not _is_listening(str(self.path)):
                if self._group.exit_status() is not None or time.monotonic() > ends_s:
                    said = log.read_text(errors="replace").strip() or "it says nothing"
                    raise LaunchError(f"{name}: `{' '.join(command)}` does not come up: {said}")
                time.sleep(0.02)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        if self._group is not None:
            self._group.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            the_watchdog().release("file", self._folder)


_service = _Service()


def _socket_path(name: str) -> str | None:
    for variable in ("DOCKER_HOST", "CONTAINER_HOST"):
        host = os.environ.get(variable)
        if host:
            if not host.startswith("unix://"):
                remedy = "give the path of a local engine's socket, unix:///PATH"
                raise UnavailableError(f"{name}: {variable} is {host}, an engine elsewhere; {remedy}")
            return host.removeprefix("unix://")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    places = (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{Path.home()}/.docker/run/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    )
    return next((place for place in places if _is_listening(place)), None)


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _pid_behind(path: str) -> int:
    """The process that listens on a socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid: int = _CREDENTIALS.unpack(credentials)[0]
        return pid


def _docker() -> Any:
    try:
        import docker
    except ImportError as exc:
        raise UnavailableError('containers need the Docker SDK: pip install "docker>=7.1,<8"') from exc
    return docker
