"""What an answer costs.

Real models have a market price per token. Pocket models have none: they cost the time their engine was busy,
at the price of the processor it was busy on. Neither is the *number* of tokens, which the seed calls cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.backends.base import Completion

__all__ = ["EngineTimePrice", "Price", "TokenPrice", "UnknownPrice"]

TOKENS_PER_MTOK = 1_000_000
SECONDS_PER_HOUR = 3600.0


class Price(Protocol):
    """Turns a completion into dollars."""

    def usd(self, completion: Completion) -> float | None:
        """The cost of one completion; `None` when what it is computed from was not reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """Prompt and output tokens, as the server counted them, at the model's list price."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float

    def usd(self, completion: Completion) -> float | None:
        """prompt_tokens × input price + output_tokens × output price."""
        if completion.prompt_tokens is None or completion.output_tokens is None:
            return None
        return (
            completion.prompt_tokens * self.input_usd_per_mtok
            + completion.output_tokens * self.output_usd_per_mtok
        ) / TOKENS_PER_MTOK


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTimePrice:
    """Seconds of prefill and decode, as the server measured them, at the price of a vCPU hour."""

    usd_per_vcpu_hour: float
    vcpus: int = 1

    def usd(self, completion: Completion) -> float | None:
        """(prefill_s + decode_s) × vCPUs × price per second."""
        prefill_s, decode_s = completion.engine.prefill_s, completion.engine.decode_s
        if prefill_s is None or decode_s is None:
            return None
        return (prefill_s + decode_s) * self.vcpus * self.usd_per_vcpu_hour / SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class UnknownPrice:
    """No price is known for the model: its cost is absent, and no claim about cost is decided by it."""

    def usd(self, completion: Completion) -> None:
        """Absent, never 0."""
        return None
