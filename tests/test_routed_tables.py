from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports import tables
from reports.records import Failure, Record, Round, TaskPair
from reports.runs import Run
from tests.synthetic_routing import ROUTERS, record, sweeps, swept
from tests.synthetic_runs import record as cascade
from tests.synthetic_runs import verdict, write_run


def shown(tmp_path: Path, records: list[Record]) -> str:
    """The terminal's tables of these records, in a hundred columns."""
    text = tables.variants_table(Run.read(write_run(tmp_path / "run", records)))
    assert max(map(len, text.splitlines())) <= 100
    return text


def row(text: str, start: str) -> list[str]:
    """The cells of the row that begins with `start`."""
    return next(line for line in text.splitlines() if line.startswith(start)).split("  ")


def plans(variant: str, **values: float | None) -> Record:
    """A record of plans that nothing ran."""
    task = TaskPair(id="j0", treatment={"value": 1.5, "regret": 0.0, "violates": 0.0, "loads": 1.0, **values})
    return Record(
        experiment="routing",
        variant=variant,
        control=None,
        backend="planning",
        profile="any",
        settings={"fleet": "agents_heavy"},
        rounds=[Round(order="CT", treatment={"route_s": 0.001})],
        tasks=[task],
    )


def one(lp: list[float], llm: list[float], **changes: Any) -> Record:
    """Jobs of one task each, with these scores."""
    return record(
        "lp",
        tasks=[
            TaskPair(
                id=f"j{i}.s0",
                treatment={"score": a, "right": a, "same_model": 0.0},
                control={"score": b, "right": b},
            )
            for i, (a, b) in enumerate(zip(lp, llm, strict=True))
        ],
        **changes,
    )


def test_a_router_shows_its_score_beside_its_controls(tmp_path: Path) -> None:
    """Mean, paired difference, right answers, steps over the budget and loads stand in one row."""
    points = [
        {"name": "job", "job": f"j{i}", "score": 1.0, "violations": i == 0, "num_steps": 2, "loads": i}
        for i in range(4)
    ]
    text = shown(tmp_path, [one([1, 1, 1, 0], [1, 0, 0, 0], sweep=points)])
    cells = [cell.strip() for cell in row(text, "lp") if cell.strip()]
    assert cells[0] == "lp"
    assert cells[1].startswith("75 [")
    assert cells[2].startswith("50 [")
    assert cells[3:6] == ["75", "12.5", "1.50"]


def test_intervals_take_the_job_as_the_unit(tmp_path: Path) -> None:
    """Three tasks that rise and fall together are one observation, not three."""
    tasks = [TaskPair(id=f"j{i}.s{k}", treatment={"score": float(i % 2)}) for i in range(4) for k in range(3)]
    alone, whole = (
        shown(tmp_path / unit, [record("lp", None, tasks=tasks, settings={"unit": unit})])
        for unit in ("task", "job")
    )
    assert "50 [17, 83]" in alone
    assert "50 [0, 100]" in whole


def test_every_router_has_one_row_and_the_control_stands_first(tmp_path: Path) -> None:
    """All in a hundred columns, and no column of the cascade is shown."""
    text = shown(tmp_path, [record(v, None if v == "planner" else "planner") for v in ROUTERS])
    lines = text.splitlines()
    names = [line.split()[0] for line in lines[lines.index(next(x for x in lines if "───" in x)) + 1 :]]
    assert names[: len(ROUTERS)] == ["planner", *(v for v in ROUTERS if v != "planner")]
    assert "solved %" not in text
    assert "cost" not in text


def test_a_model_that_plans_shows_how_its_plans_came_to_be(tmp_path: Path) -> None:
    """Valid, repaired and fallen back, in per cent of steps; an algorithm's status says nothing."""
    text = shown(tmp_path, [record("planner", None), record("lp")])
    assert "planner: its plans were 38 % valid, 25 % repaired, 38 % fallback" in text
    assert "lp: its plans" not in text


def test_a_stand_in_is_called_one_and_simulated_plans_have_no_time(tmp_path: Path) -> None:
    """Nobody takes it for a model, and no plan is said to have taken 0 s."""
    rounds = [Round(order="CT", treatment={"job_s": 2.0, "plan_s": None}) for _ in range(2)]
    text = shown(
        tmp_path,
        [record("planner", None, rounds=rounds, settings={"planner_stands_in": True}, evidence="simulated")],
    )
    assert "planner (a stand-in, no model): its plans were" in text
    assert "plan: not timed" in text
    cells = [cell.strip() for cell in row(text, "planner") if cell.strip()]
    assert cells[-3:] == ["2.00", "–", "–"]


def test_arms_whose_models_never_differ_show_no_difference_of_scores(tmp_path: Path) -> None:
    """That two equal plans score alike is no finding."""
    same = one([1, 0], [1, 0])
    for task in same.tasks:
        task.treatment["same_model"] = 1.0
    assert "same models" in shown(tmp_path, [same])


def test_plans_have_a_table_of_their_own_and_curves_one_line(tmp_path: Path) -> None:
    """Neither adds rows of dashes to the routers'."""
    text = shown(
        tmp_path, [record("lp"), plans("lp-plans"), plans("published-lp-1", as_published=1.0), *sweeps()]
    )
    routers, planned, published, curves = text.split("\n\nrouting: ")
    assert "lp-plans" not in routers
    assert "1.50" in [cell.strip() for cell in row(planned, "lp-plans")]
    assert "1 of 1" in [cell.strip() for cell in row(published, "published-lp-1")]
    assert "sweep-budget" in curves
    assert "───" not in curves
    assert "sweep-budget" not in routers + planned


def test_a_failure_is_counted_and_the_first_is_told(tmp_path: Path) -> None:
    """A row of few numbers says why."""
    failure = Failure(arm="treatment", round=0, where="wb1-000", error="the engine died")
    assert "lp: failures: 1, the first: the engine died" in shown(
        tmp_path, [record("lp", failures=[failure])]
    )


def test_workflows_keep_their_table_beside_routers(tmp_path: Path) -> None:
    """One run may hold both experiments."""
    text = shown(tmp_path, [cascade("cascade"), record("lp")])
    assert text.startswith("cascade: ")
    assert "solved %" in text
    assert "over %" in text


def test_markdown_has_every_router_with_its_intervals(tmp_path: Path) -> None:
    """The same table for a page, and the curves' line."""
    run = Run.read(write_run(tmp_path / "run", [record("lp"), swept("sweep-budget", [{"along": 1}])]))
    text = tables.variants_markdown(run)
    assert "| variant | score % | − control |" in text
    assert text.count("\n| lp |") == 1
    assert "sweep-budget (1 points)" not in text
    assert "sweep-budget (1 point)" in text


@pytest.mark.parametrize("length", [20, 60, 100])
def test_a_claims_id_can_be_copied_whole(length: int) -> None:
    """`--claim` takes it as it stands; an id too long for its column has a line to itself."""
    name = ("claim-" * 20)[:length]
    long = verdict(
        name, "refuted", estimate=0.3, interval=[0.2, 0.4], published=0.33, unit="a long unit of it"
    )
    text = tables.claims_table([long])
    assert any(line.split() and line.split()[0] == name for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 100
