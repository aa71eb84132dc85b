"""A claim as a page shows it: its verdict, and the four steps that led there.

The step that ended it is marked; those after it were not reached. A claim that is out of scope, missing,
broken or invalid ends at its provenance: nothing that ran was what it speaks of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reports.claims import Claim
from reports.pages.dots import Dots, Shown
from reports.pages.scales import Spot, claim_of, spot_of
from reports.records import Metric, Record
from reports.tabular import cells, verdict_cells
from reports.verdicts import Verdict
from reports.words import WORDS

__all__ = ["STEPS", "ClaimView", "Fact", "legible", "slug", "view"]

STEPS = ("Physics", "Provenance", "Measurement", "Controls")
ENDS_AT = {
    "impossible": 1, "out of scope": 2, "missing": 2, "error": 2, "invalid": 2,
    "confirmed": 3, "refuted": 3, "inconclusive": 3, "confirmed, but": 4,
}  # fmt: skip
FORMS = {
    "at_least": "at least {}",
    "at_most": "at most {}",
    "between": "{}; the lower end decides",
    "equivalent": "equivalent to {} within {}",
    "no_worse_than": "at most {1} worse than {0}",
    "exact": "exactly {}",
    "monotone": "{direction} from the first point {along} to the last, and no step back",
    "order": "no other variant as good on every axis and better on one",
}
FROM_NOTHING = {"equivalent": "equal within {1}", "no_worse_than": "at most {1} worse"}
"""How a difference is asked for whose threshold is 0."""
QUANTITIES = {
    "ratio": "how many times better than the control",
    "reduction": "1 − treatment ÷ control",
    "difference": "treatment − control",
    "value": "the treatment's own value",
}
ORDERED = {
    "monotone": "the change from the first point of the sweep to the last",
    "order": "how many other variants are as good on every axis and better on one",
}
"""Forms that compare with no number: what is measured instead of a quantity."""
DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")
BLANK = Verdict(id="", version=1, experiment="", verdict="missing").to_json()
LONG = 400
"""Characters of an input beyond which it is cut."""


class Fact(NamedTuple):
    """A name and what stands beside it."""

    name: str
    value: str


class ClaimView(NamedTuple):
    """What the template wants."""

    verdict: Mapping[str, Any]
    anchor: str
    word: str
    letter: str
    slug: str
    is_published: bool
    """As a source says it; otherwise our own row, for this profile."""
    says: str
    source: str
    measured: str
    published: str
    why: str
    metric: Metric | None
    asks: str
    quantity: str
    spot: Spot | None
    dots: Shown | None
    ended: int
    """The step, from 1, that ended it."""
    inputs: tuple[Fact, ...]
    bound: str
    p: str
    method: str
    more: str
    """How much more would settle it, where the reason does not say so."""
    scope: tuple[Fact, ...]
    search: str
    command: str


def slug(word: str) -> str:
    """A word as a class of a style sheet."""
    return word.replace(", ", "-").replace(" ", "-")


def view(verdict: Mapping[str, Any], dots: Dots) -> ClaimView:
    """One claim, from its verdict and from the records of the run; an old verdict may lack keys."""
    verdict = {**BLANK, "word": None, **verdict}
    claim, word = claim_of(verdict), verdict_cells.word_of(verdict)
    record = dots.record_of(verdict, claim)
    metric = record.metrics.get(claim.metrics[0]) if record else None
    better = metric.better if metric else "higher"
    experiment = str(verdict.get("experiment") or "")
    return ClaimView(
        verdict=verdict,
        anchor=f"claim-{verdict['id']}",
        word=word,
        letter=WORDS[word].letter if word in WORDS else "?",
        slug=slug(word),
        is_published=not verdict.get("scope"),
        says=verdict_cells.says(verdict),
        source=verdict_cells.source(verdict),
        measured=legible(verdict_cells.measured(verdict)),
        published=legible(verdict_cells.published(verdict)),
        why=verdict_cells.why(verdict),
        metric=metric,
        asks=_asks(verdict, claim),
        quantity=_quantity(verdict, claim),
        spot=spot_of(verdict, better),
        dots=dots.of(verdict, claim),
        ended=ENDS_AT.get(word, 4),
        inputs=tuple(_inputs(verdict)),
        bound=_bound(verdict),
        p=_p(verdict.get("p")),
        method=_method(verdict),
        more=_more(verdict),
        scope=tuple(_scope(verdict, record)),
        search=" ".join(
            str(verdict.get(key) or "") for key in ("id", "says", "source", "treatment", "metric", "covers")
        ).lower(),
        command=f"pytest bench/ -m {experiment} --claim {verdict['id']}",
    )


def _asks(verdict: Mapping[str, Any], claim: Claim) -> str:
    """The rule in words, with its number."""
    number = verdict_cells.published(verdict)
    margin = ""
    if claim.margin is not None:
        relative = claim.quantity in ("ratio", "value")
        in_points = not relative and verdict_cells.scale_for(verdict).unit in ("points", "%")
        margin = f"{100 * claim.margin:g} %" if relative else f"{claim.margin:g} {claim.unit}".rstrip()
        margin = f"{100 * claim.margin:g} points" if in_points else margin
    along = "of the sweep" if claim.along in (None, "along") else f"along {claim.along}"
    forms = FORMS | (FROM_NOTHING if claim.quantity == "difference" and claim.threshold == 0 else {})
    return legible(
        forms.get(claim.form, claim.form + " {} {}").format(
            number, margin, along=along, direction=claim.direction or "one way"
        )
    )


def legible(text: str) -> str:
    """Long whole numbers in groups of three, and no interval that is one point."""
    text = re.sub(r" \[([^,\]]+), \1\]", "", text)
    text = re.sub(r"\d(\.\d+)?e\+\d+", lambda m: f"{float(m[0]):.0f}", text)
    return re.sub(r"(?<![\d.])\d{5,}(?![\d.])", lambda m: f"{int(m[0]):,}".replace(",", "\u202f"), text)


def _quantity(verdict: Mapping[str, Any], claim: Claim) -> str:
    if claim.form in ORDERED:
        axes = ", ".join(
            f"{metric} over {over}" for over, _, metric in (a.partition(":") for a in claim.axes)
        )
        where = f", where {claim.only}" if claim.only else ""
        return ORDERED[claim.form] + (f": {axes}" if axes else "") + where
    text = QUANTITIES.get(claim.quantity, claim.quantity)
    if claim.against:
        text = text.replace("the control", claim.against).replace("control", claim.against)
    quantile = f", the {100 * claim.quantile:g}th percentile" if claim.quantile is not None else ""
    of = f", as a share of {claim.of}" if claim.of else ""
    per = f", each per {claim.per}" if claim.per else ""
    only = f" whose name begins with {claim.only}" if claim.only else ""
    return f"{text}{of}{per}{quantile}, over {claim.over}{only}"


def _inputs(verdict: Mapping[str, Any]) -> list[Fact]:
    found = (verdict.get("physics") or {}).get("inputs") or {}
    return [Fact(name, _text(value)) for name, value in found.items()]


def _bound(verdict: Mapping[str, Any]) -> str:
    """What the number can be at all, in words."""
    found = verdict.get("physics")
    if not found:
        return ""
    side, unit = ("at most" if found.get("side") == "at_most" else "at least"), str(found.get("unit") or "")
    if found.get("value") is None:
        return f"{side} anything"
    is_share = unit.startswith("share")
    text = legible(cells.number(found["value"] * (100 if is_share else 1)))
    return f"{side} {text} {unit.replace('share', '%', 1) if is_share else unit}".rstrip()


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _method(verdict: Mapping[str, Any]) -> str:
    """How the interval was made, and its level; what is exact has none."""
    method = str(verdict.get("method") or "")
    return method if not method or "exact" in method else f"{method}; 95 %"


def _more(verdict: Mapping[str, Any]) -> str:
    more = verdict.get("more")
    return f"≈{more} more" if more and f"≈{more} more" not in str(verdict.get("reason") or "") else ""


def _scope(verdict: Mapping[str, Any], record: Record | None) -> list[Fact]:
    models = ", ".join(f"{role} = {label}" for role, label in (verdict.get("models") or {}).items())
    settings = verdict.get("settings") or {}
    facts = {
        "source": verdict.get("source"),
        "treatment": verdict.get("treatment"),
        "control": verdict.get("against") or verdict.get("control"),
        "backend": verdict.get("backend"),
        "profile": verdict.get("profile"),
        "evidence": verdict.get("evidence"),
        "launches": verdict.get("launches"),
        "models": models,
        "settings": ", ".join(
            f"{name} = {_text(value)}" for name, value in settings.items() if value is not None
        ),
        "threshold from": verdict.get("threshold_from"),
        "decides": ", ".join(verdict.get("covers") or ()),
        "failures": f"{len(record.failures)} in this record" if record and record.failures else "",
        "row": f"{verdict['id']}, version {verdict.get('version', 1)}",
    }
    return [Fact(name, str(value).strip()) for name, value in facts.items() if value]


def _text(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}"
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = DIGEST.sub(r"\1…", str(value))
    return text if len(text) <= LONG else f"{text[:LONG]}…"
