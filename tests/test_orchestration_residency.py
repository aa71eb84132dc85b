"""What is loaded holds its bytes, room is made first, and nothing is left behind on any way out."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.backends.fake import FakeBackend
from harness.clock import run_virtual
from harness.errors import BackendTimeout, BudgetError, LaunchError, UsageError
from harness.hardware import DeviceBudget
from harness.routers.orchestration import Residency
from harness.routers.orchestration.loadable import KeptModel, SimulatedModel
from tests.orchestrated import simulated

NAMES = ("m0", "m1", "m2", "m3")
SUBSETS = st.sets(st.sampled_from(NAMES))


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    budget_bytes=st.integers(1, 14),
    others_bytes=st.integers(0, 3),
    changes=st.lists(st.tuples(SUBSETS, SUBSETS), max_size=6),
)
def test_the_ledger_is_what_is_loaded_and_a_refusal_changes_nothing(
    sizes: tuple[int, ...],
    budget_bytes: int,
    others_bytes: int,
    changes: list[tuple[set[str], set[str]]],
) -> None:
    """Beside another holder of the budget too; what is refused really does not fit."""
    budget = DeviceBudget.create(budget_bytes + others_bytes)
    other = budget.allocate(others_bytes, owner="other") if others_bytes else None
    models = [simulated(name, size) for name, size in zip(NAMES, sizes, strict=True)]

    async def main() -> None:
        async with Residency(models, budget) as residency:
            for keep, wanted in changes:
                before = residency.resident
                after = (set(before) & keep) | wanted
                try:
                    change = await residency.change(sorted(keep), sorted(wanted))
                except BudgetError:
                    assert residency.bytes_of(after) > budget_bytes
                    assert residency.resident == before
                else:
                    assert residency.bytes_of(after) <= budget_bytes
                    assert set(change.resident) == after
                    assert set(change.loaded) == wanted - set(before)
                    assert set(change.evicted) == set(before) - after
                assert budget.used_bytes == others_bytes + residency.bytes_of(residency.resident)
                assert residency.room_bytes == budget_bytes

    run_virtual(main())
    assert budget.used_bytes == others_bytes
    if other is not None:
        other.release()
    budget.remove()


def test_a_load_is_timed_and_room_is_made_before_it() -> None:
    """The peak is that of one model at a time: old and new are never drawn together."""
    budget = DeviceBudget.create(6)

    async def main() -> None:
        models = [simulated("a", 4, load_s=1.5), KeptModel("b", 5, FakeBackend())]
        async with Residency(models, budget) as residency:
            assert (await residency.change([], ["a"])).load_s == {"a": 1.5}
            assert (await residency.change([], ["b"])).load_s == {"b": None}

    run_virtual(main())
    assert budget.peak_bytes == 5


class Stubborn(SimulatedModel):
    """Fails on purpose where it is told to."""

    fails_load = fails_unload = False

    async def load(self) -> FakeBackend:
        if self.fails_load:
            raise LaunchError(f"{self.name}: no")
        return await super().load()

    async def unload(self) -> None:
        if self.fails_unload:
            raise BackendTimeout(f"{self.name}: still there")
        await super().unload()


def stubborn(name: str, num_bytes: int) -> Stubborn:
    return Stubborn(name, num_bytes, load_s=1.0, timing=simulated("x", 1).timing)


def test_a_load_that_fails_gives_its_bytes_back_and_leaves_the_others() -> None:
    """What was loaded before it in the same change stays, and is said to be there."""
    budget = DeviceBudget.create(9)

    async def main() -> None:
        good, bad, last = stubborn("good", 3), stubborn("bad", 3), stubborn("last", 3)
        bad.fails_load = True
        async with Residency([good, bad, last], budget) as residency:
            with pytest.raises(LaunchError):
                await residency.change([], ["good", "bad", "last"])
            assert residency.resident == ("good",)
            assert budget.used_bytes == 3

    run_virtual(main())


def test_one_model_that_does_not_unload_keeps_no_other_up() -> None:
    """Every model is told to go, every byte is given back, and the failure is raised."""
    budget = DeviceBudget.create(9)
    models = [stubborn("a", 3), stubborn("b", 3), stubborn("c", 3)]

    async def main() -> None:
        async with Residency(models, budget) as residency:
            await residency.change([], ["a", "b", "c"])
            models[1].fails_unload = True

    with pytest.raises(BackendTimeout, match="b: still there"):
        run_virtual(main())
    assert budget.used_bytes == 0
    assert [model._engine is None for model in models] == [True, False, True]


def test_two_changes_at_once_are_refused() -> None:
    """The second would make room for what the first does not know of."""

    async def main() -> None:
        async with Residency([simulated("a", 1), simulated("b", 1)], DeviceBudget.create(2)) as residency:
            first = asyncio.create_task(residency.change([], ["a"]))
            await asyncio.sleep(0.1)
            with pytest.raises(UsageError, match="another change is under way"):
                await residency.change([], ["b"])
            await first

    run_virtual(main())


def test_what_is_not_there_cannot_be_used() -> None:
    """Unknown models, models that are not loaded, two of one name."""
    budget = DeviceBudget.create(2)

    async def main() -> None:
        async with Residency([simulated("a", 1)], budget) as residency:
            with pytest.raises(UsageError, match="a is not loaded; loaded are none"):
                residency.backend("a")
            for wrong in (residency.change([], ["z"]), residency.change(["z"], [])):
                with pytest.raises(UsageError, match="no model 'z'; use a"):
                    await wrong
        for models in ([], [simulated("a", 1), simulated("a", 1)]):
            with pytest.raises(UsageError, match="each a name of its own"):
                Residency(models, budget)

    run_virtual(main())


HOLDER = """
import asyncio, sys
from harness.hardware import DeviceBudget
from harness.routers.orchestration import Residency
from harness.routers.orchestration.loadable import EmbeddedModel

async def main():
    async with Residency([EmbeddedModel("nano=pocket:nano")], DeviceBudget.open(sys.argv[1])) as residency:
        await residency.change([], ["nano"])
        print("loaded", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_killed_gives_its_bytes_back(number: signal.Signals) -> None:
    """Interrupted or killed with a real engine up: the budget is empty when the process is gone."""
    budget = DeviceBudget.create(10**9)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(budget.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"loaded\n"
            assert budget.used_bytes > 10**6
            process.send_signal(number)
            process.wait(timeout=20)
        finally:
            process.kill()
    deadline_s = time.monotonic() + 5
    while budget.used_bytes and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert budget.used_bytes == 0
