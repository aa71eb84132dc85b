"""A verdict of `claims.json` in words and cells: what tables and figures show of it.

Numbers keep the unit of what is compared: × for ratios, % for reductions, points for differences of shares,
and the claim's own unit for values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reports.tabular import cells
from reports.tabular.cells import ABSENT, Scale

__all__ = [
    "Verdict",
    "counts",
    "letter_and_word",
    "measured",
    "published",
    "published_ends",
    "says",
    "scale_for",
    "sentence",
    "source",
    "why",
    "word_of",
]

Verdict = Mapping[str, Any]
"""One object of `claims.json`, as `reports.verdicts.Verdict.to_json` makes it."""


def word_of(verdict: Verdict) -> str:
    """The key of `reports.verdicts.WORDS`: "confirmed, but" where an alternative was not beaten."""
    word = str(verdict.get("word") or verdict["verdict"])
    return "confirmed, but" if word == "confirmed" and verdict.get("not_against") else word


def letter_and_word(verdict: Verdict) -> str:
    """The letter that pytest's line of progress shows, and the word: "R refuted"."""
    from reports.verdicts import WORDS

    word = word_of(verdict)
    return f"{WORDS[word].letter if word in WORDS else '?'} {word}"


def sentence(verdict: Verdict) -> str:
    """The verdict in full: "confirmed, but not against keep-last" where a control was not beaten."""
    losses = verdict.get("not_against") or ()
    if word_of(verdict) == "confirmed, but":
        return f"confirmed, but not against {', '.join(losses)}"
    return str(verdict["verdict"])


def why(verdict: Verdict) -> str:
    """The reason, led by the alternatives that were not beaten; empty where there is nothing to say."""
    losses = verdict.get("not_against") or ()
    parts = [f"not against {', '.join(losses)}"] if word_of(verdict) == "confirmed, but" else []
    return "; ".join([*parts, *([str(verdict["reason"])] if verdict.get("reason") else [])])


def says(verdict: Verdict) -> str:
    """The claim in its own words, or its id."""
    return str(verdict.get("says") or verdict["id"])


def source(verdict: Verdict) -> str:
    """Where the claim stands."""
    return str(verdict.get("source") or ABSENT)


def counts(verdicts: Iterable[Verdict]) -> str:
    """How many claims came out how, from good to bad: "3 claims: 2 confirmed, 1 refuted"."""
    from reports.verdicts import WORDS

    found = Counter(word_of(v) for v in verdicts)
    order = [*WORDS, *sorted(found.keys() - WORDS.keys())]
    names = {"confirmed, but": "confirmed but not against a control"}
    parts = [f"{found[word]} {names.get(word, word)}" for word in order if found[word]]
    total = found.total()
    return f"{total} claim{'' if total == 1 else 's'}: {', '.join(parts) or 'none judged'}"


def published(verdict: Verdict) -> str:
    """The published value with its unit; a range as "40 to 60 %"; "–" where none was published."""
    scale = scale_for(verdict)
    ends = [_plain(scale(end)) for end in published_ends(verdict)]
    return cells.with_unit(" to ".join(ends), scale.unit)


def published_ends(verdict: Verdict) -> list[float | None]:
    """The published value, or both ends of a published range; `[None]` where none was published."""
    value = verdict.get("published")
    return list(value) if isinstance(value, Sequence) else [value]


def measured(verdict: Verdict) -> str:
    """The estimate, its unit and its interval; "–" where nothing was measured."""
    scale = scale_for(verdict)
    value, ends = scale(verdict.get("estimate")), scale.interval(verdict.get("interval"))
    if verdict.get("form") == "order" and value is not None and ends is not None:
        return f"{value:.0f} {scale.unit} [{ends[0]:.0f}, {ends[1]:.0f}]"
    text = cells.with_unit(cells.number(value, ends), scale.unit)
    if verdict.get("form") == "exact" and ends is not None:  # no interval: the least and the most of all
        low, high = (f"{end:.4g}".replace("-", "−") for end in ends)
        return f"{text}, always" if low == high else f"{text}, {low} to {high}"
    return f"{text} {cells.interval_text(value, ends)}".rstrip()


def scale_for(verdict: Verdict) -> Scale:
    """The scale that the verdict's numbers are printed in."""
    quantity = verdict.get("quantity")
    if verdict.get("form") == "order":  # what is counted are rivals, whatever the axes are in
        return Scale(1, "rivals")
    if verdict.get("form") == "monotone":  # a change along the sweep, in the metric's own unit
        return cells.scale_of(str(verdict.get("unit") or ""), [verdict.get("estimate")])
    if quantity == "reduction" and verdict.get("against"):
        return cells.scale_of("difference", ())
    if quantity in ("ratio", "reduction"):
        return cells.scale_of(quantity, ())
    if verdict.get("of"):
        return cells.scale_of("share", ())
    unit = str(verdict.get("unit") or "")
    if quantity == "difference" and verdict.get("over") in ("tasks", "jobs") and unit in cells.SHARES:
        return cells.scale_of("difference", ())
    return cells.scale_of(unit, [verdict.get("estimate"), *published_ends(verdict)])


def _plain(value: float | None) -> str:
    """A published number as it was published: no digits added, none taken away."""
    return ABSENT if value is None else f"{value:.10g}".replace("-", "−")
