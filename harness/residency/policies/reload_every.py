"""reload-every: nothing is kept. The published baseline, less its copying back.

Physics: every request pays size ÷ link, even for the model that just ran. The seed's own also copies the
weights back to the host after each request, which is left out: it would only make the baseline slower.

Source: jaewan/Djinn, OSDI_Evaluation/exp1, "PyTorch Pinned" (`model.to("cuda")` per request).
"""

from __future__ import annotations

from typing import ClassVar

from harness.residency.policies.base import Plan, Policy

__all__ = ["ReloadEvery"]


class ReloadEvery(Policy):
    """Loads the whole model for every request."""

    name: ClassVar[str] = "reload-every"

    def _request(self, model: str, upcoming: str | None) -> Plan:
        evictions = self.arena.clear_all()
        needed_bytes = self._needed_bytes(model)
        copy = self._place(model, 0, self.arena.layouts[model].num_chunks, 0)
        return self._plan(model, (copy,), evictions, needed_bytes=needed_bytes)

    def _fill(self, model: str) -> Plan:
        return self._plan(model, (), ())
