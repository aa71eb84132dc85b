from __future__ import annotations

import pytest

from reports.records import Record, Round, TaskPair
from reports.tabular.summaries import scope, stages_of, summarize
from tests.synthetic_runs import failed, load, record


def test_controls_come_first_and_records_merge_by_variant() -> None:
    """A variant timed in one test and graded in another is one row."""
    timed = record("cascade", tasks=[])
    graded = record("cascade", rounds=[])
    rows = summarize([timed, record("oracle"), graded, record("baseline")])
    assert [row.name for row in rows] == ["baseline", "cascade", "oracle"]
    cascade = rows[1]
    assert cascade.num_rounds == 10
    assert cascade.solved.n == 250
    assert cascade.total_s.value is not None


def test_rounds_of_two_tests_are_not_pooled() -> None:
    """The first record that measured a quantity speaks for it."""
    rows = summarize([record("cascade", num_rounds=3), record("cascade", num_rounds=5, seed=8)])
    assert next(r for r in rows if r.name == "cascade").num_rounds == 3


def test_the_same_variant_on_two_backends_is_two_rows() -> None:
    """Numbers of different engines never merge."""
    rows = summarize([record("baseline"), record("baseline", backend="ollama")])
    assert [(row.name, row.backend) for row in rows] == [("baseline", "llama.cpp"), ("baseline", "ollama")]


def test_a_task_is_its_stages_and_the_rest() -> None:
    """Stages and residual add up to the whole task."""
    row = summarize([record("baseline")])[0]
    parts = [e.value for e in (*row.stages_s.values(), row.other_s)]
    assert sum(p for p in parts if p is not None) == pytest.approx(row.task_s.value)
    assert stages_of([row]) == ["analysis", "code", "summary"]


def test_an_unmeasured_stage_leaves_no_residual() -> None:
    """What is not known is not counted as other."""
    one = record("baseline")
    for pair in one.rounds:
        assert pair.treatment is not None
        pair.treatment["code_s"] = None
    row = summarize([one])[0]
    assert row.stages_s["code"].value is None
    assert row.other_s.value is None
    assert row.task_s.value is not None


def test_a_mean_carries_students_interval() -> None:
    """Three rounds, by hand: mean 2, sd 1, t = 4.303; no time is below 0."""
    rounds = [Round(order="CT", treatment={"total_s": v}) for v in (1.0, 2.0, 3.0)]
    row = summarize([record("x", control=None, rounds=rounds, tasks=[])])[0]
    assert row.total_s.value == 2.0
    assert row.total_s.sd == 1.0
    assert row.total_s.interval == pytest.approx((0, 2 + 2.4841), abs=1e-3)


def test_one_round_has_no_interval() -> None:
    """An interval needs two values."""
    row = summarize([record("x", control=None, num_rounds=1)])[0]
    assert row.total_s.value is not None
    assert row.total_s.interval is None


@pytest.mark.parametrize(("solved", "expected"), [([1, 1, 0, 0], 4e-6), ([0, 0, 0, 0], None), ([], None)])
def test_cost_per_solved_task_is_a_ratio_of_sums(solved: list[int], expected: float | None) -> None:
    """Unsolved tasks cost too; nothing solved has no price, not an infinite or a zero one."""
    tasks = [
        TaskPair(id=str(i), treatment={"solved": float(s), "cost_usd": 2e-6}) for i, s in enumerate(solved)
    ]
    row = summarize([record("x", control=None, tasks=tasks)])[0]
    assert row.cost_per_solved_usd.value == (None if expected is None else pytest.approx(expected))


def test_ungraded_tasks_are_counted_apart() -> None:
    """A task without a grade is neither solved nor unsolved."""
    tasks = [TaskPair(id=str(i), treatment={"solved": g}) for i, g in enumerate((1.0, 0.0, None))]
    row = summarize([record("x", control=None, tasks=tasks)])[0]
    assert row.solved.n == 2
    assert row.solved.value == 0.5
    assert row.num_ungraded == 1


def test_a_load_ladder_is_no_variant() -> None:
    """Arrivals at rising rate belong to their own figure."""
    assert summarize([load()]) == []


def test_a_failed_variant_is_a_row_of_nothing() -> None:
    """Its failures count."""
    row = summarize([failed("hybrid")])[0]
    assert (row.name, row.num_failures, row.num_rounds) == ("hybrid", 3, 0)
    assert row.total_s.value is None


def test_the_scope_names_engine_models_size_profile_and_evidence() -> None:
    """A finding says what it holds for."""
    records: list[Record] = [record("cascade", num_rounds=6), record("oracle", num_rounds=4)]
    assert scope(summarize(records)[1:]) == (
        "llama.cpp · large = pocket:large@f16, small = pocket:nano@f16 · 4–6 rounds of 20 tasks · "
        "250 graded tasks · profile pocket · measured"
    )
    assert scope([]) == "nothing measured"


def test_a_round_that_times_a_few_jobs_is_not_said_to_hold_all_graded_tasks() -> None:
    """The rounds stand alone where the tasks are those of the grading."""
    rows = summarize([record("cascade", num_rounds=2, settings={"tasks": 180, "timed_jobs": ["a", "b"]})])
    assert "2 rounds ·" in scope(rows)
    assert "180" not in scope(rows)
