from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from reports.errors import JournalError
from reports.experiments import exports
from reports.records import Record, Round, TaskPair
from reports.runs import Run
from tests.synthetic_routing import GEMMA, QWEN, record, swept, telemetry, write_artifact, write_telemetry
from tests.synthetic_runs import record as cascade
from tests.synthetic_runs import write_run


def report(
    tmp_path: Path, records: list[Record], events: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The report of these records and events."""
    path = write_run(tmp_path / "run", records)
    if events is not None:
        write_telemetry(path, events)
    (written,) = exports.write(Run.read(path))
    assert written == path / "output" / "routing" / "report.json"
    found: dict[str, Any] = json.loads(written.read_text())
    return found


def graded(scores: list[tuple[float | None, float | None]], same: float = 0.0) -> list[TaskPair]:
    """One-task jobs with these scores of the LP and the planner."""
    return [
        TaskPair(
            id=f"j{i}.s0",
            treatment={"score": lp, "token_cost": 0.5, "same_model": same},
            control={"score": llm, "token_cost": 0.25},
        )
        for i, (lp, llm) in enumerate(scores)
    ]


def jobs(scores: list[tuple[float | None, float | None]], **more: Any) -> list[dict[str, Any]]:
    """The same as points of jobs."""
    return [
        {"name": "job", "arm": arm, "job": f"j{i}", "shape": "wb1", "score": score, **more}
        for i, pair in enumerate(scores)
        for arm, score in zip(("treatment", "control"), pair, strict=True)
    ]


def test_the_published_fields_are_there(tmp_path: Path) -> None:
    """Under the origin's names, and each is defined in words."""
    found = report(tmp_path, [record("lp-3"), record("planner", None)], telemetry(("lp-3", "planner")))
    assert found["comparison_lp_vs_llm"].keys() == {"lp", "llm"}
    assert found["jobs_lp_won"] + found["jobs_llm_won"] + found["jobs_tied"] == 30
    assert found["routing_divergence_pct"] == 100.0
    defined = ", ".join(found["fields"])
    for name in (*found["comparison_lp_vs_llm"]["lp"], "jobs_lp_won", "routing_divergence_pct", "per_job"):
        assert name == "variant" or name in defined


def test_jobs_are_won_by_score_and_equal_fractions_tie(tmp_path: Path) -> None:
    """A difference in the last bit is none; a job that an arm could not grade is nobody's."""
    scores: list[tuple[float | None, float | None]] = [
        (1.0, 0.5),
        (0.1 + 0.2, 0.3),
        (0.0, 1.0),
        (1.0, 0.0),
        (None, 1.0),
    ]
    found = report(tmp_path, [record("lp", tasks=graded(scores), sweep=jobs(scores))])
    assert (found["jobs_lp_won"], found["jobs_llm_won"], found["jobs_tied"]) == (2, 1, 1)
    assert [row["winner"] for row in found["per_job"]] == ["lp", "tie", "llm", "lp", None]
    assert (found["lp_better"], found["llm_better"], found["tie"]) == (2, 1, 1)


def test_who_was_better_counts_only_where_models_differ(tmp_path: Path) -> None:
    """Equal models say nothing about routing."""
    scores: list[tuple[float | None, float | None]] = [(1.0, 0.0), (0.0, 1.0), (1.0, 0.0)]
    tasks = graded(scores)
    tasks[0].treatment["same_model"] = 1.0
    found = report(tmp_path, [record("lp", tasks=tasks, sweep=jobs(scores))])
    assert found["routing_divergence_pct"] == pytest.approx(200 / 3)
    assert (found["lp_better"], found["llm_better"], found["tie"]) == (1, 1, 0)


def test_the_planners_time_stands_apart_and_within(tmp_path: Path) -> None:
    """Latency and critical path in both ways, from the timed rounds of each arm."""
    one = record("lp")
    found = report(tmp_path, [one], telemetry(("lp", "planner")))["comparison_lp_vs_llm"]
    lp, llm = found["lp"], found["llm"]
    assert llm["avg_planner_s"] > 1.0 > lp["avg_planner_s"]
    for arm, side in ((lp, "treatment"), (llm, "control")):
        assert arm["avg_latency_without_planner_s"] == pytest.approx(fmean(one.values("answers_s", side)))
        whole = arm["avg_critical_path_with_planner_s"]
        assert whole - arm["avg_critical_path_s"] == pytest.approx(arm["avg_planner_s"])
        assert arm["avg_solve_ms_per_step"] == pytest.approx(1e3 * arm["avg_planner_s"] / (8 / 3))


def test_without_its_measurement_no_latency_leaves_planning_out(tmp_path: Path) -> None:
    """A difference would still hold the load of the model that plans."""
    one = record("lp")
    for pair in one.rounds:
        for arm in (pair.treatment, pair.control):
            assert arm is not None
            arm["answers_s"] = arm["plan_s"] = None
    found = report(tmp_path, [one])["comparison_lp_vs_llm"]["lp"]
    assert found["avg_latency_s"] is not None
    assert found["avg_latency_without_planner_s"] is None
    assert found["avg_planner_s"] is None
    assert found["avg_solve_ms_per_step"] is None


def test_steps_of_timed_jobs_alone_share_the_planning(tmp_path: Path) -> None:
    """A job that was graded and not timed has no part in it."""
    points = [
        {"name": "job", "job": "a", "score": 1.0, "num_steps": 2},
        {"name": "job", "job": "b", "score": 1.0, "num_steps": 8},
    ]
    rounds = [Round(order="CT", treatment={"plan_s": 0.01})]
    one = record("sequential", None, sweep=points, rounds=rounds, settings={"timed_jobs": ["a"]})
    found = report(tmp_path, [one])["routers"]["sequential"]
    assert found["avg_solve_ms_per_step"] == pytest.approx(5.0)


def test_warm_and_cold_loads_stand_apart(tmp_path: Path) -> None:
    """Those of the graded stream, and those of the rounds that the latencies are of."""
    found = report(tmp_path, [record("lp")])["comparison_lp_vs_llm"]["lp"]
    assert found["avg_loads_timed"] == 1.5
    assert found["avg_loads"] == pytest.approx(5 / 3)


def test_each_arm_says_where_it_was_measured_and_who_stood_in(tmp_path: Path) -> None:
    """The planner beside lp-3 is not the planner beside lp, nor is a stand-in a model."""
    records = [record(v, settings={"planner_stands_in": True}) for v in ("lp-3", "lp")]
    found = report(tmp_path, records)["runs"]
    for name in ("lp-3", "lp"):
        arms = found[name]["comparison_lp_vs_llm"]
        assert [arms[arm]["measured_in"] for arm in ("lp", "llm")] == [name, name]
        assert [arms[arm]["is_stand_in"] for arm in ("lp", "llm")] == [False, True]


def test_answers_that_did_not_fit_are_counted_before_they_were_mended(tmp_path: Path) -> None:
    """In per cent of jobs; unknown for a router that asks nobody."""
    points = [
        {"name": "job", "job": f"j{i}", "score": 1.0, "answer_violates": float(i == 0)} for i in range(4)
    ]
    found = report(tmp_path, [record("planner", None, sweep=points), record("lp")])
    assert found["routers"]["planner"]["answer_violates_pct"] == 25.0
    assert found["comparison_lp_vs_llm"]["lp"]["answer_violates_pct"] is None


def test_a_sweep_is_no_router(tmp_path: Path) -> None:
    """Although its record may have graded jobs too."""
    curve = swept("sweep-budget", [{"along": 1, "planner": "lp"}])
    curve.sweep += record("lp").sweep
    assert list(report(tmp_path, [record("lp"), curve, record("exact")])["routers"]) == ["exact"]


def test_violations_are_per_job_and_per_step(tmp_path: Path) -> None:
    """One of three steps of one of three jobs: 33 % of jobs, 12.5 % of steps."""
    found = report(tmp_path, [record("lp")], telemetry(("lp", "planner")))["comparison_lp_vs_llm"]
    assert found["lp"]["jobs_violating_pct"] == pytest.approx(100 / 3)
    assert found["lp"]["steps_violating_pct"] == pytest.approx(12.5)
    assert found["lp"]["max_over_gb"] == 4.5
    assert found["llm"]["steps_violating_pct"] == 0.0


def test_statuses_of_the_planner_are_shares_of_steps(tmp_path: Path) -> None:
    """Stand-ins are not counted as its plans."""
    found = report(tmp_path, [record("lp")], telemetry(("lp", "planner")))["comparison_lp_vs_llm"]
    assert found["llm"]["planner_status_pct"] == {"valid": 37.5, "fallback": 37.5, "repaired": 25.0}
    assert found["lp"]["planner_status_pct"] == {"computed": 100.0}


def test_score_per_cost_is_the_records(tmp_path: Path) -> None:
    """On its scale, which is that of the published numbers; with and without the planner's own tokens."""
    scores: list[tuple[float | None, float | None]] = [(1.0, 1.0), (0.0, 0.5)]
    more = {"score_per_token_cost": 0.0012, "score_per_answer_cost": 0.0031}
    bare = report(tmp_path / "a", [record("lp", tasks=graded(scores), sweep=jobs(scores))])
    paid = report(tmp_path / "b", [record("lp", tasks=graded(scores), sweep=jobs(scores, **more))])
    for name, value in more.items():
        assert bare["comparison_lp_vs_llm"]["llm"][name] is None
        assert paid["comparison_lp_vs_llm"]["llm"][name] == pytest.approx(value)
        assert "1/cost" in paid["fields"]["score_per_token_cost"]


def test_the_first_lp_of_the_showcase_speaks_for_the_file(tmp_path: Path) -> None:
    """Every LP has a comparison of its own, and other routers are not called LP."""
    found = report(tmp_path, [record("lp"), record("sequential"), record("lp-3"), record("planner", None)])
    assert found["run"] == "lp-3"
    assert list(found["runs"]) == ["lp-3", "lp"]
    assert list(found["routers"]) == ["sequential", "planner"]
    assert found["comparison_lp_vs_llm"] == found["runs"]["lp-3"]["comparison_lp_vs_llm"]


def test_models_by_task_are_those_of_the_graded_job(tmp_path: Path) -> None:
    """From its artifact; where there is none they are not known."""
    write_artifact(tmp_path / "run", "lp", "wb1-000", {"s0": GEMMA, "s1": GEMMA, "s2": QWEN})
    found = report(tmp_path, [record("lp")])
    row = next(row for row in found["per_job"] if row["job"] == "wb1-000")
    assert row["lp_models"] == {"s0": GEMMA, "s1": GEMMA, "s2": QWEN}
    assert row["llm_models"] is None
    assert found["artifacts"] == "artifacts"


@pytest.mark.parametrize("text", ["{", "[]", '{"assignments": null}', "{}"])
def test_a_malformed_artifact_is_named_with_its_remedy(tmp_path: Path, text: str) -> None:
    """Which file, what is wrong, and what to do."""
    write_artifact(tmp_path / "run", "lp", "wb1-000", {}).write_text(text)
    with pytest.raises(JournalError, match=r"wb1-000\.json: no artifact of a job .*; move it away"):
        report(tmp_path, [record("lp")])


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    """Never 0, and no run without an LP beside the planner."""
    found = report(
        tmp_path, [record("planner", None, rounds=[], tasks=[], sweep=[{"name": "job", "job": "j"}])]
    )
    assert found["run"] is None
    for name in ("comparison_lp_vs_llm", "jobs_lp_won", "routing_divergence_pct", "lp_better", "per_job"):
        assert found[name] is None
    arm = found["routers"]["planner"]
    numbers = {
        k: v for k, v in arm.items() if k.startswith(("avg", "jobs", "steps", "max", "score", "planner_"))
    }
    numbers |= numbers.pop("avg_vram_gb")
    assert set(numbers.values()) == {None}
    assert found["telemetry"] is None


def test_a_run_without_jobs_has_no_report(tmp_path: Path) -> None:
    """Curves alone compare nothing, and another experiment keeps its own files."""
    path = write_run(tmp_path / "run", [swept("sweep-window", []), cascade("cascade", num_rounds=1)])
    names = {p.parent.name for p in exports.write(Run.read(path))}
    assert names == {"cascade"}


def test_the_machine_is_the_plans(tmp_path: Path) -> None:
    """As `run.json` of a real run has it."""
    path = write_run(tmp_path / "run", [record("lp")])
    (path / "run.json").write_text(json.dumps({"schema": 1, "plan": {"machine": "a node"}}))
    (written,) = exports.write(Run.read(path))
    assert json.loads(written.read_text())["machine"] == "a node"
