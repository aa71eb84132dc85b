"""Errands over the nodes of a Ray cluster: the working tree goes there, events come home one by one.

Each errand is one Ray task with the resources that it needs, so Ray says where and when it runs. The task is
a generator: what it yields is at home before the errand ends. Ray never runs one again by itself, since only
who sent it knows what has come home; a lost errand is told as `Lost`, and it is for the sender to send the
rest of it again.

Traps: Ray has to run on this machine too, as a node of that cluster; with no processors to offer it takes no
errand (`ray start --address=… --num-cpus=0`). The tree is sent as a package of at most 512 MB, without what
`EXCLUDED` names. Dependencies are not sent: Python, Ray and the project's extras have to be on every node.
Nodes that share a machine need a `--temp-dir` each: Ray unpacks the tree there, and one would take it away
from under the other.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.agents.cluster import RayCluster, require_ray
from harness.clusters.errand import Began, Errand, Event, Lost, perform
from harness.clusters.kinds import (
    Node,
    Resources,
    alike,
    default_resources,
    describe_machine,
    eligible,
    is_share,
    num_at_once,
)
from harness.errors import LaunchError, UsageError

__all__ = ["EXCLUDED", "Errands", "find_address"]

EXCLUDED = (
    "/.git", "/results", "/reports/reference", "/reports/nightly", "/build", "/dist", "/.venv", "/venv",
    "/.tox", "__pycache__", ".*_cache", ".hypothesis", ".benchmarks", "*.egg-info",
)  # fmt: skip
"""Of the working tree, what no errand needs; as .gitignore has it."""
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in what `ray job submit` runs."""
_DESCRIBED_S = 120.0
_GONE_S = 20.0
"""So long may no node be there that could take what waits; one may be on its way back."""


def find_address(given: str) -> str:
    """HOST:PORT of the cluster; `auto` is what RAY_ADDRESS says, or what runs on this machine.

    Raises
    ------
    UsageError: `auto`, and there is neither.
    """
    if given != "auto":
        return given
    told = os.environ.get("RAY_ADDRESS", "")
    if told and told != "auto":
        return told
    path = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    found = path.read_text().strip() if path.is_file() else ""
    if not found:
        raise UsageError("--ray-address auto: no Ray runs on this machine, and RAY_ADDRESS is not set")
    return found


class Errands:
    """The errands that were sent to a cluster, from the constructor to `close`.

    Arguments
    ---------
    address: HOST:PORT of a cluster with a node on this machine.
    root: of the working tree, which is sent.
    resources: that each errand asks for; None takes `default_resources`.
    with_gpu: whether errands would use a GPU where there is one.

    Raises
    ------
    UnavailableError, LaunchError: as `RayCluster`.
    UsageError: no node can take an errand, or those that can are machines of different kinds.
    """

    def __init__(self, address: str, root: Path, *, resources: Resources | None, with_gpu: bool) -> None:
        self._ray = require_ray()
        self._cluster = RayCluster(address, job_env=_job_env(root))
        self.address = self._cluster.address
        self._running: dict[Any, Errand] = {}
        self._where: dict[str, str] = {}
        try:
            nodes = self.nodes()
            self.resources = resources or default_resources(nodes, with_gpu=with_gpu)
            self.is_share = is_share(nodes, self.resources)
            """Whether an errand leaves processors of its node to others."""
            self.kinds = self._described(eligible(nodes, self.resources))
            """Label of each node that can take an errand → its machine in words."""
            self.kind = alike(self.kinds)
        except BaseException:
            self._cluster.close()
            raise
        self._task = self._ray.remote(max_retries=0, **_options(self.resources))(_perform)

    def nodes(self) -> list[Node]:
        """Those that are alive."""
        return [
            Node(node["NodeID"], node["NodeName"], node["Resources"])
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    @property
    def num_at_once(self) -> int:
        """How many errands run side by side on the nodes that are alive; 0 where the cluster is gone.

        Ray waits for a GCS that is gone for as long as this process lives, so it is not asked then.
        """
        if self._cluster.failure is not None:
            return 0
        try:
            return num_at_once(self.nodes(), self.resources)
        except self._ray.exceptions.RayError:
            return 0

    def send(self, errand: Errand) -> None:
        """Have it run as soon as a node has room for it."""
        self._running[self._task.remote(errand)] = errand

    def events(self, look_s: float = 1.0) -> Iterator[tuple[Errand, Event] | None]:
        """What happens, until every errand has ended or is lost; None each `look_s` in which nothing does.

        Raises
        ------
        LaunchError: the cluster itself is gone.
        """
        since_s: float | None = None
        while self._running:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=look_s)
            if ready:
                yield from self._taken(ready[0])
                continue
            if (cause := self._cluster.failure) is not None:
                raise LaunchError(f"ray at {self.address}: {cause}; what came home is kept")
            since_s = None if eligible(self.nodes(), self.resources) else since_s or time.monotonic()
            if since_s is not None and time.monotonic() - since_s > _GONE_S:
                yield from self._given_up()
            yield None

    def close(self) -> None:
        """End what runs, and leave the cluster as it was."""
        self._running.clear()
        self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _taken(self, generator: Any) -> Iterator[tuple[Errand, Event]]:
        errand = self._running[generator]
        try:
            event: Event = self._ray.get(next(generator))
        except StopIteration:
            del self._running[generator]
            self._where.pop(errand.name, None)
            return
        except self._ray.exceptions.RayError as exc:
            del self._running[generator]
            yield errand, Lost(self._where.pop(errand.name, None), _one_line(exc))
            return
        if isinstance(event, Began):
            self._where[errand.name] = event.node
        yield errand, event

    def _given_up(self) -> Iterator[tuple[Errand, Event]]:
        asked = ", ".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        running, self._running = self._running, {}
        for generator, errand in running.items():
            self._ray.cancel(generator, force=True)
            yield errand, Lost(None, f"no node that has {asked} is left")

    def _described(self, nodes: list[Node]) -> dict[str, str]:
        strategies = import_module("ray.util.scheduling_strategies")
        ask = self._ray.remote(num_cpus=0, max_retries=0)(describe_machine)
        asked = {
            node.label: ask.options(
                scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote()
            for node in nodes
        }
        try:
            return dict(zip(asked, self._ray.get(list(asked.values()), timeout=_DESCRIBED_S), strict=True))
        except self._ray.exceptions.RayError as exc:
            raise LaunchError(f"ray at {self.address}: a node could not be asked ({_one_line(exc)})") from exc


def _perform(errand: Errand) -> Iterator[Event]:
    """`perform`, in a worker of Ray."""
    ray = require_ray()
    context = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    yield from perform(errand, Node(here["NodeID"], here["NodeName"], {}).label)


def _options(resources: Mapping[str, float]) -> dict[str, Any]:
    rest = dict(resources)
    named = {"num_cpus": rest.pop("CPU", 0.0), "num_gpus": rest.pop("GPU", 0.0)}
    if "memory" in rest:
        named["memory"] = rest.pop("memory")
    return {**named, "resources": rest}


def _job_env(root: Path) -> dict[str, Any]:
    """The tree for every worker; what a Ray job was sent with stays, since that is what runs here."""
    sent = json.loads(os.environ.get(_JOB) or "{}").get("runtime_env", {})
    if "working_dir" in sent:
        return {}
    return {"working_dir": str(root), "excludes": list(EXCLUDED)}


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:400]
