"""What holds the arms of agents: room on a GPU, and a reference that is not its own measure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("msgspec")

import torch

from fixtures.agents import AgentsStand, Served
from fixtures.agents_values import Round, Taken
from fixtures.agents_variants import Work
from fixtures.decode_variants import Chosen
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
    try:
        stand.make_room()
        assert budget.path.exists() is is_left
        assert ("shared" in stand._served) is is_left
    finally:
        stand.close()


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
