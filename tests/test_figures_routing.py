from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from reports import figures
from reports.figures import base, curves, regret, score_cost, solve_time, sweeps, timeline, violations
from reports.records import Record, TaskPair
from reports.runs import Run
from tests.synthetic_routing import (
    ROUTERS,
    parameter,
    record,
    routed,
    swept,
    texts,
    written,
)
from tests.synthetic_routing import sweeps as all_sweeps

FIGURES = {
    name: import_module(f"reports.figures.{name.replace('-', '_')}")
    for name in figures.ROUTING
    if name != "claims"
}


@pytest.fixture(autouse=True)
def drawing() -> Iterator[None]:
    """Every figure is drawn in the project's style."""
    with base.style():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run of invented numbers."""
    return Run.read(routed(tmp_path_factory.mktemp("run")))


def test_every_figure_is_written_twice(run: Run, tmp_path: Path) -> None:
    """SVG and PNG; those of the cascade, which would be empty, are left out."""
    expected = [f"routing-{name}.{kind}" for name in figures.ROUTING for kind in ("svg", "png")]
    paths = figures.write(run, tmp_path)
    assert [p.name for p in paths] == expected
    assert all(p.stat().st_size > 500 for p in paths)


def test_equal_files_give_equal_bytes(run: Run, tmp_path: Path) -> None:
    """Nothing in the busiest figure depends on when it was drawn."""
    found = timeline.data(run, "routing")
    assert found is not None
    first, second = (base.save(timeline.draw(found), tmp_path / name, "timeline") for name in ("a", "b"))
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


@pytest.mark.parametrize("records", [[record("lp", tasks=[], sweep=[])], [swept("sweep-window", [])]])
def test_what_was_not_recorded_is_left_out(tmp_path: Path, records: list[Record]) -> None:
    """Neither an error nor an empty frame."""
    run = written(tmp_path, records)
    assert all(module.data(run, "routing") is None for module in FIGURES.values())
    assert {p.stem for p in figures.write(run, tmp_path / "out")} == {"routing-claims"}


def test_points_without_numbers_are_left_out(tmp_path: Path) -> None:
    """A curve of nothing but names is none."""
    bare = [{"planner": "lp", "along": 1}]
    names = ("sweep-window", "solve-time-by-size", "violations-by-size")
    run = written(tmp_path, [swept(name, bare) for name in names])
    assert [m.data(run, "routing") for m in (regret, solve_time, violations)] == [None] * 3


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_states_its_scope_and_its_units(run: Run, name: str) -> None:
    """Experiment, profile and evidence stand in it, and every axis with numbers says what they are."""
    figure = FIGURES[name].draw(FIGURES[name].data(run, "routing"))
    shown = texts(figure)
    for word in ("routing:", "profile pocket", "measured"):
        assert word in shown
    for axes in figure.get_axes():
        if axes.axison and name != "timeline":
            assert axes.get_xlabel()
            assert axes.get_ylabel()


# lines along a parameter


def test_planners_keep_their_looks_and_no_two_share_one() -> None:
    """Mark and dashes tell planners apart where colour does not."""
    found = curves.looks(["lp", "cvxpy", "highs", "exact", "sequential", "greedy", "planner", "order-free"])
    assert found["exact"] == curves.looks(["exact"])["exact"]
    assert len({look.marker for look in found.values()}) == len(found)
    assert len({look.colour for look in curves.looks(["exact", "cvxpy", "highs"]).values()}) == 3


def test_the_full_window_stands_last(run: Run) -> None:
    """None is "full", after the numbers, and regret comes with its interval."""
    found = regret.data(run, "routing")
    assert found is not None
    assert found.windows == (1, 2, 3, 4, None)
    assert tuple(found.regret) == ("lp", "sequential")
    assert found.regret["sequential"][3].interval == pytest.approx((0.00024, 0.00036))
    assert "full" in texts(regret.draw(found))


def test_sizes_rise_and_times_stand_on_a_logarithmic_axis(run: Run) -> None:
    """Median and tail of each planner at each size."""
    found = solve_time.data(run, "routing")
    assert found is not None
    assert found.sizes == ("3 × 4", "10 × 4", "30 × 8", "100 × 16")
    assert found.median_ms["exact"]["3 × 4"].value == 0.016
    assert found.p99_ms["cvxpy"]["100 × 16"].value == 42.0
    assert solve_time.draw(found).get_axes()[1].get_yscale() == "log"


def test_no_violation_is_shown_and_nothing_relaxed_is_not(run: Run) -> None:
    """The exact planner's 0 % is measured, its fractional share is absent."""
    found = violations.data(run, "routing")
    assert found is not None
    assert {e.value for e in found.violating["exact"].values()} == {0.0}
    assert set(found.fractional) == {"lp"}
    axes = violations.draw(found).get_axes()[1]
    assert axes.get_ylim()[0] < 0


