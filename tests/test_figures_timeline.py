from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.experiments.telemetry import read
from reports.figures import base, score_cost, timeline
from reports.runs import Run
from tests.synthetic_routing import (
    GEMMA,
    phased,
    record,
    routed,
    telemetry,
    texts,
    write_telemetry,
    written,
)


@pytest.fixture(autouse=True)
def drawing() -> Iterator[None]:
    """Every figure is drawn in the project's style."""
    with base.style():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of invented numbers."""
    return Run.read(routed(tmp_path_factory.mktemp("run")))


# the timeline


def test_the_job_of_a_shape_is_one_with_a_violation_and_the_same_for_all(run: Run) -> None:
    """One job per shape and router; the LP's plan that does not fit is among them."""
    found = timeline.data(run, "routing")
    assert found is not None
    assert found.variants == ("lp", "sequential", "planner")
    for shape in found.shapes:
        assert len({found.traces[v, shape].job for v in found.variants}) == 1
    assert [s.over_bytes for s in found.traces["lp", "wb1"].steps] == [0, 4_500_000_000, 0]


def test_a_violation_shows_by_mark_hatch_and_words(run: Run) -> None:
    """Colour is never all there is."""
    found = timeline.data(run, "routing")
    assert found is not None
    figure = timeline.draw(found)
    shown = texts(figure)
    assert "+4.50" in shown
    assert "plan does not fit" in shown
    marks = [line.get_marker() for axes in figure.get_axes() for line in axes.get_lines()]
    assert marks.count("X") == 1
    hatched = [p for axes in figure.get_axes() for p in axes.patches if p.get_hatch() == "xxx"]
    assert len(hatched) == 1


def test_rows_are_models_and_bars_say_their_task(run: Run) -> None:
    """Loading is hatched, evictions and fallbacks are marked, and the planning time is drawn."""
    found = timeline.data(run, "routing")
    assert found is not None
    shown = texts(timeline.draw(found)).splitlines()
    for word in ("planning", GEMMA, "s0", "loading", "evicted", "fallback", "F", "budget"):
        assert word in shown
    assert "extraction → math → code" in "\n".join(shown)


def test_tasks_at_once_on_one_model_stand_in_lanes(tmp_path: Path) -> None:
    """Neither of two parallel answers covers the other."""
    run = written(tmp_path, [record("sequential")], telemetry(("sequential",), 1))
    found = timeline.data(run, "routing")
    assert found is not None
    trace = found.traces["sequential", "wb2"]
    from reports.figures import gantt

    lanes = {a.task: (lane, lanes) for s in trace.steps for a, lane, lanes in gantt._lanes(s.answers)}
    assert lanes == {"s0": (0, 1), "s1": (0, 2), "s2": (1, 2)}


def test_a_model_that_plans_is_loaded_before_it_plans(tmp_path: Path) -> None:
    """Its load ends where deciding begins, and the answer's where answering begins."""
    from reports.figures import gantt

    events = telemetry(("planner",), 1)
    step = events[1] | {"planner": "boss", "loaded": ["boss", GEMMA], "load_s": {"boss": 1.0, GEMMA: 0.5}}
    step |= {"plan_s": 0.5, "exec": {"s0": {"model": GEMMA, "began_s": 2.0, "done_s": 3.0}}, "done_s": 3.0}
    run = written(tmp_path, [record("planner", None)], [events[0], step, *events[2:]])
    (first, *_) = (s for t in read(run.path) for s in t.steps)
    assert first.planning_s == (1.0, 1.5)
    assert list(gantt._loads(first)) == [("boss", 0.0, 1.0), (GEMMA, 1.5, 2.0)]
    found = timeline.data(run, "routing")
    assert found is not None
    assert "boss" in texts(timeline.draw(found))


def test_a_job_that_was_cut_short_is_not_shown(tmp_path: Path) -> None:
    """Without its summary nobody knows how it ended."""
    events = [e for e in telemetry(("lp",), 1) if e["event"] != "job_dag_summary"]
    assert timeline.data(written(tmp_path, [record("lp")], events), "routing") is None


