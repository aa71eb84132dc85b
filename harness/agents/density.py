"""How many agents a device holds, by arithmetic: a model of their own each, or one model and sessions.

    with a model of its own each   ⌊C ÷ (W + kv)⌋
    sessions beside one model      ⌊(C − W) ÷ kv⌋

C is the device's memory, W the weights, kv an agent's keys and values at the end of its history. The second
over the first grows without limit as histories get shorter and tends to (C − W) ÷ C as they get longer, so a
ratio of densities says nothing without the lengths.

Trap: this is what is *held*, and not what is *served* in time. Agents beyond what fits at once can still be
served one after the other by an arm that holds nothing while they act.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import UsageError

__all__ = ["Density", "Footprint", "density", "own_models", "sessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one agent needs of a device."""

    weight_bytes: int
    """Of the model, once."""
    kv_token_bytes: int
    """Keys and values of one token, all layers."""
    tokens: int
    """An agent's history at its end."""
    process_bytes: int = 0
    """What a process takes beside weights, keys and values: a context, buffers."""

    def __post_init__(self) -> None:
        amounts = (self.weight_bytes, self.kv_token_bytes, self.tokens)
        if min(amounts) <= 0 or self.process_bytes < 0:
            raise UsageError(f"footprint: {self}: weights, keys and values, and tokens are above 0")

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one agent."""
        return self.kv_token_bytes * self.tokens


class Density(NamedTuple):
    """Agents that fit, each way."""

    own_models: int
    sessions: int

    @property
    def ratio(self) -> float | None:
        """Sessions per model of its own; None where not even one of these fits."""
        return self.sessions / self.own_models if self.own_models else None


def own_models(capacity_bytes: int, agent: Footprint) -> int:
    """Agents that fit when each holds a model and its keys and values."""
    return max(0, capacity_bytes) // (agent.process_bytes + agent.weight_bytes + agent.kv_bytes)


def sessions(capacity_bytes: int, agent: Footprint) -> int:
    """Agents that fit when one process holds the model once, and the keys and values of each."""
    return max(0, capacity_bytes - agent.process_bytes - agent.weight_bytes) // agent.kv_bytes


def density(capacity_bytes: int, agent: Footprint) -> Density:
    """Both, on a device of that capacity."""
    return Density(own_models(capacity_bytes, agent), sessions(capacity_bytes, agent))
