"""Grade by the number that an answer ends with.

Models wrap a result in words; the last number of the text is taken as the answer, as is usual for GSM8K.
Source: Cobbe et al. 2021, arXiv:2110.14168 (the answer is what stands last).
"""

from __future__ import annotations

import math
import re

from harness.grading.base import Grade

__all__ = ["grade_numeric", "last_number", "last_number_text"]

_NUMBER = re.compile(r"(?<![\w.])[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.?)(?:[eE][-+]?\d+)?")


def last_number(text: str) -> float | None:
    """Return the last number in `text`, read with thousands separators; None when there is none."""
    found = last_number_text(text)
    return None if found is None else float(found)


def last_number_text(text: str) -> str | None:
    """Return the last number in `text` in plain digits, without separators; None when there is none."""
    found = [match[0] for match in _NUMBER.finditer(text) if any(char.isdigit() for char in match[0])]
    return found[-1].replace(",", "").replace("−", "-").lstrip("+").rstrip(".") if found else None


def grade_numeric(output: str, reference: float, relative_tolerance: float = 1e-6) -> Grade:
    """Give 1 when the last number of `output` is `reference` within the relative tolerance, else 0."""
    number = last_number(output)
    if number is None:
        return Grade(0.0, False, "no number")
    if math.isclose(number, reference, rel_tol=relative_tolerance, abs_tol=relative_tolerance):
        return Grade(1.0, True)
    return Grade(0.0, False, f"got {number:g}")
