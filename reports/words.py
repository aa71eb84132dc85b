"""The vocabulary of verdicts: every word, how it shows, and what the gate makes of a change."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BADNESS", "BROKEN", "HELD", "LETTERS", "WORDS", "Word", "gate_outcome"]


class Word(NamedTuple):
    """How a verdict shows."""

    letter: str
    colour: str
    badness: int
    """The order in which the gate ranks verdicts."""
    outcome: str
    """As a test in report mode: "pass", "skip" or "fail"."""
    meaning: str


WORDS = {
    "confirmed": Word("C", "green", 0, "pass", "the whole interval lies on the claim's side"),
    "confirmed, but": Word("c", "yellow", 1, "pass", "confirmed, but not against a trivial alternative"),
    "inconclusive": Word(
        "I", "yellow", 2, "pass", "the interval holds both sides: more rounds would settle it"
    ),
    "out of scope": Word("O", "cyan", 3, "skip", "this run lacks what the claim needs"),
    "impossible": Word("X", "cyan", 4, "pass", "beyond what arithmetic or the declared hardware allows"),
    "missing": Word("M", "yellow", 5, "fail", "its variants did not run"),
    "refuted": Word("R", "red", 6, "pass", "the whole interval lies on the other side"),
    "error": Word("E", "red", 7, "fail", "a variant broke"),
    "invalid": Word("V", "red", 8, "fail", "a variant did not run what it is named after"),
}
"""Every word, from good to bad."""

LETTERS = {name: (word.letter, word.colour) for name, word in WORDS.items()}
BADNESS = {name: word.badness for name, word in WORDS.items()}

HELD = ("confirmed", "confirmed, but")
BROKEN = ("missing", "error", "invalid")


def gate_outcome(expected: str, now: str) -> str:
    """What the gate does about a change from one word to another.

    Returns
    -------
    "ok"; "rerun" (a held claim fell to inconclusive: once again, then a warning); "warn" (a held claim can
    no longer be judged here); "fail" (a held claim is refuted, or loses to a trivial alternative, or the
    evidence broke).
    """
    if now == expected or now == "confirmed":
        return "ok"
    if now in BROKEN:
        return "ok" if expected in BROKEN and BADNESS[now] <= BADNESS[expected] else "fail"
    if expected not in HELD:
        return "ok"
    return {"inconclusive": "rerun", "out of scope": "warn", "impossible": "warn"}.get(
        now, "ok" if BADNESS[now] < BADNESS[expected] else "fail"
    )
