"""What holds the arms of agents: room on a GPU, and a reference that is not its own measure."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("msgspec")

import torch

from fixtures.agents import AgentsStand, Served
from fixtures.agents_arms import patience_of
from fixtures.agents_lines import Lines
from fixtures.agents_runs import Agents
from fixtures.agents_values import Round, Taken
from fixtures.agents_variants import ARMS, Work
from fixtures.decode_variants import Chosen
from harness.agents.arms.keepalive import KeepAlive, KeepAliveAgent
from harness.agents.arms.worker import Place
from harness.agents.base import Agent, Phase, Script, Step
from harness.errors import BudgetError
from harness.hardware.budget import DeviceBudget
from harness.hardware.memory import REFUSED
from harness.sessions.core.slab import Slab, SlabShape

SCRIPT = Script(prompt_ids=(1, 2), observation_ids=(3,), new_tokens=1, sleep_s=0.0)


class Resting:
    """An arm that does nothing."""

    name = "resting"

    async def open(self, max_tokens: int) -> Agent:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def stand() -> Iterator[AgentsStand]:
    stand = AgentsStand(Work(chosen=Chosen()))
    yield stand
    stand.close()


def a_round(reason: int, reflect: int) -> Round:
    """One agent that gave these tokens."""
    return Round(
        [
            Taken(0, phase, 0.0, Step(token_ids=(token,), asked_s=0, first_token_s=1, done_s=1), 1)
            for phase, token in zip(Phase, (reason, reflect), strict=True)
        ]
    )


def test_what_the_reference_gave_first_is_what_it_has_to_give_again(stand: AgentsStand) -> None:
    """A control that is compared with itself cannot differ."""
    stand.learn([SCRIPT], a_round(7, 8))
    stand.learn([SCRIPT], a_round(7, 9))
    assert stand.expected([SCRIPT]) == {(0, Phase.REASON): (7,), (0, Phase.REFLECT): (8,)}


@pytest.mark.parametrize(("device", "is_left"), [("cpu", True), ("cuda", False)])
def test_the_session_server_makes_room_where_there_is_one_gpu(device: str, is_left: bool) -> None:
    """Its weights would be refused to an arm that is to fill the device; a processor has room for both."""
    stand = AgentsStand(Work(chosen=Chosen(device=device)))
    budget = DeviceBudget.create(100)
    stand._served |= {name: Served(Resting(), budget, 0, None) for name in ("shared", "shared-recompute")}
    vars(stand)["model"] = SimpleNamespace(weight_bytes=100, slab_shape=SimpleNamespace(token_bytes=3))
    assert stand.kv_bytes(5) == 15
    try:
        stand.make_room()
        assert ("model" in vars(stand)) is is_left
        assert stand.kv_bytes(5) == 15
        assert budget.path.exists() is is_left
        assert ("shared" in stand._served) is is_left
    finally:
        stand.close()


@pytest.mark.parametrize("name", ["ray-keepalive", "ray-serverless"])
def test_processes_on_a_gpu_are_told_beforehand_what_each_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serverless agents come at once: had the first one to tell, all would load, and find no room.

    An agent that is kept is refused before it loads, and not when it has loaded.
    """
    stand = AgentsStand(Work(chosen=Chosen(device="cuda")))
    vars(stand)["model"] = SimpleNamespace(weight_bytes=100, slab_shape=SimpleNamespace(token_bytes=3))
    cluster = Cluster()
    monkeypatch.setattr(stand.starter, "_the_cluster", lambda: cluster)
    monkeypatch.setattr(KeepAliveAgent, "start", cluster.start)
    monkeypatch.setattr(KeepAliveAgent, "close", closed)
    served = stand.serve(name, 2, 5)
    arm = served.arm
    assert served.deadline_s == 2400  # of a round: 64 steps, five at a time
    assert "model" not in vars(stand)  # or its weights would take the place of an agent's
    try:
        if isinstance(arm, KeepAlive):
            with pytest.raises(Asked):
                stand.run(arm.open(5))
        else:
            with pytest.raises(Asked):
                arm.ask((1, 2), 1, 5)  # type: ignore[attr-defined]
        assert [place.needed_bytes for place in cluster.places] == [100 + 15]
    finally:
        stand._served.clear()
        stand.close()


async def closed(agent: KeepAliveAgent) -> None:
    """Nothing was started."""


class Asked(Exception):
    """Enough was seen."""


