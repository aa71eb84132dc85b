"""An arm serves agents; an agent takes steps; a step says what came of it and where its time went.

Every agent does the same: Reason on its prompt, Act (sleep), Reflect on an observation appended to all that
went before. An arm decides what of that history is still there at the second step. Work is equal in all arms:
the same ids in, as many out, so that `Step.token_ids` can be compared across arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["Agent", "Arm", "Phase", "Script", "Step"]


class Phase(StrEnum):
    """What an agent is at."""

    REASON = "reason"
    REFLECT = "reflect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What one agent does."""

    prompt_ids: tuple[int, ...]
    observation_ids: tuple[int, ...]
    """What the tool gave back: appended before the agent reflects."""
    new_tokens: int
    """To be generated in each of the two steps."""
    sleep_s: float

    @property
    def max_tokens(self) -> int:
        """What the agent's history holds at its end."""
        return len(self.prompt_ids) + len(self.observation_ids) + 2 * self.new_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an agent. Times are of the driver's monotonic clock; a part that is not known is None."""

    token_ids: tuple[int, ...]
    asked_s: float
    first_token_s: float
    done_s: float
    token_s: tuple[float, ...] = ()
    """When each token came, where the arm streams them one by one."""
    queue_s: float | None = None
    """Waiting until something was done for the step."""
    import_s: float | None = None
    """Python's imports in a process that is new."""
    load_s: float | None = None
    """Bringing the weights in."""
    prefill_s: float | None = None
    """Computing the step's prompt up to its first token."""
    compute_s: float | None = None
    """Computing in all, prefill and decode."""
    transfer_s: float | None = None
    """Bringing keys and values back from where they were put aside."""
    reused_tokens: int | None = None
    """Whose keys and values were still there, as the server counts."""
    prefilled_tokens: int | None = None
    """Computed before the first new token, as the server counts."""
    pid: int | None = None
    """The process that computed it."""

    @property
    def ttft_s(self) -> float:
        """From asking to the first token."""
        return self.first_token_s - self.asked_s

    @property
    def total_s(self) -> float:
        """From asking to the last token."""
        return self.done_s - self.asked_s


class Agent(Protocol):
    """One agent's side of an arm."""

    async def step(self, new_ids: Sequence[int], max_new_tokens: int) -> Step:
        """Append ids to the history, and generate greedily.

        Raises
        ------
        BudgetError: the device has no room for what the step needs.
        BackendError: what computes is gone, or broke; its cause is in the message.
        """
        ...

    async def close(self) -> None:
        """Give back what is held; a second call does nothing."""
        ...


class Arm(Protocol):
    """A way to serve agents. Starting and stopping it is its constructor's and `close`'s matter."""

    @property
    def name(self) -> str:
        """As its variant is called."""
        ...

    async def open(self, max_tokens: int) -> Agent:
        """Make an agent whose history will hold at most so many tokens.

        Raises
        ------
        BudgetError: there is no room for it on the device: out of memory.
        """
        ...

    async def close(self) -> None:
        """End everything that runs for it; nothing is left."""
        ...
