"""fifo-ring: whole models side by side in a ring; who comes writes over who lies there. The seed's own
policy.

Physics: the ring's head moves on with each load; a model that does not fit before the end skips to the start
(skip-end), and every model it then lies on is gone, popular or not. At 25 GB this happens to be the best that
whole models can do: 12.6 and 13.5 GB take turns at the start and 5.2 GB stays behind them. At other sizes it
is not.

`FifoRingCopyOut` writes what it evicts back to the host first, as the seed does. Weights are read-only, so
that moves bytes for nothing: (12.6 + 13.5) GB on one link is the seed's tail.

Source: jaewan/Djinn, djinn/backend/runtime/ring_buffer.py (skip-end ring), OSDI_Evaluation/exp1 (copy-out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from harness.residency.arena_map import Placed
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Plan, Policy

__all__ = ["FifoRing", "FifoRingCopyOut"]


class FifoRing(Policy):
    """A ring of whole models with skip-end."""

    name: ClassVar[str] = "fifo-ring"

    def __init__(self, layouts: Mapping[str, ModelLayout], capacity_bytes: int) -> None:
        super().__init__(layouts, capacity_bytes)
        self._head = 0

    def _request(self, model: str, upcoming: str | None) -> Plan:
        if self.arena.is_whole(model):
            return self._plan(model, (), ())
        needed_bytes = self._needed_bytes(model)
        start, end = self._region(model)
        evictions: list[Placed] = []
        for victim in {placed.model: None for placed in self.arena.overlapping(start, end)}:
            evictions += self.arena.evict(victim)
        return self._put(model, start, evictions, needed_bytes)

    def _fill(self, model: str) -> Plan:
        start, end = self._region(model)
        if self.arena.is_whole(model) or self.arena.overlapping(start, end):
            return self._plan(model, (), ())
        return self._put(model, start, [], 0)

    def _region(self, model: str) -> tuple[int, int]:
        num_bytes = self.arena.layouts[model].num_bytes
        start = self._head if self._head + num_bytes <= self.arena.capacity_bytes else 0
        return start, start + num_bytes

    def _put(self, model: str, start: int, evictions: list[Placed], needed_bytes: int) -> Plan:
        copy = self._place(model, 0, self.arena.layouts[model].num_chunks, start)
        self._head = start + copy.num_bytes
        return self._plan(model, (copy,), evictions, needed_bytes=needed_bytes)


class FifoRingCopyOut(FifoRing):
    """The same, writing back what it evicts."""

    name: ClassVar[str] = "fifo-ring-copy-out"

    def _request(self, model: str, upcoming: str | None) -> Plan:
        plan = super()._request(model, upcoming)
        return replace(plan, copy_out_bytes=plan.evicted_bytes)
