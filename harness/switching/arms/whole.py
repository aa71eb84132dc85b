"""What arms have in common that bring a whole model for every request, and compute when all of it is there.

Their plans are `reload-every`'s, and so are their bytes. They differ from it in where the bytes come from or
go to, and share its forward pass, so that their tokens can be compared.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, ClassVar

from harness.residency.arms import CONTROL, arm
from harness.residency.arms import Setting as Planned
from harness.residency.policies.base import Plan, Policy
from harness.residency.running import PassStats
from harness.sessions.ring.loading import HostModel, load_hosts
from harness.sessions.ring.serve import Generated, RingGenerator
from harness.sessions.ring.weights import StreamedModel
from harness.switching.arms.arena import close_all
from harness.switching.arms.models import require_model
from harness.switching.base import Answer, Ask
from harness.switching.setting import Setting

__all__ = ["Pace", "WholeArm"]


class Pace:
    """A declared link that bytes have crossed no sooner than it would have had them across.

    Time is absolute, as in the arena's copier: what a sleep is late by is not added up.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._due_s = perf_counter()

    def add(self, num_bytes: int, *, from_s: float = 0.0) -> None:
        """Send bytes behind those before them, and not before `from_s`."""
        if self._bytes_per_s is not None:
            self._due_s = max(self._due_s, from_s) + num_bytes / self._bytes_per_s

    def wait(self) -> None:
        """Return when all have crossed."""
        left_s = self._due_s - perf_counter()
        if left_s > 0:
            time.sleep(left_s)


class WholeArm(ABC):
    """Brings a model, answers, and keeps nothing for the next request."""

    name: ClassVar[str]

    def __init__(self, setting: Setting) -> None:
        """Load the models onto the host.

        Raises
        ------
        ModelError: there is no such model.
        BudgetError: the host has no room for them.
        """
        self._setting = setting
        self._hosts = load_hosts(setting.models, dtype=setting.dtype, seed=setting.seed)
        self._layouts = {model: host.blob.manifest.layout for model, host in self._hosts.items()}
        self.reset()

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Forget what went before; a warm-up would leave nothing that is kept."""
        planned = Planned(
            layouts=self._layouts,
            capacity_bytes=self._setting.arena_bytes,
            popularity=self._setting.popularity,
        )
        self._policy = arm(CONTROL).build(planned, warm=warm)

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Bring the model and ask it.

        Raises
        ------
        UsageError: it is unknown here.
        BudgetError: it is larger than the arena.
        """
        require_model(ask.model, self._hosts)
        return self._answer(ask)

    @abstractmethod
    def checksums(self) -> Mapping[str, str]:
        """As `Arm.checksums`."""

    def close(self) -> None:
        """Give the host's memory back."""
        close_all(self._hosts)

    @abstractmethod
    def _answer(self, ask: Ask) -> Answer: ...

    def _generate(self, ask: Ask, model: StreamedModel, bring: Callable[[Plan], None]) -> Generated:
        """Answer with a model over memory into which `bring` copies it; that returns when all is there."""
        arena: Any = _Whole(self._policy, bring)
        return RingGenerator(arena, {ask.model: model}).generate(ask.model, ask.prompt_ids, ask.new_tokens)

    def _over(self, host: HostModel, memory: Any) -> StreamedModel:
        """A model of views of memory, a flat tensor of bytes."""
        return StreamedModel(host.name, host.skeleton, host.blob.manifest, memory)


class _Whole:
    """Has the generator's calls of an arena, and brings a model when it is asked for."""

    def __init__(self, policy: Policy, bring: Callable[[Plan], None]) -> None:
        self._policy = policy
        self._bring = bring

    def begin(self, model: str, *, upcoming: str | None = None) -> _WholePass:
        began_s = perf_counter()
        plan = self._policy.request(model)
        planned_s = perf_counter()
        self._bring(plan)
        return _WholePass(plan, self._policy.places(plan), began_s, planned_s, perf_counter())


class _WholePass:
    """A pass over a model that is all there."""

    def __init__(
        self, plan: Plan, places: tuple[int, ...], began_s: float, planned_s: float, there_s: float
    ) -> None:
        self.model = plan.model
        self.plan = plan
        self.places = places
        self._planned_s = planned_s
        self._plan_s = planned_s - began_s
        self._there_s = there_s

    def wait(self, chunk: int) -> None: ...

    def done(self, chunk: int) -> None: ...

    def again(self) -> None: ...

    def end(self) -> PassStats:
        plan = self.plan
        return PassStats(
            is_hit=False,
            bytes_in=plan.num_bytes,
            ahead_bytes=0,
            bytes_out=plan.copy_out_bytes,
            evicted_bytes=plan.evicted_bytes,
            needed_bytes=plan.needed_bytes,
            plan_s=self._plan_s,
            wait_s=self._there_s - self._planned_s,
            later_wait_s=0.0,
            copied_s=(self._planned_s, self._there_s),
            ahead_s=None,
        )
