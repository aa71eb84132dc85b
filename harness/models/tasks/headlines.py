"""Summarize: two events are told, one of them twice; write its headline.

The pocket models do not learn it in their budget: they find all five fields and mix the events up.
It stays as the task that none of them can do, and the card shows chance beside it.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from harness.models.tasks import words
from harness.models.tasks.base import Example

__all__ = ["Headline"]

_WHO = ["mayor", "council", "museum", "library", "team", "school", "hospital", "airline", "union", "bank"]
_DOES = ["opens", "closes", "bans", "buys", "sells", "funds", "repairs", "tests"]
_WHAT = ["bridge", "park", "stadium", "market", "ferry", "tunnel", "garden", "theater", "tram", "clinic"]
_KIND = ["new", "old", "small", "large", "famous", "public"]


class _Event(NamedTuple):
    city: str
    who: str
    does: str
    kind: str
    what: str

    @property
    def headline(self) -> str:
        return " ".join(self)


class Headline:
    """Write the headline of the event that the text comes back to."""

    name = "summarize"
    max_tokens = 24
    chance = 0.5
    baseline = "the first event"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        columns = [rng.sample(pool, 2) for pool in (words.CITIES, _WHO, _DOES, _KIND, _WHAT)]
        told, other = (_Event(*values) for values in zip(*columns, strict=True))
        events = [told, other]
        rng.shuffle(events)
        text = " ".join(_sentence(rng, event) for event in events) + " " + _comment(rng, told)
        return Example(
            prompt=f"Text: {text}\nHeadline?",
            target=told.headline,
            follow_ups=((f"And {other.city}?", other.headline),),
            facts={"first": events[0].headline},
        )

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        return answer.strip() == example.target

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return str(example.facts["first"])


def _sentence(rng: random.Random, event: _Event) -> str:
    day = rng.choice(words.DAYS)
    forms = (
        f"On {day} the {event.city} {event.who} {event.does} a {event.kind} {event.what}.",
        f"The {event.who} of {event.city} {event.does} a {event.kind} {event.what} this {day}.",
        f"In {event.city} the {event.who} {event.does} a {event.kind} {event.what}.",
    )
    return rng.choice(forms)


def _comment(rng: random.Random, event: _Event) -> str:
    forms = (
        f"The {event.what} costs {rng.randint(2, 99)} million.",
        f"Many people welcome the {event.what}.",
        f"Critics say the {event.what} comes too late.",
    )
    return rng.choice(forms)
