"""Grade by equality."""

from __future__ import annotations

from harness.grading.base import Grade

__all__ = ["grade_exact"]


def grade_exact(output: str, reference: str) -> Grade:
    """Give 1 when `output` and `reference` are equal after stripping white space at both ends, else 0."""
    if output.strip() == reference.strip():
        return Grade(1.0, True)
    return Grade(0.0, False, f"got {output.strip()[:80]!r}")
