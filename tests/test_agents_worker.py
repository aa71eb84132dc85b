"""What runs in Ray's processes, in this one: it waits for room or is refused, and leaves nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from tiny_llama import save_tiny_llama

from harness.agents.arms import worker
from harness.agents.arms.worker import KeptAgent, Place, Started, Token, serve_step
from harness.errors import BudgetError, ModelError, UsageError
from harness.hardware.budget import DeviceBudget
from harness.hardware.processes import this_process
from harness.sessions import core

PROMPT = tuple(range(2, 30))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def budget() -> Iterator[DeviceBudget]:
    budget = DeviceBudget.create(10**8)
    yield budget
    budget.remove()


@pytest.fixture
def place(checkpoint: Path, budget: DeviceBudget) -> dict[str, Any]:
    return {
        "model": str(checkpoint), "device": "cpu", "dtype": "float32", "threads": 1, "max_tokens": 60,
        "budget_path": str(budget.path), "prefill_chunk": 16,
    }  # fmt: skip


def run(place: Place, num: int = 5) -> tuple[Started, Sequence[Token]]:
    started, *tokens = serve_step(place, PROMPT, num)
    assert isinstance(started, Started)
    return started, [token for token in tokens if isinstance(token, Token)]


def test_a_step_takes_weights_and_slab_and_gives_them_back(
    place: dict[str, Any], budget: DeviceBudget
) -> None:
    """What it took is what it says that it needed; this process had torch already, and it says so."""
    started, tokens = run(Place(**place))
    assert len(tokens) == 5
    assert {(token.reused_tokens, token.prefilled_tokens) for token in tokens} == {(0, len(PROMPT))}
    assert started.needed_bytes == budget.peak_bytes > 0 == budget.used_bytes
    assert started.process == this_process()
    assert not started.is_new
    assert started.started_s < started.entered_s


def test_an_actor_holds_what_it_took_until_it_ends(place: dict[str, Any], budget: DeviceBudget) -> None:
    """Its second step computes only what is new."""
    actor = KeptAgent()
    started = actor.start(Place(**place))
    tokens = [*actor.step(PROMPT, 5), *actor.step([7], 3)]
    assert budget.used_bytes == started.needed_bytes
    assert [token.reused_tokens for token in tokens] == [0] * 5 + [len(PROMPT) + 4] * 3
    _, alone = run(Place(**place))
    assert [token.token_id for token in tokens[:5]] == [token.token_id for token in alone]


@pytest.mark.parametrize("is_known", [True, False], ids=["size-known", "size-unknown"])
def test_without_room_a_step_is_refused_when_its_time_is_up(
    is_known: bool, place: dict[str, Any], budget: DeviceBudget
) -> None:
    """With the allocator's own words, and with nothing taken."""
    needed = run(Place(**place))[0].needed_bytes
    with budget.allocate(budget.capacity_bytes - needed + 1, owner="others"):
        began_s = perf_counter()
        with pytest.raises(BudgetError, match=r"bytes asked, \d+ of 100000000 are free; held by"):
            run(Place(**place, wait_s=0.3, needed_bytes=needed if is_known else None))
        assert perf_counter() - began_s >= 0.3
        assert budget.used_bytes == budget.capacity_bytes - needed + 1
    assert budget.num_refusals >= 1


@pytest.mark.parametrize("is_known", [True, False], ids=["size-known", "size-unknown"])
def test_a_step_that_waited_has_waited_as_long_as_it_says(
    is_known: bool, place: dict[str, Any], budget: DeviceBudget
) -> None:
    """For room that another gives back."""
    first = run(Place(**place))
    others = budget.allocate(budget.capacity_bytes, owner="others")
    began_s = perf_counter()

    def release() -> None:
        # Of unknown size, it is refused once before it waits, and to load may take long before that.
        while not is_known and not budget.num_refusals:
            sleep(0.01)
        sleep(0.5)
        others.release()

    releasing = threading.Thread(target=release)
    releasing.start()
    needed = first[0].needed_bytes if is_known else None
    again = run(Place(**place, wait_s=30, needed_bytes=needed))
    releasing.join()
    assert [token.token_id for token in again[1]] == [token.token_id for token in first[1]]
    assert 0 < again[0].wait_s < perf_counter() - began_s


