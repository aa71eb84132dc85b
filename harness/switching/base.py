"""An arm answers a trace's requests, one after the other, each by another of several models.

What differs between arms is how a model's weights come to be where they are computed on. Work is equal: the
same prompt ids in, as many tokens out, greedily, so that `Answer.token_ids` can be compared across arms. An
arm lives in a process of its own (`harness.switching.process`).

Time. `switch_s` is what a request was kept from computing: choosing what to copy, binding, and every wait for
a chunk before its first token. `ttft_s` and `total_s` have the computing in them. Seconds are of one
monotonic clock, `time.perf_counter`, which processes of a machine share.

A request that an arm refuses or loses is an answer too: one without tokens, with the reason. Failures count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from harness.errors import ArenaError, BackendError, BudgetError, LaunchError, ModelError

__all__ = ["Answer", "Arm", "Ask", "answer_all", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request, as an arm gets it."""

    model: str
    prompt_ids: tuple[int, ...]
    new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one request went. What an arm cannot know is None."""

    model: str
    token_ids: tuple[int, ...]
    began_s: float
    """Its turn came: the request before it was answered."""
    first_token_s: float
    done_s: float
    switch_s: float
    plan_s: float | None = None
    """Of `switch_s`: deciding what to copy."""
    bind_s: float | None = None
    """Of `switch_s`: making parameters of the bytes."""
    wait_s: float | None = None
    """Of `switch_s`: for bytes on their way. Later passes of a model that streams wait in `done_s`."""
    is_hit: bool | None = None
    """Nothing was left to copy when its turn came."""
    bytes_in: int | None = None
    ahead_bytes: int | None = None
    """Copied before its turn, by lookahead; also what was copied for another, who did not come."""
    bytes_out: int | None = None
    """From device to host."""
    evicted_bytes: int | None = None
    needed_bytes: int | None = None
    """Of them, what had to go at the least."""
    copied_s: tuple[float, float] | None = None
    """When its copies began and ended; None without any."""
    ahead_s: tuple[float, float] | None = None
    disk_bytes: int | None = None
    """Of `bytes_in`, read from the storage device, by the kernel's own count; None where no file is read."""
    failure: str | None = None
    """Why there are no tokens; its times are then those of giving up."""

    @property
    def ttft_s(self) -> float:
        """From its turn to the first token."""
        return self.first_token_s - self.began_s

    @property
    def total_s(self) -> float:
        """From its turn to the last token."""
        return self.done_s - self.began_s


class Arm(Protocol):
    """One way to have several models on a device that does not hold them all."""

    @property
    def name(self) -> str:
        """As its variant is called."""
        ...

    def reset(self, *, warm: str = "cold", future: Sequence[str] = ()) -> None:
        """Begin a trace anew.

        warm: as `harness.residency.arms` has it: nothing resident, each, fill. future: the models that will
        be asked for; only the bound may look.
        """
        ...

    def answer(self, ask: Ask, *, upcoming: str | None = None) -> Answer:
        """Answer a request; `upcoming` is the model of the next one, where a queue is visible.

        Raises
        ------
        UsageError: the model is unknown here, or the request makes no sense.
        ModelError: its weights are not what they should be.
        BudgetError: the model does not fit, and this arm cannot stream it.
        ArenaError: copying broke.
        """
        ...

    def checksums(self) -> Mapping[str, str]:
        """Model → checksum of its host blob now, and under "packed:NAME" that of the day it was packed."""
        ...

    def close(self) -> None:
        """Give all memory back; a second call does nothing."""
        ...


def answer_all(arm: Arm, asks: Sequence[Ask], *, sees_queue: bool) -> list[Answer]:
    """Answer a trace in sequence: each request is sent when the one before is answered.

    A request that fails does not end the trace: models whose weights are sound are served on.

    Raises
    ------
    UsageError: a request makes no sense here, such as one for an unknown model.
    """
    following = [ask.model for ask in asks[1:]] + [None]
    return [
        _answer(arm, ask, upcoming if sees_queue else None)
        for ask, upcoming in zip(asks, following, strict=True)
    ]


def _answer(arm: Arm, ask: Ask, upcoming: str | None) -> Answer:
    began_s = perf_counter()
    try:
        return arm.answer(ask, upcoming=upcoming)
    except (ArenaError, BackendError, BudgetError, LaunchError, ModelError) as exc:
        return failed(ask, began_s, f"{type(exc).__name__}: {exc}")


def failed(ask: Ask, began_s: float, why: str) -> Answer:
    """The answer to a request that has none, as of now."""
    gave_up_s = perf_counter()
    return Answer(
        model=ask.model,
        token_ids=(),
        began_s=began_s,
        first_token_s=gave_up_s,
        done_s=gave_up_s,
        switch_s=gave_up_s - began_s,
        failure=why,
    )