class Cluster:
    """Takes what is asked of Ray, and starts nothing."""

    failure = None

    def __init__(self) -> None:
        self.places: list[Place] = []

    def require(self, who: str) -> None: ...

    def runtime_env(self, env: dict[str, str]) -> dict[str, str]:
        return env

    async def start(self, place: Place) -> None:
        self.remote(place)

    def options(self, **_: object) -> Cluster:
        return self

    def remote(self, *given: Any, **_: object) -> Cluster:
        if given and isinstance(given[0], Place):
            self.places.append(given[0])
            raise Asked
        return self


def test_a_gpus_agents_wait_as_long_as_their_weights_take() -> None:
    """Thirty-two that each load 13 GB, five at once; a processor's wait as they did."""
    assert patience_of("ray-serverless", "cuda") == {"timeout_s": 1200.0, "wait_s": 600.0}
    assert patience_of("ray-keepalive", "cuda:3") == {"timeout_s": 1200.0}
    assert patience_of("ray-serverless", "cpu") == {}


def on_a_gpu_of(device_bytes: int, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The options of a node's run there, none of them given."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (device_bytes // 2, device_bytes))
    return SimpleNamespace(
        profile="node", model_id="llama-34m", prompt_tokens=None, observation_tokens=None, new_tokens=None,
        sleep_s=None, arrival_rate=None, ray_address=None, prefix_cache_url=None, agents_budget_gb=None,
    )  # fmt: skip


def test_a_gpus_budget_leaves_room_for_what_no_budget_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the whole device in it, the device would refuse before the budget, at a count nobody predicts."""
    option = on_a_gpu_of(80 * 10**9, monkeypatch)
    work = Work.of(option)
    assert (work.device_bytes, work.budget_of("shared", 32)) == (80 * 10**9, 79 * 10**9)
    assert [work.budget_of("ray-keepalive", count) / 1e9 for count in (1, 4, 16)] == [79.0, 77.5, 71.5]
    option.agents_budget_gb = 80.0
    work = Work.of(option)
    assert [work.budget_of("ray-keepalive", count) // 10**9 for count in (1, 16)] == [80, 80]
    assert work.device_bytes == 80 * 10**9


def test_a_record_names_the_device_beside_its_own_budget(
    monkeypatch: pytest.MonkeyPatch, stand: AgentsStand
) -> None:
    """Four agents with a process each draw on less of it than a server."""
    monkeypatch.setattr(stand, "work", Work.of(on_a_gpu_of(80 * 10**9, monkeypatch)))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA A100-SXM4-80GB")
    agents = Agents(stand, "node", Lines())
    for name, count, budget_gb in (
        ("ray-keepalive-4", 4, 77.5),
        ("shared-4", 4, 79.0),
        ("curve-rate", 16, 79.0),
    ):
        told = agents.record(name, None, count, None).settings
        found = told["device_bytes"], told["budget_bytes"], told["budget_gb"]
        assert found == (80 * 10**9, budget_gb * 1e9, budget_gb)


@pytest.mark.parametrize(
    ("device_bytes", "agents", "agent_bytes", "holds"),
    [
        (85.1e9, 4, 27.168e9, 3),
        (85.1e9, 4, 13.584e9, 6),
        (85.1e9, 16, 13.584e9, 5),
        (150.1e9, 16, 13.584e9, 10),
        (288e9, 16, 13.584e9, 20),
    ],
)
def test_what_is_spared_of_a_gpu_decides_no_published_row(
    monkeypatch: pytest.MonkeyPatch, device_bytes: float, agents: int, agent_bytes: float, holds: int
) -> None:
    """An A100's 85 GB hold three models in fp32, by arithmetic and by the budget; 226 GB hold 16 in fp16."""
    work = Work.of(on_a_gpu_of(int(device_bytes), monkeypatch))
    assert work.budget_of("ray-keepalive", agents) // agent_bytes == holds


def test_a_processors_budget_is_one_for_every_arm() -> None:
    """It has no contexts, and its records no device's bytes."""
    work = Work(chosen=Chosen.of("pocket", "llama-34m"))
    assert {work.budget_of(arm, 32) for arm in ARMS} == {work.budget_bytes} == {455 * 2**20}
    assert work.device_bytes is None


def test_a_slab_that_the_machine_refuses_is_out_of_memory_and_draws_nothing() -> None:
    """More than a process can address, though the budget would grant it."""
    budget = DeviceBudget.create(2**61)
    shape = SlabShape(1, 1, 2**20, torch.float32, torch.device("cpu"))
    try:
        with pytest.raises(BudgetError, match=REFUSED):
            Slab.draw(shape, 2**30, budget, owner="one")
        assert budget.used_bytes == 0
    finally:
        budget.remove()
