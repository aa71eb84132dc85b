"""What a comparison says of the claims of two runs: their words, their numbers, and which side is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.compare import compare
from reports.comparing.rows import Row
from reports.errors import JournalError
from reports.runs import Run
from tests.compared import judged, run_of
from tests.synthetic_runs import record, write_run


def claim_row(before: dict[str, Any], after: dict[str, Any]) -> Row:
    runs = [run_of(record("cascade", num_graded=5), verdicts=(v,)) for v in (before, after)]
    (found,) = compare(*runs).claims
    return found


def test_a_claim_shows_both_words_and_the_difference_of_its_number() -> None:
    found = claim_row(judged("confirmed", 3.0, 0.1), judged("refuted", 1.5, 0.1))
    assert found.words == ("confirmed", "refuted")
    assert found.word == "regressed"
    assert found.change == pytest.approx(-0.5)
    assert found.interval is not None
    assert found.interval[0] < -0.5 < found.interval[1] < -0.4


def test_a_reduction_that_shrinks_is_a_regression() -> None:
    """30 % less becomes 10 % less: 20 points less."""
    ways = {"quantity": "reduction", "published": 0.25}
    found = claim_row(judged("confirmed", 0.3, 0.01, **ways), judged("refuted", 0.1, 0.01, **ways))
    assert found.word == "regressed"
    assert found.change == pytest.approx(-0.2)
    assert found.interval == pytest.approx((-0.2 - 0.0130, -0.2 + 0.0130), abs=0.001)


def test_a_claim_at_most_is_better_lower() -> None:
    ways = {"form": "at_most"}
    assert (
        claim_row(judged("refuted", 3.0, 0.1, **ways), judged("confirmed", 1.5, 0.1, **ways)).word
        == "improved"
    )


@pytest.mark.parametrize(
    ("metric", "quantity", "word"),
    [
        ("solved", "difference", "regressed"),
        ("total_s", "difference", "improved"),
        ("total_s", "reduction", "regressed"),
        ("unknown", "difference", "changed"),
    ],
)
def test_no_worse_than_is_better_where_its_metric_is(metric: str, quantity: str, word: str) -> None:
    """20 points fewer solved are worse; as much less of a time is better, and of a saving worse."""
    ways = {"form": "no_worse_than", "quantity": quantity, "metric": metric, "unit": "points"}
    before, after = (judged("confirmed", value, 0.01, **ways) for value in (0.1, -0.1))
    assert claim_row(before, after).word == word


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("confirmed", "refuted"), "regressed"),
        (("refuted", "confirmed"), "improved"),
        (("confirmed", "inconclusive"), "inconclusive"),
        (("confirmed", "confirmed"), "changed"),
    ],
)
def test_an_exact_claim_is_compared_by_its_words(words: tuple[str, str], word: str) -> None:
    """It has no interval of t; its number is told all the same."""
    before, after = (judged(w, 7.0 + i, 0.0, form="exact", quantity="value") for i, w in enumerate(words))
    assert claim_row(before, after).word == word


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("confirmed", "invalid"), "regressed"),
        (("confirmed", "error"), "regressed"),
        (("invalid", "confirmed"), "improved"),
        (("invalid", "invalid"), "not compared"),
        (("refuted", "impossible"), "changed"),
    ],
)
@pytest.mark.parametrize("after", [3.0, 3.3])
def test_a_claim_whose_evidence_broke_is_compared_by_its_words(
    words: tuple[str, str], word: str, after: float
) -> None:
    """Whatever its number: it tells nothing of what is claimed."""
    assert claim_row(judged(words[0], 3.0, 0.1), judged(words[1], after, 0.1)).word == word


def test_a_claim_of_an_own_time_holds_the_drift() -> None:
    """10 % slower in one session each is not told, whatever the claim's own interval says."""
    ways = {"quantity": "value", "metric": "total_s", "unit": "s", "form": "at_most"}
    assert claim_row(judged("confirmed", 1.0, 0.01, **ways), judged("confirmed", 1.1, 0.01, **ways)).word == (
        "inconclusive"
    )


@pytest.mark.parametrize("side", ["treatment", "against"])
def test_a_claim_whose_test_measured_something_else_is_not_compared(side: str) -> None:
    """Neither where its treatment did, nor where the variant did that it is set against."""
    other = record("hybrid", num_graded=5)
    ways = {"treatment": "cascade", side: "hybrid"}
    runs = [
        run_of(
            record("cascade", num_graded=5),
            replace(other, settings={**other.settings, "link_bps": bps}),
            verdicts=(judged("confirmed", estimate, 0.1, **ways),),
        )
        for bps, estimate in ((1, 3.0), (2, 1.5))
    ]
    (found,) = compare(*runs).claims
    assert (found.word, found.why) == ("not compared", "its test measured something else")


def test_a_changed_claim_is_not_compared() -> None:
    found = claim_row(judged("confirmed", 3.0, 0.1), judged("refuted", 1.5, 0.1, version=2))
    assert (found.word, found.why) == ("not compared", "the claim was changed, version 1 → 2")


def test_verdicts_that_tell_little_are_compared_by_what_they_tell(tmp_path: Path) -> None:
    """As an older run left them; one whose number is none is an error that names it."""
    old = judged("confirmed", 3.0, 0.1)
    bare = {key: old[key] for key in ("id", "verdict", "experiment")}
    found = claim_row({**bare, "version": old.get("version")}, old)
    assert (found.word, found.why) == ("inconclusive", "one of the runs has no interval")
    folder = write_run(tmp_path / "a", [record("cascade")], [{**old, "n": "six"}])
    with pytest.raises(JournalError, match=r"n of claim 'faster' is 'six'"):
        Run.read(folder)


def test_a_claim_that_is_gone_is_named() -> None:
    runs = [run_of(record("cascade"), verdicts=v) for v in ((judged("confirmed", 3.0, 0.1),), ())]
    (found,) = compare(*runs).claims
    assert (found.words, found.why) == (("confirmed", "–"), "only the first run judged it")
