from __future__ import annotations

from pathlib import Path

import pytest

from reports.errors import JournalError
from reports.experiments.telemetry import read
from tests.synthetic_routing import phased, telemetry, write_telemetry


def test_each_run_of_a_job_is_a_trace(tmp_path: Path) -> None:
    """Rounds and variants do not flow into each other, also where their events are interleaved."""
    a, b = telemetry(("lp",), 1), telemetry(("sequential",), 1)
    write_telemetry(tmp_path, [e for pair in zip(a, b, strict=True) for e in pair] + a)
    traces = read(tmp_path)
    assert [t.variant for t in traces].count("lp") == 6
    assert {len(t.steps) for t in traces if t.shape == "wb1"} == {3}
    assert all(t.summary is not None for t in traces)


def test_no_telemetry_is_no_error(tmp_path: Path) -> None:
    """A run of planning alone has none."""
    assert read(tmp_path) == []


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """The run died while writing it; the job has no summary."""
    events = telemetry(("lp",), 1)[:4]
    write_telemetry(tmp_path, events, tail='{"event": "job_dag_')
    (trace,) = read(tmp_path)
    assert len(trace.steps) == 3
    assert trace.summary is None


def test_steps_without_a_beginning_and_foreign_events_are_left_out(tmp_path: Path) -> None:
    """Only whole jobs are told."""
    write_telemetry(tmp_path, [*telemetry(("lp",), 1)[1:5], {"event": "device_sample", "watts": 3}])
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: not an event"),
        ('{"event": "plan_step", "variant": "lp", "job": "wb1-000"}', "line 2: 'plan_step' is malformed"),
        ('{"event": "dag_structure"}', "line 2: 'dag_structure' is malformed"),
    ],
)
def test_a_malformed_line_is_named_with_its_remedy(tmp_path: Path, line: str, says: str) -> None:
    """File, line, what is wrong, and what to do."""
    write_telemetry(tmp_path, telemetry(("lp",), 1)[:1], tail=line + "\n")
    with pytest.raises(JournalError, match=says) as caught:
        read(tmp_path)
    assert "remove the line" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_telemetry_is_named(tmp_path: Path) -> None:
    """A folder in its place is no telemetry."""
    (tmp_path / "telemetry.jsonl").mkdir()
    with pytest.raises(JournalError, match=r"telemetry\.jsonl: cannot be read"):
        read(tmp_path)


def test_the_phase_of_a_job_is_read_and_a_round_where_none_was_written(tmp_path: Path) -> None:
    """Older files know no phases."""
    events = telemetry(("lp",), 1)
    write_telemetry(tmp_path, [*phased(events, "warm-up", 0), *phased(events, "round", 1), *events])
    found = [(t.phase, t.round) for t in read(tmp_path) if t.shape == "wb1"]
    assert found == [("warm-up", 0), ("round", 1), ("round", None)]


def test_a_grading_has_a_score_and_no_times(tmp_path: Path) -> None:
    """Steps without times are none, and the summary is kept."""
    write_telemetry(tmp_path, phased(telemetry(("planner",), 1), "graded"))
    traces = read(tmp_path)
    assert [t.phase for t in traces] == ["graded"] * 3
    assert all(t.steps == () and not t.is_whole for t in traces)
    assert [t.summary["score"] for t in traces if t.summary] == [2 / 3] * 3


def test_plans_without_a_time_take_none(tmp_path: Path) -> None:
    """Simulated time has none for planning: a mark without a width."""
    events = telemetry(("lp",), 1)
    write_telemetry(tmp_path, [e | ({"plan_s": None} if e["event"] == "plan_step" else {}) for e in events])
    for step in (s for t in read(tmp_path) for s in t.steps):
        assert step.plan_s is None
        assert step.planning_s == (step.began_s, step.began_s)
