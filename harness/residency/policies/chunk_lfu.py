"""chunk-slots: chunks anywhere; the least frequently used model gives way first, by what is in the way.

Physics: every chunk of a model is used by each of its requests, so the count is the model's. Counts decay by
half in `half_life` requests, so that yesterday's favourite leaves. Frequency beats recency here, since model
popularity is skewed and stays so; with lookahead, only the bytes that cannot lie beside the running model
block: max(0, next + running − capacity).

Source: Robinson and Devarakonda, Data Cache Management Using Frequency-Based Replacement, SIGMETRICS 1990
(aged counts); the residual is this project's own bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.errors import UsageError
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Plan
from harness.residency.policies.slots import SlotPolicy

__all__ = ["HALF_LIFE", "ChunkLFU"]

HALF_LIFE = 32.0
"""Requests. Long against the number of models, short against a day."""


class ChunkLFU(SlotPolicy):
    """Decayed layer-LFU on dynamic places."""

    name: ClassVar[str] = "chunk-slots"
    is_streaming: ClassVar[bool] = True
    can_look_ahead: ClassVar[bool] = True

    def __init__(
        self, layouts: Mapping[str, ModelLayout], capacity_bytes: int, *, half_life: float = HALF_LIFE
    ) -> None:
        super().__init__(layouts, capacity_bytes)
        if not half_life > 0:
            raise UsageError(f"chunk-slots: half_life is {half_life} requests; give a positive number")
        self._growth = 2.0 ** (1.0 / half_life)
        self._weight = 1.0
        self._counts = dict.fromkeys(layouts, 0.0)

    def lookahead(self, model: str, *, running: str) -> Plan:
        """Copy for the next request whatever fits beside the running model."""
        self._check(model)
        return self._look(model, running)

    def _touch(self, model: str) -> None:
        # To weigh each request more than the one before is to let the earlier ones decay.
        self._weight *= self._growth
        self._counts[model] += self._weight
        if self._weight > 1e12:
            self._counts = {one: count / self._weight for one, count in self._counts.items()}
            self._weight = 1.0

    def _order(self, models: list[str]) -> list[str]:
        return sorted(models, key=self._counts.__getitem__)
