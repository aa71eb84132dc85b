"""What runs in Ray's processes: a model and one agent's keys and values, by the engine that all arms use.

Importing this imports no torch: how long that takes in a new process is measured there.

Draws on the device budget by path: first the weights, then the slab. Where the size of both is known from an
earlier process, the allocator is asked before anything is imported or loaded, so that what does not fit is
refused and never stands in memory. A GPU's bytes stay drawn while the weights come: of many that start at
once only those may load that fit, or each would take a part and none have room. A device's own allocator that
refuses is a `BudgetError` just the same.

Trap: the default model's weights are made from a seed, which stands for reading as many from a file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any, NamedTuple

from harness.errors import BudgetError
from harness.hardware.allocation import Allocation
from harness.hardware.budget import DeviceBudget
from harness.hardware.memory import give_back, out_of_memory
from harness.hardware.processes import Process, this_process

__all__ = ["KeptAgent", "Place", "Started", "Token", "serve_step"]

_SESSION = "agent"
_LOOK_S = 0.02
_AGAIN_S = 1.0
"""Before weights are brought in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The model, and where its memory comes from."""

    model: str
    device: str
    dtype: str
    threads: int
    budget_path: str
    max_tokens: int
    """Of the agent's history."""
    prefill_chunk: int
    """Prompt tokens that one step computes."""
    needed_bytes: int | None = None
    """Weights and slab, if known."""
    wait_s: float = 0.0
    """For room on the device, before it is out of memory."""


class Started(NamedTuple):
    """A process that has its model. Times are on the clock that all processes of a machine share."""

    process: Process
    started_s: float
    """When the process began."""
    is_new: bool
    """Whether nothing had been computed in it before."""
    entered_s: float
    """When it was told what to do."""
    import_s: float
    """For torch and the engine."""
    wait_s: float
    """For room."""
    load_s: float
    """Bringing the weights in, and making the engine."""
    needed_bytes: int
    """Of weights and slab."""


class Token(NamedTuple):
    """One token, and what the engine says of it."""

    token_id: int
    given_s: float
    """When the engine had it."""
    queue_s: float
    compute_s: float
    """Both since the token before."""
    reused_tokens: int
    prefilled_tokens: int


class KeptAgent:
    """An actor: one agent's model and history, for as long as it lives."""

    def __init__(self) -> None:
        self._engine: Any = None

    def process(self) -> Process:
        """Where it is."""
        return this_process()

    def start(self, place: Place) -> Started:
        """Bring the model in.

        Raises
        ------
        BudgetError: there is no room for it and the agent's keys and values.
        """
        with out_of_memory():
            self._engine, started = _start(place, "graphs")
        return started

    def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Iterator[Token]:
        """Go on with the history."""
        with out_of_memory():
            yield from _generate(self._engine, new_ids, max_new_tokens)


def serve_step(place: Place, token_ids: Sequence[int], max_new_tokens: int) -> Iterator[Started | Token]:
    """A task: bring the model in, compute a whole history, generate, and leave nothing.

    Raises
    ------
    BudgetError: there was no room within the time it may wait.
    """
    with out_of_memory():
        # What would be compiled and recorded is thrown away after one step.
        engine, started = _start(place, "slab-by-slab")
        with engine:
            yield started
            yield from _generate(engine, token_ids, max_new_tokens)


def _start(place: Place, decoding: str) -> tuple[Any, Started]:
    """The engine, with its model and an open session.

    On a GPU whoever is refused half way gives its weights back before it waits: two that each held a part
    would keep each other from ever starting.
    """
    entered_s, is_new = perf_counter(), "torch" not in sys.modules
    budget = DeviceBudget.open(place.budget_path)
    fits = place.needed_bytes is not None and place.needed_bytes <= budget.capacity_bytes
    waited_s = 0.0
    while True:
        try:
            with out_of_memory():
                engine, started = _attempt(place, decoding, budget, entered_s, is_new)
            return engine, started._replace(wait_s=waited_s + started.wait_s)
        except BudgetError:
            if place.device == "cpu" or not fits or perf_counter() >= entered_s + place.wait_s:
                raise
        give_back()
        time.sleep(_AGAIN_S)
        waited_s = perf_counter() - entered_s


