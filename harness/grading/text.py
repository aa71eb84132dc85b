"""Grade words by overlap and by facts.

ROUGE-L F is 2·LCS / (words of the output + words of the reference): the F1 of precision LCS/output and
recall LCS/reference, over the longest common subsequence of lower-case words. It measures wording, not
truth, so a text is *ok* by its facts alone, and its overlap is reported beside them.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, with β = 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.grading.base import Grade

__all__ = ["grade_text", "missing_facts", "rouge_l", "words"]

_WORD = re.compile(r"[^\W_]+")


def grade_text(output: str, reference: str, facts: Iterable[str] = ()) -> Grade:
    """Score `output` by ROUGE-L F against `reference`; it is ok when no fact is missing."""
    missing = missing_facts(output, facts)
    reason = f"does not mention {', '.join(missing)}" if missing else None
    return Grade(rouge_l(output, reference), not missing, reason)


def rouge_l(output: str, reference: str) -> float:
    """Return ROUGE-L F, from 0 to 1; two texts without words are equal, and one alone scores 0."""
    from rapidfuzz.distance import LCSseq

    ours, theirs = words(output), words(reference)
    if not ours and not theirs:
        return 1.0
    return 2 * float(LCSseq.similarity(ours, theirs)) / (len(ours) + len(theirs))


def missing_facts(output: str, facts: Iterable[str]) -> list[str]:
    """Return the facts that do not occur in `output`, ignoring case; `a|b` occurs when either does.

    A fact is text, not a regular expression, and may occur inside a word: `dot` is found in `dots`.
    """
    text = output.lower()
    return [fact for fact in facts if not any(part.strip().lower() in text for part in fact.split("|"))]


def words(text: str) -> list[str]:
    """Split text into its lower-case words and numbers."""
    return _WORD.findall(text.lower())
