"""How a finished test shows in the terminal: verdicts by their own words, variants by a line of progress."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["status_of"]


def status_of(
    report: pytest.TestReport, *, is_again: bool, has_line: bool
) -> tuple[str, str, str | tuple[str, dict[str, bool]]] | None:
    """(category, letter, word) as pytest takes them; `None` where pytest decides.

    Arguments: `is_again`, whether the gate had the test measured once more; `has_line`, whether a line of
    progress says how it ended.
    """
    verdict: Any = dict(getattr(report, "user_properties", ())).get("verdict")
    if report.when == "call" and report.passed:
        if verdict:
            from reports.verdicts import LETTERS

            letter, colour = LETTERS[str(verdict)]
            return str(verdict), letter, (str(verdict).upper(), {colour: True})
        if getattr(report, "is_replayed", False):
            return "resumed", "r", "RESUMED"
        if is_again:
            return "measured again", "", "MEASURED AGAIN"
    return (report.outcome, "", "") if has_line and hasattr(report, "assay") else None
