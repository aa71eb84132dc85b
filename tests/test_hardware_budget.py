"""One budget of bytes, drawn on in one process: what it promises, and what it says."""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from harness.errors import BudgetError, UsageError
from harness.hardware import Allocation, DeviceBudget, Holder

CAPACITY = 100


@pytest.fixture
def budget(tmp_path: Path) -> DeviceBudget:
    return DeviceBudget.create(CAPACITY, path=tmp_path / "ledger.json")


class Drawing(RuleBasedStateMachine):
    """Any order of drawing, growing, shrinking and giving back, beside a model in plain numbers."""

    live = Bundle("live")

    def __init__(self) -> None:
        super().__init__()
        self.budget = DeviceBudget.create(CAPACITY)
        self.held: dict[Allocation, int] = {}
        self.peak = 0
        self.refusals = 0

    @rule(target=live, num_bytes=st.integers(1, CAPACITY), owner=st.sampled_from(["a", "b"]))
    def draw(self, num_bytes: int, owner: str) -> Allocation | None:
        if sum(self.held.values()) + num_bytes > CAPACITY:
            with pytest.raises(BudgetError):
                self.budget.allocate(num_bytes, owner=owner)
            self.refusals += 1
            return None
        allocation = self.budget.allocate(num_bytes, owner=owner)
        self.held[allocation] = num_bytes
        return allocation

    @rule(allocation=live, num_bytes=st.integers(1, CAPACITY))
    def resize(self, allocation: Allocation | None, num_bytes: int) -> None:
        if allocation is None or allocation not in self.held:
            return
        if sum(self.held.values()) - self.held[allocation] + num_bytes > CAPACITY:
            with pytest.raises(BudgetError):
                allocation.resize(num_bytes)
            self.refusals += 1
        else:
            allocation.resize(num_bytes)
            self.held[allocation] = num_bytes

    @rule(allocation=consumes(live), times=st.integers(1, 2))
    def release(self, allocation: Allocation | None, times: int) -> None:
        if allocation is not None:
            for _ in range(times):
                allocation.release()
            assert allocation.num_bytes == 0
            self.held.pop(allocation, None)

    @rule()
    def forget_the_peak(self) -> None:
        self.budget.reset_peak()
        self.peak = 0

    @invariant()
    def agrees_with_the_model(self) -> None:
        used = sum(self.held.values())
        self.peak = max(self.peak, used)
        assert self.budget.used_bytes == used <= CAPACITY
        assert self.budget.free_bytes == CAPACITY - used
        assert self.budget.peak_bytes == self.peak
        assert self.budget.num_refusals == self.refusals
        assert sorted(self.held.values(), reverse=True) == [row.num_bytes for row in self.budget.holders()]
        assert all(allocation.num_bytes == size for allocation, size in self.held.items())

    def teardown(self) -> None:
        self.budget.remove()


TestDrawing = Drawing.TestCase
TestDrawing.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_what_fits_exactly_is_given(budget: DeviceBudget) -> None:
    """Fits is ≤: the last byte can be had, and not one more."""
    budget.allocate(CAPACITY, owner="all")
    assert (budget.used_bytes, budget.free_bytes) == (CAPACITY, 0)
    with pytest.raises(BudgetError, match="1 bytes asked, 0 of 100 are free"):
        budget.allocate(1, owner="one more")


def test_a_block_gives_its_bytes_back_however_it_ends(budget: DeviceBudget) -> None:
    """An allocation is a context manager, and an error in its block passes through."""
    with suppress(ZeroDivisionError), budget.allocate(60, owner="kv") as held:
        assert budget.used_bytes == held.num_bytes == 60
        _ = 1 / 0
    assert (budget.used_bytes, held.num_bytes) == (0, 0)
    with pytest.raises(ZeroDivisionError), budget.allocate(70, owner="kv"):
        _ = 1 / 0
    assert (budget.used_bytes, budget.peak_bytes) == (0, 70)


def test_forgotten_bytes_stay_held(budget: DeviceBudget) -> None:
    """Only `release` and the end of the process give bytes back; forgetting the object does not, unwarned."""
    budget.allocate(60, owner="kv")
    assert [(row.owner, row.num_bytes) for row in budget.holders()] == [("kv", 60)]


def test_two_views_of_one_ledger_are_one_budget(budget: DeviceBudget) -> None:
    """Opened or unpickled, the budget is the same one."""
    held = budget.allocate(60, owner="kv")
    for other in (DeviceBudget.open(budget.path), pickle.loads(pickle.dumps(budget))):
        assert other.capacity_bytes == CAPACITY
        assert other.holders() == budget.holders() == (Holder("kv", 60, other.holders()[0].pid),)
        with pytest.raises(BudgetError):
            other.allocate(41, owner="other")
    held.release()
    assert DeviceBudget.open(budget.path).used_bytes == 0


