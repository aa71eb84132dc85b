"""Who answers which stage: fixed, random, escalating and hindsight routers behind one interface."""

from harness.routers.base import LARGE, ROLES, SMALL, Router
from harness.routers.controls import HindsightRouter, RandomRouter
from harness.routers.escalate import EscalatingRouter
from harness.routers.fixed import FixedRouter, assignments

__all__ = [
    "LARGE",
    "ROLES",
    "SMALL",
    "EscalatingRouter",
    "FixedRouter",
    "HindsightRouter",
    "RandomRouter",
    "Router",
    "assignments",
]
