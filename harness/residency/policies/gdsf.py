"""gdsf: greedy dual size frequency, by whole models.

Physics: a model's worth is clock + requests since it came × cost ÷ size, and the clock rises to the worth of
whatever is evicted, so that old worth fades. With cost 1 it collects hits and prefers small models; with the
cost of a reload, which is proportional to size, it becomes LFU with ageing.

Source: Cherkasova, Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy, HP Labs
HPL-98-69R1, 1998.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.residency.layout import ModelLayout
from harness.residency.policies.slots import SlotPolicy

__all__ = ["GDSF"]


class GDSF(SlotPolicy):
    """Greedy dual size frequency with cost 1."""

    name: ClassVar[str] = "gdsf"
    evicts_whole: ClassVar[bool] = True

    def __init__(self, layouts: Mapping[str, ModelLayout], capacity_bytes: int) -> None:
        super().__init__(layouts, capacity_bytes)
        self._clock = 0.0
        self._counts = dict.fromkeys(layouts, 0)
        self._worth = dict.fromkeys(layouts, 0.0)

    def _touch(self, model: str) -> None:
        self._counts[model] += 1
        self._worth[model] = self._clock + self._counts[model] / self.arena.layouts[model].num_bytes

    def _order(self, models: list[str]) -> list[str]:
        return sorted(models, key=self._worth.__getitem__)

    def _gone(self, model: str) -> None:
        self._clock = max(self._clock, self._worth[model])
        self._counts[model] = 0
