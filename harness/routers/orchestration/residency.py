"""What is loaded, and how it changes: room is made first, then what is wanted is loaded.

Every loaded model holds an allocation of the device budget, so that what does not fit is refused by the same
allocator that everything else on the device draws on. A change that cannot fit is refused before anything is
evicted: what it needs beyond what its evictions give back is asked of the allocator first. So a refused plan
costs nothing but its planning.

Eviction is lazy: a model goes when its room is needed, not when nobody needs it. Which one goes is the plan's
to say (`keep`); what is neither kept nor wanted goes.

Traps: a model whose engine says that it takes more than declared is drawn for that from then on, and planners
are told so. One that fails to unload keeps its allocation until the next change or the end, since its memory
may still be in use. Other processes may draw on the budget between two of our steps; then a load is refused
although there was room before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import NamedTuple, Self

from harness.backends.base import Backend
from harness.clock import now_s
from harness.errors import BudgetError, UsageError
from harness.hardware import Allocation, DeviceBudget
from harness.routers.orchestration.loadable.base import Loadable, Measured

__all__ = ["Change", "Residency"]


MAX_OWNER_LEN = 200
"""Of the ledger's rows."""


class Change(NamedTuple):
    """What a change of residents did."""

    evicted: tuple[str, ...]
    load_s: Mapping[str, float | None]
    """By model that was loaded, in order: how long; None for one whose engine stays up."""
    resident: tuple[str, ...]
    """Loaded after it."""
    resident_bytes: int

    @property
    def loaded(self) -> tuple[str, ...]:
        """Models that were loaded."""
        return tuple(self.load_s)


class _Held:
    """A loaded model."""

    def __init__(self, backend: Backend, allocation: Allocation, slots: int) -> None:
        self.backend = backend
        self.allocation = allocation
        self.gate = asyncio.Semaphore(slots)


class Residency:
    """The models of one device; use it as an async context manager, which unloads all of them."""

    def __init__(self, models: Sequence[Loadable], budget: DeviceBudget) -> None:
        """Take models that are not loaded.

        Raises
        ------
        UsageError: no model, or two of one name.
        """
        self._models = {model.name: model for model in models}
        if not models or len(self._models) < len(models):
            raise UsageError(
                f"models {[m.name for m in models]}: give at least one, and each a name of its own"
            )
        self.budget = budget
        self._sizes = {model.name: model.num_bytes for model in models}
        self._held: dict[str, _Held] = {}
        self._stuck: dict[str, Allocation] = {}
        """Of models that were to be unloaded, and may still be there."""
        self._is_changing = False

    @property
    def names(self) -> tuple[str, ...]:
        """All models, loaded or not."""
        return tuple(self._models)

    @property
    def resident(self) -> tuple[str, ...]:
        """Models that are loaded now, in the order of their loading."""
        return tuple(self._held)

    @property
    def room_bytes(self) -> int:
        """What all our models together may take now: the budget less what others drew on it."""
        return self.budget.free_bytes + self.bytes_of((*self._held, *self._stuck))

    def size_bytes(self, name: str) -> int:
        """What a model takes: as declared, or as its engine said if that is more."""
        return self._sizes[self._known(name)]

    def bytes_of(self, names: Iterable[str]) -> int:
        """What some models take together."""
        return sum(self.size_bytes(name) for name in set(names))

    def backend(self, name: str) -> Backend:
        """The client of a loaded model.

        Raises
        ------
        UsageError: it is not loaded.
        """
        if self._known(name) not in self._held:
            raise UsageError(f"{name} is not loaded; loaded are {', '.join(self._held) or 'none'}")
        return self._held[name].backend

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[Backend]:
        """Hold one of a loaded model's slots; waits, first come first served, while all are taken."""
        backend = self.backend(name)
        async with self._held[name].gate:
            yield backend

    async def change(self, keep: Collection[str], wanted: Collection[str]) -> Change:
        """Evict what is neither kept nor wanted, then load what is wanted and not there yet.

        Raises
        ------
        BudgetError: the allocator refuses; nothing was loaded, and nothing evicted unless another process
            took the room in between.
        LaunchError, BackendError: a model did not load; those loaded before it stay.
        UsageError: an unknown model, or another change is under way.
        """
        for name in (*keep, *wanted):
            self._known(name)
        new = [name for name in dict.fromkeys(wanted) if name not in self._held]
        out = [*self._stuck, *(name for name in self._held if name not in set(keep) | set(wanted))]
        if self._is_changing:
            raise UsageError(f"load {', '.join(wanted)}: another change is under way; change one at a time")
        self._is_changing = True
        try:
            self._refuse_beyond(new, out)
            for name in out:
                await self._unload(name)
            load_s = await self._load_all(new)
        finally:
            self._is_changing = False
        return Change(tuple(out), load_s, self.resident, self.bytes_of(self._held))

    async def aclose(self) -> None:
        """Unload everything and give every byte back, whatever fails; what failed is raised then."""
        async with AsyncExitStack() as stack:  # one that fails to unload does not keep the others up
            stack.callback(self._give_back)
            for name in (*self._stuck, *self._held):
                stack.push_async_callback(self._unload, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _give_back(self) -> None:
        while self._stuck:
            self._stuck.popitem()[1].release()

    def _known(self, name: str) -> str:
        if name not in self._models:
            raise UsageError(f"no model {name!r}; use {', '.join(self._models)}")
        return name

    def _refuse_beyond(self, new: Sequence[str], out: Sequence[str]) -> None:
        beyond = self.bytes_of(new) - self.bytes_of(out)
        if beyond > 0:
            self.budget.allocate(beyond, owner=" + ".join(new)[:MAX_OWNER_LEN]).release()

    async def _load_all(self, names: Sequence[str]) -> dict[str, float | None]:
        """Draw all first, so that a refusal leaves nothing half loaded."""
        drawn: dict[str, Allocation] = {}
        load_s: dict[str, float | None] = {}
        try:
            for name in names:
                drawn[name] = self.budget.allocate(self._sizes[name], owner=name)
            for name in names:
                load_s[name] = await self._load(name, drawn)
        finally:
            for allocation in drawn.values():
                allocation.release()
        return load_s

    async def _load(self, name: str, drawn: dict[str, Allocation]) -> float | None:
        """Load one model; its allocation passes from `drawn` to it when it is up."""
        model = self._models[name]
        began_s = now_s()
        backend = await model.load()
        load_s = None if model.is_kept else now_s() - began_s
        self._held[name] = _Held(backend, drawn.pop(name), model.slots)
        taken = model.taken_bytes if isinstance(model, Measured) else None
        if taken is not None and taken > self._sizes[name]:
            await self._draw_more(name, taken)
        return load_s

    async def _draw_more(self, name: str, taken: int) -> None:
        self._sizes[name] = taken
        try:
            self._held[name].allocation.resize(taken)
        except BudgetError as exc:
            await self._unload(name)
            raise BudgetError(
                f"{name} takes {taken} bytes, more than declared ({exc}); declare them"
            ) from exc

    async def _unload(self, name: str) -> None:
        if name in self._held:
            self._stuck[name] = self._held.pop(name).allocation
        await self._models[name].unload()
        self._stuck.pop(name).release()
