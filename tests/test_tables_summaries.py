from __future__ import annotations

from pathlib import Path

import pytest

from reports.merging import merge_records
from reports.records import Record, Round, TaskPair
from reports.runs import Run
from reports.tables import variants_table
from reports.tabular.summaries import scope, stages_of, summarize
from tests.synthetic_runs import failed, load, record, write_run


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


def sessions_of(launch: str, *means: float) -> Record:
    """Merged sessions of two rounds each, a tenth of a second to either side of each one's mean."""
    records = [
        record(
            "x",
            control=None,
            tasks=[],
            launch=launch,
            rounds=[Round(order="CT", treatment={"total_s": m + d}) for d in (-0.1, 0.1)],
        )
        for m in means
    ]
    return merge_records(records)


def test_what_stays_up_is_averaged_over_sessions() -> None:
    """By hand: means 1, 2 and 3, sd 1, t = 4.303; two sessions have no interval."""
    (row,) = summarize([sessions_of("session", 1.0, 2.0, 3.0)])
    assert row.total_s.value == pytest.approx(2.0)
    assert row.total_s.interval == pytest.approx((0, 2 + 2.4841), abs=1e-3)
    assert "6 rounds of 20 tasks in 3 sessions" in scope([row])
    assert summarize([sessions_of("session", 1.0, 2.0)])[0].total_s.interval is None


def test_what_is_launched_for_each_round_is_averaged_over_rounds() -> None:
    """Each is an observation, whichever session it is of: six of them, t = 2.571."""
    (row,) = summarize([sessions_of("round", 1.0, 2.0, 3.0)])
    assert row.total_s.value == pytest.approx(2.0)
    assert row.total_s.high == pytest.approx(2 + 2.571 * 0.9011 / 6**0.5, abs=1e-3)


@pytest.mark.parametrize(("launch", "says"), [("round", False), ("session", True)])
def test_the_table_says_when_its_intervals_are_over_sessions(tmp_path: Path, launch: str, says: bool) -> None:
    """In a note beneath it."""
    run = Run.read(write_run(tmp_path / "run", [sessions_of(launch, 1.0, 2.0, 3.0)]))
    assert ("means and intervals are over sessions" in variants_table(run)) == says
