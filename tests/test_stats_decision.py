"""An interval and a claim make one word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.claims import Claim
from reports.decisions.decision import decide, region, shown
from reports.stats import Interval


def claim(**changes: Any) -> Claim:
    row: dict[str, Any] = {
        "id": "a",
        "version": 1,
        "source": "s",
        "says": "s",
        "form": "at_least",
        "metric": "total_s",
        "treatment": "cascade",
        "experiment": "cascade",
        "published": 2.0,
    }
    return Claim(**{**row, **changes})


def around(low: float, high: float, n: int = 10) -> Interval:
    return Interval((low + high) / 2, low, high, n, "t")


@pytest.mark.parametrize(
    ("changes", "interval", "word"),
    [
        ({}, (2.1, 2.3), "confirmed"),
        ({}, (2.0, 2.0), "confirmed"),
        ({}, (1.9, 2.3), "inconclusive"),
        ({}, (1.7, 1.9), "refuted"),
        ({"form": "at_most"}, (1.7, 1.9), "confirmed"),
        ({"form": "at_most"}, (2.1, 2.3), "refuted"),
        ({"form": "between", "published": (2.0, 3.0)}, (2.1, 2.3), "confirmed"),
        ({"form": "between", "published": (2.0, 3.0)}, (3.1, 3.3), "confirmed"),
        ({"form": "between", "published": (2.0, 3.0)}, (1.1, 1.3), "refuted"),
        ({"form": "equivalent", "published": 1.0, "margin": 0.1}, (0.92, 1.09), "confirmed"),
        ({"form": "equivalent", "published": 1.0, "margin": 0.1}, (0.90, 1.09), "inconclusive"),
        ({"form": "equivalent", "published": 1.0, "margin": 0.1}, (1.2, 1.3), "refuted"),
        (
            {"form": "equivalent", "published": 0.0, "margin": 0.05, "quantity": "reduction"},
            (-0.04, 0.04),
            "confirmed",
        ),
        ({"form": "exact", "published": 3.0, "quantity": "value"}, (3.0, 3.0), "confirmed"),
        ({"form": "exact", "published": 3.0, "quantity": "value"}, (2.0, 4.0), "refuted"),
        (
            {"form": "no_worse_than", "published": 0.0, "margin": 0.05, "quantity": "difference"},
            (-0.04, 0.1),
            "confirmed",
        ),
        (
            {"form": "no_worse_than", "published": 0.0, "margin": 0.05, "quantity": "difference"},
            (-0.1, -0.06),
            "refuted",
        ),
        (
            {"form": "no_worse_than", "published": 0.0, "margin": 0.05, "quantity": "difference"},
            (-0.1, 0.1),
            "inconclusive",
        ),
    ],
)
def test_the_whole_interval_decides(
    changes: dict[str, Any], interval: tuple[float, float], word: str
) -> None:
    assert decide(around(*interval), claim(**changes)).verdict == word


def test_no_worse_looks_to_the_bad_side_of_the_metric() -> None:
    row = claim(form="no_worse_than", published=0.0, margin=0.05, quantity="difference")
    assert decide(around(-0.2, -0.1), row, better="lower").verdict == "confirmed"
    assert decide(around(0.1, 0.2), row, better="lower").verdict == "refuted"
    share = claim(form="no_worse_than", published=0.0, margin=0.05, quantity="reduction")
    assert decide(around(0.1, 0.2), share, better="lower").verdict == "confirmed"
    assert decide(around(0.1, 0.2), share, better="higher").verdict == "refuted"


def test_a_shortfall_with_the_right_sign_says_so() -> None:
    assert decide(around(1.2, 1.4), claim(published=5.0)).note == "right direction, 1.3× of 5×"
    assert decide(around(0.7, 0.9), claim(published=5.0)).note == ""
    reduction = claim(published=0.75, quantity="reduction")
    assert decide(around(0.4, 0.5), reduction).note == "right direction, 45.0 % of 75.0 %"


def test_overshoot_of_a_range_is_noted() -> None:
    row = claim(form="between", published=(0.4, 0.6), quantity="reduction")
    assert decide(around(0.7, 0.8), row).note == "beyond the published 60.0 %"


def test_a_claim_of_250_tasks_is_not_confirmed_on_100() -> None:
    row = claim(min_n=250)
    assert decide(around(2.1, 2.3, 100), row) == ("inconclusive", 150, "the claim asks for n ≥ 250")
    assert decide(around(2.1, 2.3, 250), row).verdict == "confirmed"
    assert decide(around(1.1, 1.3, 100), row).verdict == "refuted"


def test_the_further_rounds_named_settle_it_at_the_same_spread() -> None:
    first = decide(around(1.9, 2.3, 6), claim())
    assert first.verdict == "inconclusive"
    half = 0.2 * (6 / (6 + first.more)) ** 0.5
    assert decide(around(2.1 - half, 2.1 + half, 6 + first.more), claim()).verdict == "confirmed"


def test_an_estimate_on_the_threshold_asks_for_no_endless_run() -> None:
    assert 1 <= decide(around(1.9, 2.1), claim()).more <= 999


@given(st.floats(-5, 5), st.floats(0, 3), st.floats(-5, 5), st.sampled_from(["at_least", "at_most"]))
def test_one_interval_never_confirms_both_of_two_opposite_claims(
    middle: float, half: float, threshold: float, form: str
) -> None:
    interval = around(middle - half, middle + half)
    other = {"at_least": "at_most", "at_most": "at_least"}[form]
    words = [decide(interval, claim(form=f, published=threshold)).verdict for f in (form, other)]
    assert words != ["refuted", "refuted"]
    assert words.count("confirmed") < 2 or interval.low == interval.high == threshold


def test_a_form_without_a_number_has_no_region() -> None:
    with pytest.raises(ValueError, match="no published number"):
        region(claim(form="order", published=None))


def test_numbers_are_shown_in_the_claims_own_terms() -> None:
    assert shown(-0.032, claim(quantity="difference", over="tasks")) == "−3.2 points"
    assert shown(-0.032, claim(quantity="difference", over="jobs")) == "−3.2 points"
    assert shown(4.5, claim(quantity="difference", over="tasks", unit="GB")) == "4.5 GB"
    assert shown(0.8512, claim(quantity="value", unit="s")) == "0.8512 s"
    assert shown(0.004, claim(quantity="value", of="task_s")) == "0.4 %"
