"""Tasks of one job are one observation, and arms that never differ decide nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.claims import Claim
from reports.intervals.estimates import advantage, difference_of_tasks, measure
from reports.intervals.units import by_unit, job_of
from reports.records import Check, Metric, Record, TaskPair
from reports.stats import Interval, Unsupported
from reports.verdicts import Stored, Verdict, judge

METRICS = {
    name: Metric(unit="", better="higher", what=name) for name in ("score", "won", "diverged", "model_gb")
}
SHARES = st.lists(st.lists(st.sampled_from((0.0, 1.0)), min_size=1, max_size=3), min_size=2, max_size=20)


def claim(**changes: Any) -> Claim:
    row: dict[str, Any] = {
        "id": "a", "version": 1, "source": "s", "says": "s", "form": "at_least", "metric": "score",
        "over": "tasks", "quantity": "difference", "treatment": "lp", "control": "planner",
        "experiment": "routing", "published": 0.0, "provenance": ("fits_budget",),
    }  # fmt: skip
    return Claim(**{**row, **changes})


def record(scores: np.ndarray, others: np.ndarray, *, unit: str | None = "job", **changes: Any) -> Record:
    """Scores by job and task, of both arms; the arms' models differ unless `changes` says otherwise."""
    values: dict[str, Any] = {"diverged": 1.0, "model_gb": 2.0} | changes.pop("values", {})
    return Record(**{
        "experiment": "routing", "variant": "lp", "control": "planner", "backend": "x", "profile": "pocket",
        "settings": {} if unit is None else {"unit": unit}, "metrics": METRICS, "complete": True,
        "checks": [Check(name="fits_budget", ok=True, observed="")],
        "tasks": [
            TaskPair(id=f"wb1-{job:03}.s{task}", treatment={"score": float(scores[job, task]), **values},
                     control={"score": float(others[job, task])})
            for job in range(scores.shape[0]) for task in range(scores.shape[1])
        ],
        **changes,
    })  # fmt: skip


