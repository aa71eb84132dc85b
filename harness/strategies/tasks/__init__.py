"""Tasks for strategies: `base` (question, judge), `seeds` (the source's two), `pocket` (four families)."""

from __future__ import annotations

from harness.strategies.tasks.base import Judge, Task
from harness.strategies.tasks.pocket import POCKET_FAMILIES

__all__ = ["POCKET_FAMILIES", "Judge", "Task"]
