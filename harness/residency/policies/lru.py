"""lru: the least recently used goes first, by whole models or by layers.

Physics: by whole models it frees more than it needs: at 25 GB a 13.5 GB model drives out 5.2 and then 12.6 GB
where the 12.6 alone would do. By layers it frees what is missing.

Source: Mattson et al., Evaluation Techniques for Storage Hierarchies, IBM Systems Journal 9(2), 1970. Whole
models: ollama and llama-swap do so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Plan
from harness.residency.policies.slots import SlotPolicy

__all__ = ["LRU", "ChunkLRU"]


class LRU(SlotPolicy):
    """Least recently used, by whole models."""

    name: ClassVar[str] = "lru"
    evicts_whole: ClassVar[bool] = True

    def __init__(self, layouts: Mapping[str, ModelLayout], capacity_bytes: int) -> None:
        super().__init__(layouts, capacity_bytes)
        self._clock = 0
        self._used = dict.fromkeys(layouts, 0)

    def _touch(self, model: str) -> None:
        self._clock += 1
        self._used[model] = self._clock

    def _order(self, models: list[str]) -> list[str]:
        return sorted(models, key=self._used.__getitem__)


class ChunkLRU(LRU):
    """Least recently used, by layers."""

    name: ClassVar[str] = "chunk-lru"
    evicts_whole: ClassVar[bool] = False
    is_streaming: ClassVar[bool] = True
    can_look_ahead: ClassVar[bool] = True

    def lookahead(self, model: str, *, running: str) -> Plan:
        """Copy for the next request whatever fits beside the running model."""
        self._check(model)
        return self._look(model, running)
