"""The engine of the session server, for one thread: open sessions, submit turns, step.

    load, Model               weights, held once, and their forward pass
    Engine                    sessions, queue and batches: open, submit, step, cancel, close, stats
    Turn, Event, Timings      what is asked and what comes
    Retention, retention      who loses its slab when the budget is short: keep, drop, offload, …

A turn brings only new tokens: what the session's slab already holds is not computed again, and is counted.
Importing this imports torch.
"""

from __future__ import annotations

from harness.sessions.core.engine import Engine, Stats
from harness.sessions.core.loading import DEFAULT_MODEL, LoadedModel, load
from harness.sessions.core.model import Model, Span
from harness.sessions.core.retention import Retention, retention, retention_names
from harness.sessions.core.session import Place, SessionInfo
from harness.sessions.core.slab import Slab
from harness.sessions.core.turns import Event, Timings, Turn

__all__ = [
    "DEFAULT_MODEL",
    "Engine",
    "Event",
    "LoadedModel",
    "Model",
    "Place",
    "Retention",
    "SessionInfo",
    "Slab",
    "Span",
    "Stats",
    "Timings",
    "Turn",
    "load",
    "retention",
    "retention_names",
]
