"""Two runs compared: the claims' words and numbers, and every metric of every test.

What is called improved or regressed is so at 5 % over the whole comparison: claims and everything else are a
family each, at half of that, by Holm. `reports.comparing.changes` says how far a number moved,
`reports.comparing.rows` what that is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reports.comparing.claimed import claim_rows
from reports.comparing.kinds import TIME, kind_of_unit
from reports.comparing.measured import Pair, control_rows, metric_rows
from reports.comparing.rows import WORDS, Row, called
from reports.comparing.surroundings import Surroundings, chosen_differences, surroundings_of
from reports.runs import Run

__all__ = ["FAMILIES", "LEVEL", "Comparison", "Terms", "compare"]

LEVEL = 0.05
"""The chance of any false alarm in a whole comparison."""
FAMILIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is declared before two runs are compared."""

    margin: float = 0.05
    """What is too small to matter: a share of the number, or points of a share."""
    drift: float = 0.05
    """sd of the log of a session's own level, where no three sessions of a run measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs, side by side."""

    before: str
    after: str
    terms: Terms
    surroundings: Surroundings
    claims: tuple[Row, ...]
    metrics: tuple[Row, ...]
    unlike: tuple[str, ...]
    """Tests that were asked to measure something else in either run, with what differs."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """Claims first, then metrics."""
        return (*self.claims, *self.metrics)

    @property
    def is_worse(self) -> bool:
        """Whether a number regressed, or a test that both runs should have is lost or fails."""
        return bool(self.counts()["regressed"] or self.surroundings.lost)

    def counts(self) -> dict[str, int]:
        """How many rows have each word."""
        return {word: sum(row.word == word for row in self.rows) for word in WORDS}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "before": self.before,
            "after": self.after,
            "margin": self.terms.margin,
            "drift": self.terms.drift,
            "level": LEVEL,
            "differences": self.surroundings._asdict(),
            "not_comparable": list(self.unlike),
            "counts": self.counts(),
            "claims": [row.to_json() for row in self.claims],
            "metrics": [row.to_json() for row in self.metrics],
        }


def compare(before: Run, after: Run, terms: Terms | None = None) -> Comparison:
    """`after` beside `before`: everything that both measured."""
    terms = terms or Terms()
    around = surroundings_of(before, after)
    pairs = list(_pairs(before, after))
    unlike = {pair.name: found for pair in pairs if (found := _unlike(pair))}
    alike = [pair for pair in pairs if pair.name not in unlike]
    rows = [row for pair in alike for row in metric_rows(pair, terms.margin, terms.drift)]
    rows += control_rows(alike, terms.margin, terms.drift)
    if not around.has_equal_clocks:
        rows = [
            _not_compared(row, "the machine, profile or lanes differ") if _is_timed(row) else row
            for row in rows
        ]
    has_clocks = around.has_equal_clocks
    claims = claim_rows(before, after, terms.margin, terms.drift, has_equal_clocks=has_clocks)
    odd_claims = _claims_of(after, [pair for pair in pairs if pair.name in unlike])
    odd = "its test measured something else"
    claims = [_not_compared(row, odd) if row.name in odd_claims else row for row in claims]
    return Comparison(
        before=str(before.path),
        after=str(after.path),
        terms=terms,
        surroundings=around,
        claims=tuple(called(claims, LEVEL / FAMILIES)),
        metrics=tuple(called(rows, LEVEL / FAMILIES)),
        unlike=tuple(f"{name}: {'; '.join(found)}" for name, found in unlike.items()),
    )


def _pairs(before: Run, after: Run) -> Iterator[Pair]:
    """Tests that left a record in both runs."""
    new = {entry.nodeid: entry.record for entry in after.entries}
    for entry in before.entries:
        other = new.get(entry.nodeid)
        if entry.record is not None and other is not None:
            yield Pair(entry.nodeid, entry.record, other)


def _unlike(pair: Pair) -> list[str]:
    """Why the two are no measurements of one thing."""
    ends = zip(("first", "second"), pair.records, strict=True)
    broken = [f"was interrupted in the {which} run" for which, record in ends if not record.complete]
    return chosen_differences(*pair.records) + broken


def _claims_of(run: Run, pairs: Sequence[Pair]) -> set[str]:
    """The claims whose treatment, or what that is set against, is the variant of one of the pairs."""
    variants = {(pair.after.experiment, pair.after.variant) for pair in pairs}
    verdicts: Sequence[Mapping[str, Any]] = run.verdicts
    return {
        v["id"]
        for v in verdicts
        if any((v.get("experiment"), v.get(side)) in variants for side in ("treatment", "against"))
    }


def _is_timed(row: Row) -> bool:
    return kind_of_unit(row.unit) == TIME


def _not_compared(row: Row, why: str) -> Row:
    return replace(row, mean=None, drift=0.0, word="not compared", why=why)