def test_a_sweep_has_a_row_with_its_own_levels(run: Run) -> None:
    """Score, violations, and what the parameter trades them for."""
    found = sweeps.data(run, "routing")
    assert found is not None
    assert [row.parameter for row in found.rows] == list(sweeps.SWEPT)
    assert [panel.metric for panel in found.rows[0].panels] == ["score", "violating_share", "token_cost"]
    assert found.rows[2].levels == (6, 8, 12, 16, 24)


def test_one_sweep_alone_is_drawn(tmp_path: Path) -> None:
    """The others are left out, and levels may be words."""
    points = [
        {"along": word, "planner": "lp", "score": 0.7, "violating_share": 0.0} for word in ("good", "bad")
    ]
    found = sweeps.data(written(tmp_path, [swept("sweep-prior_quality", points)]), "routing")
    assert found is not None
    assert [(row.parameter, row.levels) for row in found.rows] == [("prior_quality", ("good", "bad"))]
    assert "good" in texts(sweeps.draw(found))


def test_the_latest_of_two_sweeps_counts(tmp_path: Path) -> None:
    """Points of two measurements are never mixed."""
    run = written(tmp_path, [swept("sweep-budget", [{"planner": "lp", "along": 4}]), parameter("budget")])
    found = sweeps.data(run, "routing")
    assert found is not None
    assert found.rows[0].levels == (6, 8, 12, 16, 24)


# score against cost


def test_the_front_holds_what_no_other_beats_and_no_hindsight(run: Run) -> None:
    """From cheap to dear the score rises; the ceiling and beaten routers are off it."""
    found = score_cost.data(run, "routing")
    assert found is not None
    assert [panel.label for panel in found.panels] == ["token cost per job", "time per job"]
    for panel in found.panels:
        scores = [p.score.value or 0.0 for p in panel.front]
        assert scores == sorted(scores)
        kinds = {name: p.kind for p in panel.points for name in p.name.split(" = ")}
        assert kinds.keys() == ROUTERS.keys()
        assert kinds["offline-optimum"] == "ceiling"
        assert kinds["best-single"] == "control"
        assert not any("offline-optimum" in p.name for p in panel.front)


def test_routers_that_hide_each_other_share_a_point(tmp_path: Path) -> None:
    """All are named, none is lost beneath another, and a note says what the sign means."""
    twins = [record("lp-3", None), record("exact-3", None, rounds=[])]
    ceiling = replace(record("exact-3", None, rounds=[]), variant="offline-optimum")
    found = score_cost.data(written(tmp_path, [ceiling, *twins, record("random", None)]), "routing")
    assert found is not None
    (point,) = (p for p in found.panels[0].points if "lp-3" in p.name)
    assert (point.name, point.kind) == ("lp-3 = exact-3 = offline-optimum", "router")
    assert any(note.startswith("=:") for note in found.notes)