def test_what_can_never_fit_is_refused_at_once(place: dict[str, Any], tmp_path: Path) -> None:
    """However long it may wait."""
    small = DeviceBudget.create(1000, path=tmp_path / "ledger")
    began_s = perf_counter()
    with pytest.raises(BudgetError, match="ask for less"):
        run(Place(**{**place, "budget_path": str(small.path)}, wait_s=100))
    assert perf_counter() - began_s < 60
    small.remove()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried 2 GiB"), "refused: CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "refused: DefaultCPUAllocator"),
        (MemoryError(), "the machine has no memory left: allocation failed"),
    ],
)
def test_the_devices_own_refusal_is_out_of_memory_too(
    error: Exception, says: str, place: dict[str, Any], budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in the middle of a computation as torch raises it; nothing stays taken, and it is one line."""

    def refuse(*_: object) -> None:
        raise error

    step = serve_step(Place(**place), PROMPT, 5)
    next(step)
    monkeypatch.setattr("harness.sessions.core.model.Model.forward", refuse)
    with pytest.raises(BudgetError, match=says) as raised:
        next(step)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert budget.used_bytes == 0


@pytest.mark.parametrize("fails", [False, True])
def test_on_a_gpu_room_stays_taken_while_the_weights_come(
    fails: bool, place: dict[str, Any], budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight that start at once would each load a part, and none have room; a processor has it for all."""
    needed = run(Place(**place))[0].needed_bytes
    real, held = core.load, []

    def load(model: str, *, device: str, dtype: str) -> object:
        held.append(budget.used_bytes)
        if fails:
            raise ModelError("corrupt")
        return real(model, device="cpu", dtype=dtype)

    monkeypatch.setattr(core, "load", load)
    for device in ("cuda", "cpu"):
        step = serve_step(Place(**{**place, "device": device}, needed_bytes=needed), PROMPT, 5)
        if fails:
            with pytest.raises(ModelError, match="corrupt"):
                next(step)
        else:
            assert len(list(step)) == 6
        assert budget.used_bytes == 0
    assert held == [needed, 0]


@pytest.mark.parametrize("where", ["load", "engine"])
def test_on_a_gpu_whoever_is_refused_half_way_begins_again_within_its_time(
    where: str, place: dict[str, Any], budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the device while its weights come, or by one that took its room behind them; holding nothing."""
    needed = run(Place(**place))[0].needed_bytes
    load, engine = core.load, worker._engine
    loads: list[int] = []
    engines: list[int] = []
    waiting: list[int] = []

    def loading(model: str, *, device: str, dtype: str) -> object:
        loads.append(budget.used_bytes)
        if where == "load" and len(loads) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(model, device="cpu", dtype=dtype)

    def drawing(*given: Any) -> object:
        engines.append(budget.used_bytes)
        if where == "engine" and len(engines) == 1:
            raise BudgetError("another took it")
        return engine(*given)

    monkeypatch.setattr(core, "load", loading)
    monkeypatch.setattr(worker, "_engine", drawing)
    monkeypatch.setattr(worker, "give_back", lambda: waiting.append(budget.used_bytes))
    monkeypatch.setattr(worker, "_AGAIN_S", 0.05)
    on_gpu = {**place, "device": "cuda", "needed_bytes": needed}
    began_s = perf_counter()
    started, tokens = run(Place(**on_gpu, wait_s=60))
    assert len(tokens) == 5
    assert (loads, waiting) == ([needed, needed], [0])
    assert 0.05 <= started.wait_s < perf_counter() - began_s
    loads.clear()
    engines.clear()
    with pytest.raises(BudgetError):
        run(Place(**on_gpu))
    assert (len(loads), budget.used_bytes) == (1, 0)


def test_what_waits_between_two_draws_counts_as_waiting(
    place: dict[str, Any], budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the budget has room and the machine has not."""
    engine, refused = worker._engine, []

    def drawing(*given: Any) -> object:
        if not refused:
            refused.append(budget.free_bytes)
            raise BudgetError("the machine has none")
        return engine(*given)

    monkeypatch.setattr(worker, "_engine", drawing)
    monkeypatch.setattr(worker, "_LOOK_S", 0.2)
    started, tokens = run(Place(**place, wait_s=60))
    assert (len(tokens), refused) == (5, [budget.capacity_bytes])
    assert started.wait_s >= 0.2


def test_whoever_finds_room_that_another_takes_first_goes_on_waiting(
    place: dict[str, Any], budget: DeviceBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its time is over."""
    taken = budget.allocate(budget.capacity_bytes - 10, owner="another")
    looks: list[float] = []

    def look(*_: object) -> float:
        looks.append(perf_counter())
        if len(looks) == 3:
            taken.release()
        return 0.5

    monkeypatch.setattr(worker, "_wait_for_room", look)
    reserved, wait_s = worker._reserve(budget, Place(**place), 1000, perf_counter() + 60)
    assert (len(looks), wait_s, budget.used_bytes) == (3, 1.5, 1000)
    reserved.release()
    with pytest.raises(BudgetError), budget.allocate(budget.capacity_bytes, owner="another"):
        worker._reserve(budget, Place(**place), 1000, perf_counter() - 1)


def test_what_else_goes_wrong_is_said_as_it_is(place: dict[str, Any], budget: DeviceBudget) -> None:
    """A model that means nothing, a budget that is not there."""
    with pytest.raises(ModelError, match="no-such-model"):
        run(Place(**{**place, "model": "no-such-model"}))
    with pytest.raises(UsageError, match="no/ledger"):
        run(Place(**{**place, "budget_path": "/no/ledger"}))
    assert budget.used_bytes == 0
