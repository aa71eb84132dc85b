"""What a bound says: how large or small a claim's number can be at all, with the sum that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Bound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A limit on a claim's number, with its arithmetic."""

    name: str
    side: str
    """"at_most": the number cannot be larger than `value`; "at_least": it cannot be smaller."""
    value: float
    unit: str
    inputs: Mapping[str, Any]
    arithmetic: str
    """The sum, on one line, for the page."""
    condition: str
    """When the published number would be possible."""

    def allows(self, low: float, high: float) -> bool:
        """Whether some number of [low, high] lies within the bound."""
        return low <= self.value if self.side == "at_most" else high >= self.value

    def to_json(self) -> dict[str, Any]:
        """The bound as plain JSON values."""
        return asdict(self)
