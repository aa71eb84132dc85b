"""Extract: find one field of a short record, written as pairs or as prose."""

from __future__ import annotations

import random
import string

from harness.models.tasks import words
from harness.models.tasks.base import Example

__all__ = ["Extract"]

_MAX_FOLLOW_UPS = 4


class Extract:
    """Answer "What is the <field>?" about a record of four to six fields."""

    name = "extract"
    max_tokens = 12
    chance = 1 / 5
    baseline = "the last field of the record"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        record = _draw_record(rng)
        form = rng.randrange(3)
        if form == 2:
            keys = list(record)
            text = _prose(record)
        else:
            keys = rng.sample(list(record), rng.randint(4, 6))
            pair, separator = ("{}: {}", "; ") if form == 0 else ("{}={}", ", ")
            text = separator.join(pair.format(key, record[key]) for key in keys)
        asked = rng.sample(keys, len(keys))[: 1 + _MAX_FOLLOW_UPS]
        return Example(
            prompt=f"Record: {text}\nWhat is the {asked[0]}?",
            target=record[asked[0]],
            follow_ups=tuple((f"What is the {key}?", record[key]) for key in asked[1:]),
            facts={"last": record[keys[-1]]},
        )

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        return answer.strip() == example.target

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return str(example.facts["last"])


def _draw_record(rng: random.Random) -> dict[str, str]:
    plate = "".join(rng.choices(string.ascii_uppercase, k=2) + rng.choices(string.digits, k=3))
    return {
        "name": f"{rng.choice(words.NAMES)} {rng.choice(words.SURNAMES)}",
        "city": rng.choice(words.CITIES),
        "age": str(rng.randint(18, 89)),
        "job": rng.choice(words.JOBS),
        "color": rng.choice(words.COLORS),
        "code": plate,
    }


def _prose(record: dict[str, str]) -> str:
    return (
        "{name} lives in {city} and is {age} years old. The {job} drives a {color} car with plate {code}."
    ).format(**record)
