"""A server in a container, through docker or podman, with nothing of it left on any way out.

The container's name is chosen and given to the watchdog before it is asked for. Its port is published on
127.0.0.1 alone, under a number that the engine chooses. Images are not pulled unless told to: the official
ones are gigabytes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, LaunchError, UnavailableError, UsageError
from harness.launchers.base import Server
from harness.launchers.container_engine import ContainerEngine, foreign_errors, open_engine
from harness.launchers.probe import serving_engine, wait_until_answering
from harness.launchers.started import started_model
from harness.launchers.watchdog import remove_container, the_watchdog

__all__ = ["ContainerLauncher", "Mount"]

_TAIL_LINES = 50
_LOOK_S = 0.2
_IN_FLIGHT_S = 5.0
_WEIGHTS_TARGET = "/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file of this machine that the container sees."""

    source: str
    target: str
    is_read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLauncher:
    """Starts an image that serves HTTP."""

    image: str
    command: tuple[str, ...] = ()
    """The arguments; empty takes the image's own."""
    entrypoint: tuple[str, ...] = ()
    """What is run with them; empty takes the image's own."""
    name: str = "server"
    model: str | None = None
    """The model's name; `None` asks the server."""
    port: int = 8080
    """Where the server listens inside."""
    env: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    """A folder or file of this machine, seen inside, read-only, under /models/ by its own name."""
    mounts: tuple[Mount, ...] = ()
    """What else is seen inside."""
    shm_size: str | None = None
    """Shared memory ("8g"), through which an engine's processes speak; `None` leaves the engine's 64 MB."""
    gpus: str = "none"
    """NVIDIA GPUs: `all`, indexes with commas between, or `none`."""
    runtime: str | None = None
    """What docker runs containers with ("nvidia", "runc"); `None` leaves it the choice. podman ignores it."""
    pull: bool = False
    """Whether an image that is not here is fetched, however large."""
    ready_path: str = "/v1/models"
    deadline_s: float = 300.0
    """Seconds for all of it, a pull not counted."""
    fetch: str = ""
    """The line that fetches a model that the server does not list, for the error; empty does not look."""
    engine: str | None = None
    """What serves ("sglang"); `None` asks the server."""

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise UsageError(f"{self.name}: port is {self.port}; give the server's inside, 1 to 65535")
        if not all(part == "all" or part.isdigit() for part in self.gpus.split(",")) and self.gpus != "none":
            raise UsageError(f"{self.name}: gpus is {self.gpus!r}; use all, none or indexes like 0,1")
        for mount in self._all_mounts():
            if not Path(mount.source).exists():
                raise UsageError(f"{self.name}: {mount.source} is not there; give a folder or file")

    def launch(self) -> Server:
        """Start the container and wait until it answers; see `Launcher.launch`."""
        began_s = time.perf_counter()
        engine = open_engine(self.name)
        container = _Container(self.name, engine)
        try:
            began_s += self._have_image(engine)
            with foreign_errors(self.name, f"{engine.program} did not start {self.image}"):
                container.start(self._options(engine), self.port)
            deadline_s = began_s + self.deadline_s - time.perf_counter()
            wait_until_answering(container.url + self.ready_path, deadline_s, give_up=container.has_exited)
            model = started_model(self.name, container.url, self.model, self.fetch)
            said = self.engine or serving_engine(container.url)
        except HarnessError:
            container.stop()
            raise
        except (OSError, ValueError, LookupError) as exc:
            try:
                failure = self._failure(container, exc)
            finally:
                container.stop()
            raise failure from exc
        except BaseException:
            container.stop()
            raise
        start_s = time.perf_counter() - began_s
        return Server(url=container.url, model=model, start_s=start_s, stop=container.stop, engine=said)

    def _have_image(self, engine: ContainerEngine) -> float:
        """See that the image is here; return the seconds spent on fetching it."""
        began_s = time.perf_counter()
        remedy = f"{engine.program} pull {self.image}"
        with foreign_errors(self.name, f"the image cannot be had; see why with {remedy}"):
            try:
                engine.client.images.get(self.image)
            except engine.sdk.errors.ImageNotFound as exc:
                if not self.pull:
                    raise UnavailableError(f"{self.name}: the image is not here: {remedy}") from exc
                engine.client.images.pull(self.image)
        return time.perf_counter() - began_s

    def _options(self, engine: ContainerEngine) -> dict[str, Any]:
        limit = engine.sdk.types.Ulimit
        limits = [limit(name=name, soft=most, hard=most) for name, most in engine.ulimits.items()]
        wants_gpus = self.gpus != "none"
        return {
            "image": self.image,
            "command": list(self.command) or None,
            "entrypoint": list(self.entrypoint) or None,
            "environment": dict(self.env),
            "ports": {f"{self.port}/tcp": ("127.0.0.1", None)},
            "volumes": {
                str(Path(mount.source).resolve()): {
                    "bind": mount.target,
                    "mode": "ro" if mount.is_read_only else "rw",
                }
                for mount in self._all_mounts()
            },
            "shm_size": self.shm_size,
            "device_requests": engine.device_requests(self.name, self.gpus) if wants_gpus else None,
            "runtime": self.runtime,
            "ulimits": limits or None,
            # Without it SELinux hides mounts and GPUs from the container; elsewhere it means nothing.
            "security_opt": ["label=disable"] if self._all_mounts() or wants_gpus else None,
            "labels": {"assay": self.name},
        }

    def _all_mounts(self) -> tuple[Mount, ...]:
        if self.weights is None:
            return self.mounts
        target = f"{_WEIGHTS_TARGET}/{Path(self.weights).name}"
        return (*self.mounts, Mount(source=self.weights, target=target))

    def _failure(self, container: _Container, exc: Exception) -> LaunchError:
        command = " ".join((self.image, *self.command))
        with foreign_errors(self.name, f"the container `{command}` is gone; leave it alone while it starts"):
            status, tail = container.exit_status(), container.tail()
        if status is not None:
            what = f"exited with status {status}"
        else:
            what = f"did not answer on port {self.port} within {self.deadline_s:g} s ({exc})"
            what += "; see that it listens on 0.0.0.0, or allow more with deadline_s"
        return LaunchError(f"{self.name}: the container `{command}` {what}; its log ends:\n{tail}")


