"""keep-last: one slot, for the model that ran last. The control that every claim of reuse has to beat.

Physics: a hit is two requests in a row for one model, the sum of squared popularities; no cleverness at all.

Source: this project (facts on switching); it is what a server does that loads on demand and never unloads
early.
"""

from __future__ import annotations

from typing import ClassVar

from harness.residency.policies.base import Plan, Policy

__all__ = ["KeepLast"]


class KeepLast(Policy):
    """Keeps the last model, and no other."""

    name: ClassVar[str] = "keep-last"

    def _request(self, model: str, upcoming: str | None) -> Plan:
        if self.arena.is_whole(model):
            return self._plan(model, (), ())
        needed_bytes = self._needed_bytes(model)
        evictions = self.arena.clear_all()
        copy = self._place(model, 0, self.arena.layouts[model].num_chunks, 0)
        return self._plan(model, (copy,), evictions, needed_bytes=needed_bytes)

    def _fill(self, model: str) -> Plan:
        if self.arena.models:
            return self._plan(model, (), ())
        return self._request(model, None)
