"""A router answers one question per stage: which role runs it, and is its answer good enough?

The interface is the executor's (`harness.workflow.executor.StageRouter`); this family implements it.
"""

from __future__ import annotations

from harness.workflow.executor import StageRouter as Router

__all__ = ["LARGE", "ROLES", "SMALL", "Router"]

SMALL, LARGE = "small", "large"
ROLES = (SMALL, LARGE)