class _Container:
    """A container that is started or about to be."""

    def __init__(self, role: str, engine: ContainerEngine) -> None:
        self.name = f"assay-{role}-{uuid.uuid4().hex[:12]}"
        self.url = ""
        self._engine = engine
        self._ward = ("container", self.name, engine.socket)
        self._held: Any = None
        self._is_asked_for = False
        self._looked_s = 0.0

    def start(self, options: dict[str, Any], port: int) -> None:
        """Create it, start it, and find out where its port is."""
        the_watchdog().guard(*self._ward)
        self._is_asked_for = True
        self._held = self._engine.client.containers.create(name=self.name, **options)
        self._held.start()
        self._held.reload()
        published = self._held.ports.get(f"{port}/tcp")
        # One that has ended already has no ports any more.
        self.url = f"http://127.0.0.1:{published[0]['HostPort'] if published else 9}"

    def has_exited(self) -> bool:
        """Whether it has ended, by its engine's word of the last moment."""
        if time.monotonic() - self._looked_s > _LOOK_S:
            self._looked_s = time.monotonic()
            self._held.reload()
        return self._held.status in ("exited", "dead", "stopped")

    def exit_status(self) -> int | None:
        """Its exit status; `None` while it runs."""
        self._looked_s = 0.0
        return int(self._held.attrs["State"]["ExitCode"]) if self.has_exited() else None

    def tail(self) -> str:
        """What it said last."""
        log: bytes = self._held.logs(tail=_TAIL_LINES)
        return log.decode(errors="replace").strip() or "(empty)"

    def stop(self) -> None:
        """Kill and remove it; return when it is gone."""
        try:
            if self._is_asked_for:
                self._remove()
        except OSError as exc:
            # Left under guard: the watchdog will try again.
            remedy = f"{self._engine.program} rm -f {self.name}"
            raise LaunchError(f"the container {self.name} could not be removed ({exc}); {remedy}") from exc
        finally:
            self._engine.close()

    def _remove(self) -> None:
        # Interrupted while it was asked for, it may be known only in a moment.
        ends_s = time.monotonic() + (_IN_FLIGHT_S if self._held is None else 0.0)
        while not remove_container(self.name, self._engine.socket) and time.monotonic() < ends_s:
            time.sleep(0.05)
        the_watchdog().release(*self._ward)