def drawn(rng: np.random.Generator, jobs: int = 60, tasks: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Two arms' shares, of 0.6 and 0.5 in truth; the tasks of a job succeed and fail together."""
    luck = rng.random((2, jobs, 1)), rng.random((2, jobs, tasks))
    together = rng.random((jobs, 1)) < 0.7
    first, second = (np.where(together, luck[0][arm], luck[1][arm]) for arm in (0, 1))
    return (first < 0.6).astype(float), (second < 0.5).astype(float)


def of(found: Interval | Unsupported) -> Interval:
    assert isinstance(found, Interval), found
    return found


def width(found: Interval | Unsupported) -> float:
    return of(found).high - of(found).low


@pytest.mark.parametrize("quantity", ["difference", "value"])
def test_sixty_jobs_of_three_tasks_tell_less_than_180_tasks(quantity: str) -> None:
    """The estimate is the same; the interval over jobs is wider, and counts jobs."""
    row = claim(quantity=quantity, published=0.5)
    scores = drawn(np.random.default_rng(1))
    jobs, tasks = (of(measure(row, record(*scores, unit=unit))) for unit in ("job", None))
    assert jobs.estimate == pytest.approx(tasks.estimate)
    assert (jobs.n, tasks.n) == (60, 180)
    assert width(jobs) > 1.2 * width(tasks)
    assert jobs.method == "t on jobs"


def test_a_ratio_of_totals_takes_the_spread_of_jobs_too() -> None:
    """For a record's own arms, and for two records side by side."""
    row = claim(quantity="ratio", published=1.0)
    scores = drawn(np.random.default_rng(2))
    jobs, tasks = (of(measure(row, record(*scores, unit=unit))) for unit in ("job", None))
    assert jobs.estimate == pytest.approx(tasks.estimate)
    assert width(jobs) > 1.2 * width(tasks)
    mine, other = record(*scores), record(scores[1], scores[1], variant="lp-3")
    assert of(advantage(claim(), mine, other)).n == 60
    assert of(difference_of_tasks(claim(), mine, other)).n == 60


@pytest.mark.parametrize(("quantity", "truth"), [("difference", 0.1), ("value", 0.6)])
def test_intervals_over_jobs_hold_the_truth_as_often_as_they_say(quantity: str, truth: float) -> None:
    """In 500 draws of dependent tasks: near 95 % by jobs, and too seldom by tasks."""
    row, rng = claim(quantity=quantity), np.random.default_rng(3)
    held = {"job": 0, "task": 0}
    for _ in range(500):
        scores = drawn(rng)
        for unit in held:
            found = of(measure(row, record(*scores, unit=unit)))
            held[unit] += found.low <= truth <= found.high
    assert 0.93 <= held["job"] / 500 <= 0.97
    assert held["task"] / 500 < 0.9


@given(SHARES)
def test_a_share_over_jobs_is_that_over_its_tasks_within_its_bounds(scores: list[list[float]]) -> None:
    """However many tasks a job has; and however alike jobs are, some room is left."""
    values = [v for job in scores for v in job]
    units = [str(i) for i, job in enumerate(scores) for _ in job]
    found = of(by_unit(values, units, span=(0.0, 1.0)))
    assert found.estimate == pytest.approx(sum(values) / len(values))
    assert 0 <= found.low <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.high <= 1
    assert found.high > found.low
    assert found.n == len(scores)


def test_jobs_that_are_all_alike_leave_the_room_of_wilsons_interval() -> None:
    """Sixty of sixty; without bounds there is nothing to leave room towards, and one job is too few."""
    found = of(by_unit([1.0] * 120, [str(i // 2) for i in range(120)], span=(0.0, 1.0)))
    assert (found.low, found.high) == (pytest.approx(60 / 63.8415, abs=1e-4), 1.0)
    free = of(by_unit([2.0] * 4, ["a", "a", "b", "b"]))
    assert (free.low, free.high) == (2.0, 2.0)
    assert isinstance(by_unit([1.0, 0.0], ["a", "a"]), Unsupported)
    assert isinstance(by_unit([], []), Unsupported)


def test_exact_numbers_stay_the_smallest_and_the_largest() -> None:
    """Of every task: no spread is asked for where one task is enough to refute."""
    scores = drawn(np.random.default_rng(4))
    found = of(measure(claim(form="exact", quantity="value"), record(*scores)))
    assert found[1:4] == (0.0, 1.0, 180)


def test_a_name_without_a_job_is_its_own_unit() -> None:
    assert [job_of(name) for name in ("wb1-000.s0", "my.job.s1", "wb1-000")] == [
        "wb1-000",
        "my.job",
        "wb1-000",
    ]


# arms that never differ


ONES = np.ones((60, 3))


def judged(row: Claim, *records: Record) -> Verdict:
    return judge(row, [Stored(r.variant, "passed", "", {"variant": r.variant}, r) for r in records])


SAME, OTHER = {"diverged": 0.0}, {"diverged": 1.0}


@pytest.mark.parametrize("form", ["at_least", "no_worse_than", "equivalent"])
def test_equality_is_not_confirmed_by_arms_that_never_differ(form: str) -> None:
    """Equal scores of different models do confirm; those of the same models decide nothing."""
    row = claim(form=form, margin=None if form == "at_least" else 0.1)
    scores = ONES * 0.5
    assert judged(row, record(scores, scores, values=OTHER)).verdict == "confirmed"
    found = judged(row, record(scores, scores, values=SAME))
    assert (found.verdict, found.reason, found.more) == ("inconclusive", "the arms never differ", 0)
    assert found.p == pytest.approx(1.0)


def test_a_difference_that_was_published_is_refuted_by_arms_that_never_differ() -> None:
    """They show that there is none."""
    row = claim(published=0.1)
    assert judged(row, record(ONES * 0.5, ONES * 0.5, values=SAME)).verdict == "refuted"


def test_two_records_never_differ_when_every_task_had_a_model_of_the_same_size() -> None:
    """One task that another model answered is a difference."""
    row = claim(form="no_worse_than", margin=0.1, against="lp-3")
    mine = record(ONES * 0.5, ONES * 0.5)
    same = record(ONES * 0.5, ONES, variant="lp-3")
    assert judged(row, mine, same).reason == "the arms never differ"
    first, *rest = same.tasks
    other = replace(first, treatment={**first.treatment, "model_gb": 6.5})
    assert judged(row, mine, replace(same, tasks=[other, *rest])).verdict == "confirmed"


def test_whole_jobs_know_whether_the_models_of_their_tasks_differ() -> None:
    """From the tasks of the same record: points of jobs name no models."""
    points = [
        {"name": "job", "arm": arm, "job": f"wb1-{job:03}", "score": 0.5}
        for job in range(60)
        for arm in ("treatment", "control")
    ]
    row = claim(over="jobs")
    for values, word in ((SAME, "inconclusive"), (OTHER, "confirmed")):
        assert judged(row, record(ONES, ONES, values=values, sweep=points)).verdict == word
    beside = replace(row, against="lp-3")
    records = [record(ONES, ONES, sweep=points, variant=name) for name in ("lp", "lp-3")]
    assert judged(beside, *records).reason == "the arms never differ"


def test_what_would_settle_a_claim_over_jobs_is_told_in_jobs() -> None:
    """And in tasks where each is its own."""
    scores = drawn(np.random.default_rng(5))
    for unit, word in (("job", "jobs"), (None, "tasks")):
        row = claim(published=float(np.mean(scores[0] - scores[1])) + 0.02)
        found = judged(row, record(*scores, unit=unit))
        assert found.verdict == "inconclusive"
        assert found.reason.endswith(f"more {word}")


@pytest.mark.parametrize(("last", "why"), [(1.0, "its ends are equal"), (1.2, "its ends are not told apart")])
def test_an_undecided_curve_asks_for_no_more_rounds(last: float, why: str) -> None:
    """What is computed alike comes out alike, however often."""
    row = claim(form="monotone", published=None, over="sweep", along="x", direction="increasing",
                quantity="ratio", control=None)  # fmt: skip
    noise = 0.0 if last == 1.0 else 1.0
    sweep = [{"x": x, "score": y + e * noise} for x, y in ((1, 1.0), (2, last)) for e in (-1, 0, 1)]
    found = judged(row, record(ONES, ONES, sweep=sweep))
    assert (found.verdict, found.reason, found.more) == ("inconclusive", why, 0)