def test_a_router_that_did_not_run_a_shape_is_named(tmp_path: Path) -> None:
    """The cell says so in place of an empty chart."""
    events = telemetry(("lp",), 1) + [e for e in telemetry(("planner",), 1) if e["job"] == "wb1-000"]
    found = timeline.data(written(tmp_path, [record("lp"), record("planner", None)], events), "routing")
    assert found is not None
    assert "planner: did not run it" in texts(timeline.draw(found))


def test_the_timeline_shows_a_timed_run_and_the_score_of_its_grading(tmp_path: Path) -> None:
    """Neither a warm-up nor a grading on engines that were kept."""
    slow = phased(telemetry(("lp",), 1), "warm-up")
    for event in slow:
        if event["event"] == "job_dag_summary":
            event["wall_s"] = 99.0
    fast, graded = (phased(telemetry(("lp",), 1), phase) for phase in ("round", "graded"))
    found = timeline.data(written(tmp_path, [record("lp")], [*graded, *slow, *fast]), "routing")
    assert found is not None
    assert {t.phase for t in found.traces.values()} == {"round"}
    assert {graded.score for graded in found.scores.values()} == {2 / 3}
    shown = texts(timeline.draw(found))
    assert "99" not in shown
    assert "lp · score 66.7 %" in shown


def test_a_run_that_was_graded_alone_has_no_timeline(tmp_path: Path) -> None:
    """Its times mean nothing."""
    events = phased(telemetry(("lp",), 1), "graded")
    assert timeline.data(written(tmp_path, [record("lp")], events), "routing") is None


def test_memory_is_drawn_from_the_jobs_beginning(tmp_path: Path) -> None:
    """What the job before left, then the planning model while it plans, then the plan's models."""
    from reports.figures import gantt

    events = telemetry(("planner",), 1)
    step = events[1] | {"resident_before_bytes": 3, "planner": "boss", "planning_resident_bytes": 5}
    step |= {"resident_bytes": 4, "planning_began_s": 0.1, "plan_s": 0.2}
    write_telemetry(tmp_path, [events[0], step, events[4]])
    first = next(t for t in read(tmp_path) if t.summary is not None)
    assert list(gantt.in_use(first)) == [(0.0, 3), (0.0, 5), (pytest.approx(0.3), 4), (step["done_s"], 4)]


def test_older_telemetry_has_nothing_before_its_first_plan(tmp_path: Path) -> None:
    """Memory starts at 0 and stays between steps."""
    from reports.figures import gantt

    write_telemetry(tmp_path, telemetry(("sequential",), 1)[:5])
    (trace, *_) = read(tmp_path)
    line = list(gantt.in_use(trace))
    assert line[0] == (0.0, 0)
    assert [held for _, held in line[2::2]] == [s.resident_bytes for s in trace.steps]
    assert [held for _, held in line[3:-1:2]] == [s.resident_bytes for s in trace.steps[:-1]]


def test_a_planner_that_was_not_asked_is_called_a_stand_in(tmp_path: Path) -> None:
    """In the captions of the timeline and beside the points of the costs."""
    records = [record("planner", None, settings={"planner_stands_in": True})]
    run = written(tmp_path, records, telemetry(("planner",), 1))
    for module in (timeline, score_cost):
        found = module.data(run, "routing")
        assert found is not None
        assert "planner (stand-in)" in texts(module.draw(found))


def test_the_score_of_other_models_is_not_shown_beside_a_run(tmp_path: Path) -> None:
    """A grading that chose otherwise says nothing of the bars."""
    timed, graded = (phased(telemetry(("lp",), 1), phase) for phase in ("round", "graded"))
    for event in graded:
        if event["event"] == "job_dag_summary":
            event["models"] = dict.fromkeys(event["models"], "another")
    found = timeline.data(written(tmp_path, [record("lp")], [*timed, *graded]), "routing")
    assert found is not None
    shown = texts(timeline.draw(found))
    assert "lp · graded on other models" in shown
    assert "score 66.7" not in shown