def test_a_relative_path_is_kept_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget knows its ledger by its whole path."""
    monkeypatch.chdir(tmp_path)
    budget = DeviceBudget.create(CAPACITY, path="ledger.json")
    monkeypatch.chdir("/")
    assert budget.allocate(1, owner="kv").num_bytes == 1


def test_a_refusal_names_who_holds_the_device(budget: DeviceBudget) -> None:
    """Owner, bytes asked, free and there, the largest holders and the remedy stand in one line."""
    held = [budget.allocate(size, owner=owner) for owner, size in zip("abcdb", (40, 9, 8, 7, 6), strict=True)]
    pid = budget.holders()[0].pid
    with pytest.raises(BudgetError) as refused:
        budget.allocate(31, owner="phi4:14b")
    assert str(refused.value) == (
        f"phi4:14b: 31 bytes asked, 30 of 100 are free; held by a 40 (pid {pid}), b 15 (pid {pid}), "
        f"c 8 (pid {pid}), 1 more: release one of them or ask for less, or give the budget a larger capacity"
    )
    with pytest.raises(
        BudgetError, match=r"^a: growth from 40 to 71 bytes asked, 30 of 100 are free; held by a"
    ):
        held[0].resize(71)


def test_what_can_never_fit_is_said_to_be_too_large(budget: DeviceBudget) -> None:
    """Beyond the capacity there is nothing to release."""
    with pytest.raises(
        BudgetError, match="held by nobody: ask for less, or give the budget a larger capacity"
    ):
        budget.allocate(101, owner="phi4:14b")


@pytest.mark.parametrize(
    "value",
    [0, -1, True, 1.0, 1.5, None, "8", np.float64(8), np.bool_(True), 2**63, 10**6000],
    ids=["zero", "less", "bool", "float", "half", "none", "text", "npfloat", "npbool", "large", "huge"],
)
def test_only_whole_bytes_above_zero_count(budget: DeviceBudget, value: Any) -> None:
    """Anything else is a misuse, wherever it is given, and changes nothing."""
    held = budget.allocate(5, owner="kv")
    for misuse in (
        lambda: budget.allocate(value, owner="kv"),
        lambda: held.resize(value),
        lambda: DeviceBudget.create(value),
    ):
        with pytest.raises(UsageError, match="give a whole number of bytes > 0"):
            misuse()
    assert (budget.used_bytes, held.num_bytes, budget.num_refusals) == (5, 5, 0)


def test_a_whole_number_of_numpy_is_one(budget: DeviceBudget) -> None:
    """Sizes are often sums over an array."""
    held = budget.allocate(np.int64(7), owner="kv")  # type: ignore[arg-type]
    assert type(held.num_bytes) is int
    assert budget.used_bytes == 7


@pytest.mark.parametrize("owner", ["", "  ", "two\nlines", "\ud800", "x" * 201, 3, None])
def test_an_owner_has_a_name_that_fits_a_line(budget: DeviceBudget, owner: Any) -> None:
    """A refusal prints the names of others, so a name is short and printable."""
    with pytest.raises(UsageError, match=r"^owner "):
        budget.allocate(1, owner=owner)
    assert budget.holders() == ()


def test_what_was_released_does_not_grow_again(budget: DeviceBudget) -> None:
    """It has to be allocated anew, so that it can be refused as a whole."""
    held = budget.allocate(5, owner="kv")
    held.release()
    with pytest.raises(UsageError, match="kv: already released; allocate anew"):
        held.resize(6)
    assert budget.used_bytes == 0


def test_an_allocation_does_not_travel(budget: DeviceBudget) -> None:
    """Another process could not end it; it is handed the budget."""
    with pytest.raises(UsageError, match="an allocation stays in its process; hand over the budget"):
        pickle.dumps(budget.allocate(5, owner="kv"))


def test_a_killed_process_leaves_nothing_for_long() -> None:
    """Its ledger goes when the next budget is made; those of the living stay."""
    script = (
        "import os, signal; from harness.hardware import DeviceBudget; b = DeviceBudget.create(9); "
        "print(b.path, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert left.exists()
    first, second = DeviceBudget.create(9), DeviceBudget.create(9)
    assert not left.exists()
    assert not left.with_name(f"{left.name}.lock").exists()
    assert first.path.exists()
    first.remove()
    second.remove()