def _attempt(
    place: Place, decoding: str, budget: DeviceBudget, entered_s: float, is_new: bool
) -> tuple[Any, Started]:
    ends_s = entered_s + place.wait_s
    wait_s = 0.0
    with ExitStack() as held:
        if place.needed_bytes is not None:
            reserved, wait_s = _reserve(budget, place, place.needed_bytes, ends_s)
            held.enter_context(reserved)
            if place.device == "cpu":
                held.close()
        began_s = perf_counter()
        core = _import_core(place)
        import_s = perf_counter() - began_s
        began_s = perf_counter()
        loaded = core.load(place.model, device=place.device, dtype=place.dtype)
    slab_bytes = loaded.model.slab_shape.token_bytes * place.max_tokens
    needed_bytes = loaded.model.weight_bytes + slab_bytes
    load_s = perf_counter() - began_s
    while True:
        began_s = perf_counter()
        try:
            engine = _engine(core, loaded.model, budget, place, decoding)
            break
        except BudgetError:
            keeps = place.device == "cpu" or place.needed_bytes is None
            if not keeps or perf_counter() >= ends_s or needed_bytes > budget.capacity_bytes:
                raise
            time.sleep(_LOOK_S)  # the budget may have room that the machine has not
            wait_s += perf_counter() - began_s
        wait_s += _wait_for_room(budget, needed_bytes, ends_s)
    load_s += perf_counter() - began_s
    return engine, Started(
        process=this_process(),
        started_s=_started_s(this_process(), entered_s),
        is_new=is_new,
        entered_s=entered_s,
        import_s=import_s,
        wait_s=wait_s,
        load_s=load_s,
        needed_bytes=needed_bytes,
    )


def _import_core(place: Place) -> Any:
    from harness.sessions import core

    if place.model != core.DEFAULT_MODEL:
        # Loading a checkpoint would import it, and imports are to stand apart.
        import_module("transformers").LlamaForCausalLM  # noqa: B018
    import_module("torch").set_num_threads(place.threads)
    if place.device != "cpu" and find_spec("triton") is not None:
        import_module("triton")
    return core


def _engine(core: Any, model: Any, budget: DeviceBudget, place: Place, decoding: str) -> Any:
    """One with an open session: both draws, or none."""
    engine = core.Engine(
        model,
        budget,
        max_session_tokens=place.max_tokens,
        max_sessions=1,
        policy="keep",
        prefill_chunk=place.prefill_chunk,
        decoding=decoding,
    )
    try:
        engine.open(_SESSION, place.max_tokens)
    except BaseException:
        engine.shutdown()
        raise
    return engine


def _generate(engine: Any, token_ids: Sequence[int], max_new_tokens: int) -> Iterator[Token]:
    from harness.sessions.core import Turn

    engine.submit(Turn(_SESSION, list(token_ids), max_new_tokens))
    while not engine.is_idle:
        for event in engine.step():
            timings = event.timings
            yield Token(
                event.token_id,
                perf_counter(),
                timings.queue_s,
                timings.compute_s,
                timings.reused_tokens,
                timings.prefilled_tokens,
            )


def _reserve(budget: DeviceBudget, place: Place, num_bytes: int, ends_s: float) -> tuple[Allocation, float]:
    """Draw the bytes, waiting for room as long as that is allowed; and the seconds that took.

    Whoever finds room that another one takes first goes on looking.
    """
    wait_s = 0.0
    while True:
        wait_s += _wait_for_room(budget, num_bytes, ends_s)
        try:
            return budget.allocate(num_bytes, owner=f"an agent of {_owner(place)}"), wait_s
        except BudgetError:
            if perf_counter() >= ends_s or num_bytes > budget.capacity_bytes:
                raise


def _wait_for_room(budget: DeviceBudget, num_bytes: int, ends_s: float) -> float:
    """Return when there is room, when there never will be, or when it is time; the seconds that took.

    Looks and does not ask: each refusal is counted, and one that waits is not out of memory yet.
    """
    began_s = perf_counter()
    while budget.free_bytes < num_bytes <= budget.capacity_bytes and perf_counter() < ends_s:
        time.sleep(_LOOK_S)
    return perf_counter() - began_s


def _started_s(process: Process, otherwise_s: float) -> float:
    """When a process began, on `perf_counter`'s clock."""
    if process.started_ticks is None:
        return otherwise_s
    since_boot_s = process.started_ticks / os.sysconf("SC_CLK_TCK")
    return since_boot_s + perf_counter() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _owner(place: Place) -> str:
    return "".join(c for c in place.model if c.isprintable())[-150:]
