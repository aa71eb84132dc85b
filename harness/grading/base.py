"""What every grader of words returns."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Grade"]


class Grade(NamedTuple):
    """What an output was worth."""

    score: float
    """From 0 to 1."""
    ok: bool
    """Whether it meets its requirement."""
    reason: str | None = None
    """Why it does not; None when it does."""
