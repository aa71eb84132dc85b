"""Every error that the reports raise on purpose.

    ReportError
    ├── ClaimError      a claim row is malformed
    ├── RecordError     a stored record is malformed, or of another schema
    ├── JournalError    a run's journal cannot be written, read or continued
    └── MergeError      what was measured under two plans would be taken for one

A message names the culprit, the value and the remedy.
"""

from __future__ import annotations

__all__ = ["ClaimError", "JournalError", "MergeError", "RecordError", "ReportError"]


class ReportError(Exception):
    """Something failed in a way the reports foresaw."""


class ClaimError(ReportError):
    """A claim row is malformed."""


class RecordError(ReportError):
    """A stored record is malformed, or of another schema."""


class JournalError(ReportError):
    """A run's journal cannot be written, read or continued."""


class MergeError(ReportError):
    """What was measured under two plans would be taken for one."""
