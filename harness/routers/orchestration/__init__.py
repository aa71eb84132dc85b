"""Running jobs under a memory budget: plan, evict, load, answer, step by step."""

from harness.routers.orchestration.base import Computed, Decider, Decision

__all__ = ["Computed", "Decider", "Decision"]
