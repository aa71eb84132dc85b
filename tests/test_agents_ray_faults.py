"""Ray ends, is ended or does not match, in the middle: it is said why, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray")
pytest.importorskip("torch")

from tiny_llama import save_tiny_llama

from harness.agents.arms.keepalive import KeepAlive
from harness.agents.arms.serverless import Serverless
from harness.agents.cluster import RayCluster
from harness.errors import BackendBroken, BudgetError, LaunchError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.hardware.processes import find_process, is_alive

pytestmark = pytest.mark.nightly

MARK = "ASSAY_RAY_TEST"
DRIVER = """
import asyncio, signal, sys, time
from harness.agents.arms.keepalive import KeepAlive
from harness.agents.cluster import RayCluster
from harness.hardware.budget import DeviceBudget

async def main(cluster):
    agent = await KeepAlive(cluster, DeviceBudget.open(sys.argv[1]), model=sys.argv[2]).open(2000)
    print("ready", flush=True)
    while True:
        await agent.step([5], 1000)
        await agent.close()
        agent = await KeepAlive(cluster, DeviceBudget.open(sys.argv[1]), model=sys.argv[2]).open(2000)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
with RayCluster(*sys.argv[3:]) as cluster:
    print("connected", flush=True)
    asyncio.run(main(cluster))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(10**9, path=tmp_path / "ledger")
    yield budget
    budget.remove()


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Any]]]:
    """What is left of Ray that was started in this test: processes, and folders."""
    mark = uuid.uuid4().hex
    # Others may run Ray on this machine at the same time; and its sockets need a short path.
    place = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def look(within_s: float = 15.0) -> list[Any]:
        ends_s = time.monotonic() + within_s
        while True:
            found = [*_marked(mark), *place.glob("assay-ray-*")]
            if not found or time.monotonic() > ends_s:
                return found
            time.sleep(0.1)

    yield look
    shutil.rmtree(place, ignore_errors=True)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            is_other = process.pid != os.getpid() and "watchdog" not in " ".join(process.cmdline())
            is_live = process.status() != psutil.STATUS_ZOMBIE
            if is_other and is_live and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_dead_part_of_ray_is_named(
    part: str, budget: DeviceBudget, checkpoint: Path, left: Callable[[], list[Any]]
) -> None:
    """In the middle of a step, within seconds; after closing nothing is left, and another can be started."""

    async def lose(cluster: RayCluster) -> None:
        arm = KeepAlive(cluster, budget, model=str(checkpoint))
        agent = await arm.open(4000)
        step = asyncio.create_task(agent.step([5], 3900))
        await asyncio.sleep(0.3)
        assert not step.done()
        os.kill(cluster.pids[part], signal.SIGKILL)
        began_s = time.monotonic()
        dead = rf"Ray's .*{part} \(pid {cluster.pids[part]}\).* gone"
        with pytest.raises(BackendBroken, match=rf"agent 1 .*: {dead}"):
            await step
        assert time.monotonic() - began_s < 10
        with pytest.raises(BackendBroken, match=dead):
            await arm.open(100)
        await arm.close()
        cluster.close()
        with pytest.raises(BackendBroken, match="ray-keepalive: Ray was closed"):
            await arm.open(100)
        with pytest.raises(BackendBroken, match="ray-serverless agent 1: Ray was closed"):
            await (await serverless.open(100)).step([5], 1)

    with RayCluster() as cluster:
        serverless = Serverless(cluster, budget)
        asyncio.run(lose(cluster))
    assert left() == []
    assert budget.used_bytes == 0
    with RayCluster() as again:
        assert again.failure is None


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["starting", "connected", "ready"])
def test_nothing_of_ray_outlives_its_driver(
    when: str,
    sign: signal.Signals,
    budget: DeviceBudget,
    checkpoint: Path,
    left: Callable[[], list[Any]],
) -> None:
    """Whatever ended it, and whenever: no process, no folder, no bytes of the budget."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(budget.path), str(checkpoint)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with driver:
        assert driver.stdout is not None
        if when == "starting":
            time.sleep(3)
        else:
            while driver.stdout.readline().strip() != when:
                assert driver.poll() is None
        driver.send_signal(sign)
        driver.stdout.read()
        driver.wait(60)
    assert left() == []
    assert budget.used_bytes == 0


def test_a_cluster_of_two_nodes_is_used_by_its_address(
    budget: DeviceBudget, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents run on the driver's node, though it offers no CPU; they end with it, and the cluster stays."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    # The address of the head is written to its folder `ray`, which need not exist in /tmp.
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    (folder / "ray").mkdir()
    small = {"num_cpus": 0, "object_store_memory": 80_000_000}
    nodes = Cluster(initialize_head=True, head_node_args={**small, "temp_dir": str(folder)})
    try:
        nodes.add_node(**small)
        nodes.wait_for_nodes()

        async def use(cluster: RayCluster) -> int:
            arm = KeepAlive(cluster, budget, model=str(checkpoint))
            agent = await arm.open(100)
            step = await agent.step([5, 6], 3)
            await arm.close()
            assert len(step.token_ids) == 3
            return agent.started.process.pid

        with RayCluster(nodes.address) as cluster:
            assert set(cluster.pids) == {"raylet", "gcs_server"}
            pid = asyncio.run(use(cluster))
            with pytest.raises(UsageError, match="connected to Ray already"):
                RayCluster(nodes.address)
        assert not is_alive(find_process(pid))
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(budget.path), str(checkpoint), nodes.address],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        with driver:
            assert driver.stdout is not None
            while driver.stdout.readline().strip() != "ready":
                assert driver.poll() is None
            assert budget.used_bytes > 0
            driver.kill()
        ends_s = time.monotonic() + 15
        while budget.used_bytes and time.monotonic() < ends_s:
            time.sleep(0.1)
        assert budget.used_bytes == 0
        with RayCluster(nodes.address) as again:
            assert again.failure is None
            _pretend_version("2.1.0")
        with pytest.raises(
            LaunchError, match=r"ray at .*: .*2\.1\.0.*; it has to be the Ray that is installed"
        ):
            RayCluster(nodes.address)
    finally:
        nodes.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    assert budget.used_bytes == 0


def _pretend_version(version: str) -> None:
    from ray._private import ray_constants
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    key, namespace = b"CLUSTER_METADATA", ray_constants.KV_NAMESPACE_CLUSTER
    found = json.loads(_internal_kv_get(key, namespace=namespace))
    found["ray_version"] = version
    _internal_kv_put(key, json.dumps(found).encode(), overwrite=True, namespace=namespace)


def test_every_step_of_a_task_is_a_process_of_its_own(
    budget: DeviceBudget, checkpoint: Path, left: Callable[[], list[Any]]
) -> None:
    """It computes all again; without room it is refused, killed it is named, and abandoned it is ended."""

    async def steps(cluster: RayCluster) -> None:
        arm = Serverless(cluster, budget, model=str(checkpoint), wait_s=0)
        agent, other = await arm.open(100), await arm.open(4000)
        reason = await agent.step([5, 6, 7], 4)
        reflect = await agent.step([8], 4)
        assert reason.pid != reflect.pid
        assert (reflect.reused_tokens, reflect.prefilled_tokens) == (0, 3 + 4 + 1)
        others = budget.allocate(budget.free_bytes, owner="others")
        with pytest.raises(BudgetError, match=r"bytes asked, 0 of 1000000000 are free; held by others"):
            await agent.step([9], 4)
        others.release()
        assert (await agent.step([9], 4)).prefilled_tokens == 3 + 4 + 1 + 4 + 1
        killed = asyncio.create_task(other.step([5], 3900))
        while not budget.used_bytes:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        pid = budget.holders()[0].pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BackendBroken, match=rf"agent 2 \(pid {pid}\): its process is gone"):
            await killed
        assert budget.used_bytes == 0
        abandoned = asyncio.create_task(other.step([5], 3900))
        while not budget.used_bytes:
            await asyncio.sleep(0.05)
        pid = budget.holders()[0].pid
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        await arm.close()
        assert not any(is_alive(started.process) for started in agent.started)
        ends_s = time.monotonic() + 10
        while budget.used_bytes and time.monotonic() < ends_s:
            await asyncio.sleep(0.05)
        assert budget.used_bytes == 0
        assert not is_alive(find_process(pid))

    with RayCluster() as cluster:
        asyncio.run(steps(cluster))
    assert left() == []