def test_a_shared_point_keeps_the_marks_of_all_its_kinds(tmp_path: Path) -> None:
    """A control and a ceiling are seen although a router is drawn first."""
    ceiling = replace(record("exact-3", None, rounds=[]), variant="offline-optimum")
    control = replace(record("exact-3", None, rounds=[]), variant="greedy")
    found = score_cost.data(written(tmp_path, [ceiling, record("lp-3", None), control]), "routing")
    assert found is not None
    assert found.panels[0].points[0].also == ("control", "ceiling")
    axes = score_cost.draw(found).get_axes()[1]
    assert {"o", "s", "*"} <= {str(line.get_marker()) for line in axes.get_lines()}
    assert "ceiling (sees all)" in texts(axes.figure)


def test_axes_say_what_left_is_and_scores_stay_within_theirs(tmp_path: Path) -> None:
    """Less time is faster, and no score is below 0 although all are 0."""
    low = record("lp", None)
    for task in low.tasks:
        task.treatment["score"] = 0.0
    found = score_cost.data(written(tmp_path, [low]), "routing")
    assert found is not None
    figure = score_cost.draw(found)
    assert "time per job, s (faster to the left)" in texts(figure)
    assert all(axes.get_ylim()[0] >= -4 for axes in figure.get_axes() if axes.get_xlabel())


def test_an_interval_beyond_the_axis_ends_in_an_arrow(tmp_path: Path) -> None:
    """What is cut is not taken for its end."""
    wide = record("lp", None)
    for i, one in enumerate(wide.rounds[:2]):
        assert one.treatment is not None
        one.treatment["job_s"] = 1.0 + 9.0 * i
    wide.rounds = wide.rounds[:2]
    found = score_cost.data(written(tmp_path, [wide]), "routing")
    assert found is not None
    axes = score_cost.draw(found).get_axes()[2]
    assert [str(line.get_marker()) for line in axes.get_lines()].count(">") == 1


def test_a_planner_that_pays_for_planning_costs_more(tmp_path: Path) -> None:
    """A job's own token cost counts; where there is none, a note says what is missing."""
    bare = record("planner", None)
    points = [{**p, "token_cost": 9.0} for p in bare.sweep]
    (one, other) = (
        score_cost.data(written(tmp_path / name, [r]), "routing")
        for name, r in (("bare", bare), ("paid", record("planner", None, sweep=points)))
    )
    assert one is not None
    assert other is not None
    assert one.panels[0].points[0].cost.value == pytest.approx(0.24)
    assert other.panels[0].points[0].cost.value == 9.0
    assert any("without what planning took" in note for note in one.notes)
    assert not any("without what planning took" in note for note in other.notes)


def test_the_control_arm_stands_in_for_a_router_without_a_record(tmp_path: Path) -> None:
    """The planner is shown although only the LP's test ran."""
    found = score_cost.data(written(tmp_path, [record("lp")]), "routing")
    assert found is not None
    assert {p.name for p in found.panels[0].points} == {"lp", "planner"}


def test_names_beside_points_do_not_cover_each_other(run: Run) -> None:
    """Every label of both panels is readable."""
    from matplotlib.text import Annotation, Text

    found = score_cost.data(run, "routing")
    assert found is not None
    figure = score_cost.draw(found)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(t) for t in figure.findobj(Annotation)]  # without the line to its point
    boxes = [box for box in boxes if box.width]
    assert len(boxes) == sum(len(panel.points) for panel in found.panels)
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1)


def test_grades_without_a_cost_or_a_time_are_no_point(tmp_path: Path) -> None:
    """Nothing is placed at a cost of 0."""
    tasks = [TaskPair(id=f"wb1-000.s{i}", treatment={"score": 1.0, "token_cost": None}) for i in range(3)]
    run = written(tmp_path, [record("lp", None, tasks=tasks, rounds=[], sweep=[])])
    assert score_cost.data(run, "routing") is None


def test_every_curve_names_its_variant() -> None:
    """The records that the figures look for are those that the synthetic run makes."""
    names = {r.variant for r in all_sweeps()}
    assert names == {regret.RECORD, solve_time.RECORD, violations.RECORD} | {
        f"sweep-{p}" for p in sweeps.SWEPT
    }
