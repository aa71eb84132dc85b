"""resident: everything fits and stays. The ceiling: no policy can be faster, and none may answer otherwise.

Physics: the first request of each model pays its load, no other pays anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.errors import BudgetError
from harness.residency.layout import ModelLayout
from harness.residency.policies.base import Plan, Policy

__all__ = ["Resident"]


class Resident(Policy):
    """Every model has a place of its own."""

    name: ClassVar[str] = "resident"
    has_fixed_places: ClassVar[bool] = True

    def __init__(self, layouts: Mapping[str, ModelLayout], capacity_bytes: int) -> None:
        super().__init__(layouts, capacity_bytes)
        self._homes: dict[str, int] = {}
        at = 0
        for model, layout in layouts.items():
            self._homes[model] = at
            at += layout.num_bytes
        if at > capacity_bytes:
            raise BudgetError(
                f"resident: the models need {at} bytes, the arena has {capacity_bytes}; give it {at}"
            )

    def _request(self, model: str, upcoming: str | None) -> Plan:
        if self.arena.is_whole(model):
            return self._plan(model, (), ())
        self.arena.evict(model)  # what is left of it after a copy that failed
        copy = self._place(model, 0, self.arena.layouts[model].num_chunks, self._homes[model])
        return self._plan(model, (copy,), ())

    def _fill(self, model: str) -> Plan:
        return self._request(model, None)
