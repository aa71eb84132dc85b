"""Variants of agents over real session servers that count instead of computing: recorded, checked, killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec")

from fixtures.agents import AgentsStand
from fixtures.agents_curves import measure_rates
from fixtures.agents_lines import Lines
from fixtures.agents_runs import Agents
from fixtures.agents_variants import Variant, Work
from fixtures.decode_variants import Chosen
from fixtures.options import Settings
from fixtures.pairing import Pairing
from harness.hardware.budget import DeviceBudget
from harness.hardware.processes import Process, is_alive
from reports.records import Record

WORK = Work(
    chosen=Chosen(model_id="counting"), prompt_tokens=40, observation_tokens=4, new_tokens=3, sleep_s=0.05,
    budget_bytes=10 * 64 * 50,
)  # fmt: skip
"""Ten sessions of 50 tokens fit; the engine that counts has no weights."""


class Benchmark:
    """pytest-benchmark's pedantic, as the pairing sees it."""

    enabled = True
    has_error = False

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(
        self, target: Any, *, setup: Any = None, teardown: Any = None, rounds: int, warmup_rounds: int
    ) -> None:
        for _ in range(rounds + warmup_rounds):
            if setup:
                setup()
            target()
            if teardown:
                teardown()


def pairing(rounds: int = 3) -> Pairing:
    return Pairing(Benchmark(), Settings(rounds=rounds, warmup_rounds=1))


@pytest.fixture(scope="module")
def stand() -> Iterator[AgentsStand]:
    stand = AgentsStand(WORK)
    yield stand
    stand.close()


@pytest.fixture
def agents(stand: AgentsStand) -> Agents:
    return Agents(stand, "pocket", Lines())


def failed(record: Record) -> list[str]:
    return [f"{check.name}: {check.observed}" for check in record.checks if not check.ok]


def server_pid(stand: AgentsStand) -> int:
    pid = stand.serve("shared", 0, 0).arm.server.pid  # type: ignore[attr-defined]
    assert pid is not None
    return int(pid)


def test_a_count_is_measured_beside_the_server_without_memory(agents: Agents) -> None:
    """Equal tokens, all of the history reused or none, every step a request, and nothing is left."""
    record = agents.measure(Variant("shared-4"), pairing(rounds=9))
    assert not record.failures
    assert failed(record) == []
    assert {check.name for check in record.checks} == {
        "equal_tokens", "fits_budget", "oom_is_physical", "nothing_left", "reuse_counted"
    }  # fmt: skip
    assert (record.control, len(record.rounds), record.complete) == ("shared-recompute-4", 3, True)
    assert record.values("finished_agents") == record.values("finished_agents", "control") == [4.0] * 3
    assert record.values("reused_tokens") == [42.0] * 3
    assert record.values("recomputed_tokens", "control") == [42.0] * 3
    requests = [p for p in record.sweep if p["name"] == "request" and p["arm"] == "treatment"]
    assert sorted({p["agent"] for p in requests}) == [0, 1, 2, 3]
    assert len(requests) == 2 * 4 * 3
    assert len([p for p in record.sweep if p["name"] == "point"]) == 2 * 4 * 3
    assert record.settings["workload"] == "prompt40-new3"
    assert "shared-4" in agents.lines.lines[0]


def test_who_finds_no_room_is_a_finding_and_the_others_finish(agents: Agents) -> None:
    """The eleventh of eleven agents; larger counts are known to be out of memory."""
    record = agents.measure(Variant("shared-11"), pairing(rounds=1))
    assert not record.failures
    assert failed(record) == []
    assert (record.values("oom_at"), record.values("finished_agents")) == ([11.0], [10.0])
    assert record.values("refused_bytes") == [64.0 * 50]
    assert agents.refused_at == {"shared": 11}
    assert "out of memory at agent 11" in agents.lines.lines[0]


def test_a_server_that_is_killed_fails_its_round_and_the_next_one_has_another(
    agents: Agents, stand: AgentsStand
) -> None:
    """The cause is told, and nothing of the killed one is left."""
    agents.stand.work = replace(WORK, sleep_s=1.0)
    pid = server_pid(stand)
    killer = threading.Timer(0.4, os.kill, (pid, signal.SIGKILL))
    killer.start()
    try:
        record = agents.measure(Variant("shared-16"), pairing(rounds=1))
    finally:
        killer.join()
        agents.stand.work = WORK
    assert record.failures
    assert "ended with signal 9" in record.failures[0].error
    assert "failed: " in agents.lines.lines[0]
    again = agents.measure(Variant("shared-2"), pairing(rounds=1))
    assert not again.failures
    assert failed(again) == []
    assert server_pid(stand) != pid


def test_a_curve_of_rates_stays_below_the_measured_saturation(agents: Agents) -> None:
    """And has a point for each of its shares, with an agent alone beside it."""
    agents.stand.work = replace(WORK, budget_bytes=64 * 50 * 100)
    agents.stand.drop("shared")
    try:
        curve = measure_rates(agents, pairing())
        assert failed(curve) == []
        points = [p for p in curve.sweep if p["name"] == "point"]
        assert [p["saturation_share"] for p in points] == [0.3, 0.6, 0.9]
        assert all(p["arrival_rate_per_s"] < p["saturation_per_s"] for p in points)
        assert all(p["reflect_ttft_p50_s"] > 0 and p["alone_ttft_p50_s"] > 0 for p in points)
    finally:
        agents.stand.work = WORK
        agents.stand.drop("shared")


def test_closing_ends_the_server_and_removes_its_budget() -> None:
    """A second close does nothing."""
    stand = AgentsStand(WORK)
    pid, path = server_pid(stand), stand.serve("shared", 0, 0).budget.path
    assert Path(path).exists()
    stand.close()
    by_s = time.monotonic() + 10
    while is_alive(Process(pid, None)) and time.monotonic() < by_s:
        time.sleep(0.02)
    assert not is_alive(Process(pid, None))
    assert not Path(path).exists()
    stand.close()


@pytest.mark.nightly
@pytest.mark.parametrize("part", ["raylet", "worker"])
def test_what_of_ray_is_killed_fails_its_variant_and_the_next_one_runs(part: str) -> None:
    """An agent's process, or what no agent goes on without: told by name, and started again."""
    pytest.importorskip("ray")
    pytest.importorskip("torch")
    stand = AgentsStand(Work(chosen=Chosen(), sleep_s=8.0))
    agents = Agents(stand, "pocket", Lines())
    name = "ray-keepalive"
    try:
        served = stand.serve(name, 1, stand.work.max_tokens)
        pids = served.arm.cluster.pids  # type: ignore[attr-defined]
        killer = threading.Thread(target=_kill, args=(part, pids, served.budget))
        killer.start()
        record = agents.measure(Variant(f"{name}-1"), pairing(rounds=1))
        killer.join()
        assert "gone" in record.failures[0].error or "died" in record.failures[0].error, record.failures
        stand.work = replace(stand.work, sleep_s=0.1)
        again = agents.measure(Variant(f"{name}-1"), pairing(rounds=1))
        assert not again.failures
        assert failed(again) == []
    finally:
        stand.close()


def _kill(part: str, pids: dict[str, int], budget: DeviceBudget) -> None:
    """Once an agent holds its memory and has reasoned."""
    by_s = time.monotonic() + 60
    while not budget.holders() and time.monotonic() < by_s:
        time.sleep(0.1)
    time.sleep(3.0)
    os.kill(pids["raylet"] if part == "raylet" else budget.holders()[0].pid, signal.SIGKILL)
