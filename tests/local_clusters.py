"""Ray clusters of several nodes on this machine, and a project whose variants are quick to measure."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["CONFTEST", "ROOT", "LocalCluster", "finished", "local_cluster", "make_project", "pytest_command"]

ROOT = Path(__file__).resolve().parents[1]
_STORE_BYTES = 80_000_000

CONFTEST = (
    'pytest_plugins = ["reports.plugin", "fixtures.options", "fixtures.clusters", "fixtures.pairing"]\n'
)
BENCH = """
import json, os, time
from pathlib import Path
import pytest
from fixtures.pairing import Arm, Measured
from reports.plugin import RUN_DIR
from reports.records import Metric, Record

pytestmark = pytest.mark.demo
GATE = Path(os.environ.get("DEMO_GATE", "/nonexistent"))


def arm(name, factor):
    return Arm(name, lambda: Measured({"wall_s": factor}))


@pytest.mark.parametrize("variant", ["one", "two", "three", "four", "broken", "absent", "killed"])
def test_demo(variant, paired, request):
    if os.environ.get("DEMO_LOG"):
        with open(os.environ["DEMO_LOG"], "a") as log:
            threads = os.environ.get("OMP_NUM_THREADS")
            print(variant, os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), threads, file=log)
    while variant == os.environ.get("DEMO_WAITS") and not GATE.exists():
        time.sleep(0.05)
    if variant == "absent":
        pytest.skip("needs what is not here")
    if variant == "killed":
        print("about to go", flush=True)
        os.kill(os.getpid(), 9)
    record = Record(experiment="demo", variant=variant, control="full", backend="fake", profile="pocket",
                    metrics={"wall_s": Metric(unit="s", better="lower", what="wall")})
    paired.run(record, arm(variant, 0.5), arm("full", 1.0))
    run = request.config.stash[RUN_DIR]()
    with (run / "telemetry.jsonl").open("a") as lines:
        print(json.dumps({"variant": variant}), file=lines)
    (run / "artifacts").mkdir(exist_ok=True)
    plan = run / "load-plan.json"
    if not plan.exists():
        plan.write_text(str(os.getpid()))
    (run / "artifacts" / f"{variant}.json").write_text(plan.read_text())
    assert variant != "broken", "it broke"
"""
CLAIM = """
[[claim]]
id = "{name}-halves"
version = 1
source = "a paper, Table 1"
says = "{name} takes half"
form = "at_least"
metric = "wall_s"
quantity = "ratio"
treatment = "{name}"
control = "full"
published = 1.5
{more}
"""


def make_project(folder: Path, *rivals: str) -> Path:
    """A project of seven variants; `one` and its rivals are a block, since a claim compares them."""
    (folder / "bench" / "claims").mkdir(parents=True)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pyproject.toml").write_text(
        '[tool.pytest]\nmarkers = ["demo"]\npythonpath = ["."]\nfilterwarnings = ["error"]\n'
    )
    (folder / "bench" / "test_demo.py").write_text(BENCH)
    beaten = json.dumps(rivals)
    rows = (("one", f"also_beats = {beaten}"), ("three", ""), ("four", ""))
    text = "".join(CLAIM.format(name=name, more=more) for name, more in rows)
    (folder / "bench" / "claims" / "demo.toml").write_text(text)
    return folder


def pytest_command(results: Path, *options: str) -> list[str]:
    """A session over a project's bench, in its root."""
    usual = ("--results-dir", str(results), "-p", "no:cacheprovider")
    return [sys.executable, "-m", "pytest", "bench/", *usual, *options]


class LocalCluster:
    """A head that takes nothing, and nodes with one processor each."""

    def __init__(
        self, folder: Path, num_nodes: int, each: Mapping[str, Any], head: Mapping[str, Any]
    ) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": _STORE_BYTES,
                "temp_dir": str(folder),
                **head,
            },
        )
        self.address: str = self._cluster.address
        self._nodes = {}
        for index in range(num_nodes):
            # Ray unpacks what it is sent below a node's folder.
            node = self._cluster.add_node(
                object_store_memory=_STORE_BYTES,
                temp_dir=f"{folder}{index}",
                **{"num_cpus": 1, **each},
            )
            self._nodes[node.node_id[:8]] = node

    def kill(self, label: str) -> None:
        """End a node as a power cut does; `label`, as a run names it."""
        self._cluster.remove_node(self._nodes.pop(label.rpartition("/")[2]), allow_graceful=False)

    def stop(self) -> None:
        """End all of it."""
        self._cluster.shutdown()
        del self._cluster
        self._nodes.clear()
        with warnings.catch_warnings():  # Ray leaves a socket, which would fail whatever test collects it
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@contextmanager
def local_cluster(
    num_nodes: int, *, each: Mapping[str, Any] | None = None, head: Mapping[str, Any] | None = None
) -> Iterator[LocalCluster]:
    """A cluster whose workers find this project's modules; gone afterwards, files too.

    Arguments: what `each` node and its `head` are started with, in Ray's names.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need a short path
    changed = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    (folder / "ray").mkdir()  # the head's address is written there
    cluster = None
    try:
        cluster = LocalCluster(folder, num_nodes, each or {}, head or {})
        yield cluster
    finally:
        if cluster is not None:
            cluster.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for path in folder.parent.glob(f"{folder.name}*"):
            shutil.rmtree(path, ignore_errors=True)


def finished(command: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    whole = {**os.environ, "COLUMNS": "200", **env}
    return subprocess.run(command, cwd=cwd, env=whole, capture_output=True, text=True, timeout=500)
