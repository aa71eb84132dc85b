from __future__ import annotations

import json
from typing import Any

import pytest

from harness import models
from harness.models import card, engine, evaluate, paired
from harness.models.tasks import FAMILIES, held_out

CARD: dict[str, Any] = json.loads(card.CARD_JSON.read_text())
NUM_REGRADED = {"nano": 80, "code": 60, "math": 60, "large": 60}
"""Tasks per family that the test grades again; the first ones of the card's own."""


@pytest.mark.parametrize("model", NUM_REGRADED)
def test_the_card_can_be_graded_again(model: str) -> None:
    """Graded again through llama.cpp, every family scores what the card says, within its interval."""
    num_tasks = NUM_REGRADED[model]
    with engine.Engine(models.gguf_path(model)) as loaded:
        for name, family in FAMILIES.items():
            tasks = held_out(family, count=num_tasks, seed=CARD["seed"])
            grades = evaluate.grade(loaded, family, tasks)
            interval = paired.share_interval(sum(grades.is_correct), num_tasks)
            assert interval.low - 0.01 <= CARD["accuracy"][model][name] <= interval.high + 0.01, name


def test_the_page_is_rendered_from_the_json() -> None:
    """CARD.md holds what card.json says, and says what the models are not."""
    assert card.CARD_PAGE.read_text() == card.render(CARD)
    assert "say nothing about the quality of real LLMs" in card.CARD_PAGE.read_text()


def test_the_card_is_about_the_committed_weights() -> None:
    """The hashes in the card are those of the registry."""
    for name in models.names("pocket"):
        assert CARD["models"][name]["sha256"] == models.get(name).sha256


def test_the_large_model_is_better_where_there_is_room() -> None:
    """Large beats nano by ten points on three unsaturated families, and is nowhere worse by over three."""
    rows = CARD["large_minus_nano"]
    better = [name for name, row in rows.items() if row["value"] >= 0.10 and row["mcnemar_p"] < 0.01]
    assert CARD["num_tasks"] >= 200
    assert len(better) >= 3
    assert min(row["value"] for row in rows.values()) >= -0.03


def test_the_small_large_small_flow_is_not_inferior() -> None:
    """With nano for brief and summary the flow loses under five points; with nano for all it loses more."""
    flow = CARD["flow"]
    assert flow["num_tasks"] >= 250
    assert flow["sls_minus_lll"]["interval"][0] > -0.05
    assert flow["solved"]["SSS"] < flow["solved"]["SLS"]
    assert flow["solved"]["SSS"] > 0.2


@pytest.mark.parametrize("letter", ["L", "S"])
def test_a_fix_needs_the_brief(letter: str) -> None:
    """Without the brief, or with another task's, next to nothing is solved."""
    stages = CARD["flow"]["stages"][letter]
    assert stages["fix_brief_withheld"] <= 0.1
    assert stages["fix_brief_swapped"] <= 0.1


def test_the_large_model_is_slow_enough_to_matter() -> None:
    """Large decodes at least four times slower than nano, over the whole interval."""
    assert CARD["latency"]["interval"][0] >= 4.0


def test_a_paired_difference_covers_known_cases() -> None:
    """Equal answers differ by nothing; ten wins without a loss are significant."""
    same = paired.difference([True] * 90 + [False] * 10, [True] * 90 + [False] * 10)
    assert same.value == 0
    assert same.p == 1
    assert same.interval.low < 0 < same.interval.high
    better = paired.difference([True] * 100, [True] * 90 + [False] * 10)
    assert better.value == pytest.approx(0.1)
    assert better.p == pytest.approx(2 / 2**10)
    assert better.interval.low > 0


def test_an_area_under_the_curve_counts_ties_half() -> None:
    """All positives above all negatives gives one; no negatives gives nothing."""
    assert paired.auroc([0.9, 0.8, 0.1], [True, True, False]) == 1
    assert paired.auroc([0.5, 0.5], [True, False]) == 0.5
    assert paired.auroc([0.5], [True]) is None
