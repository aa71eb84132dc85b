"""Tables and figures of a merged run take the unit that its verdicts take: the session of what stays up."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from reports import tables
from reports.claims import Claim
from reports.experiments import switching
from reports.experiments.strategies import cells_of
from reports.experiments.strategies_tables import tables as strategy_tables
from reports.figures import goodput, latency_modes, policies, score_cost, stages
from reports.intervals.estimates import measure
from reports.merging import merge_records
from reports.pages import downloads
from reports.records import Record, Round
from reports.runs import Run
from reports.stats import Interval
from reports.tabular.ladders import ladders
from reports.tabular.means import BY_SESSION, mean
from tests import synthetic_routing
from tests.synthetic_runs import load, record, write_run
from tests.synthetic_switching import arm_record, simulated
from tests.test_strategies_report import HALF, graded

SLOWER = (1.0, 1.1, 1.3)
"""What the treatment of each session takes times as long."""
T = 4.3027
"""Student's 97.5 % quantile at two degrees of freedom."""


def slowed(one: Record, factor: float, launch: str = "session") -> Record:
    """The record of a session in which the treatment took so many times as long."""

    def scaled(values: dict[str, Any]) -> dict[str, Any]:
        times = [
            k for k, v in values.items() if k.endswith("_s") and "_per_" not in k and isinstance(v, float)
        ]
        return {**values, **{k: values[k] * factor for k in times}}

    rounds = [replace(r, treatment=r.treatment and scaled(r.treatment)) for r in one.rounds]
    sweep = [scaled(p) if p.get("arm", "treatment") == "treatment" else p for p in one.sweep]
    return replace(one, rounds=rounds, sweep=sweep, launch=launch)


def merged(one: Record, factors: tuple[float, ...] = SLOWER, launch: str = "session") -> Record:
    """Sessions of a record, each slower than the last."""
    return merge_records([slowed(one, factor, launch) for factor in factors])


def student(values: list[float]) -> tuple[float, float]:
    half = T * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def judged(one: Record, metric: str) -> Interval:
    """The ratio as a claim has it."""
    claim = Claim(
        id="faster", version=1, source="here", says="it is faster", form="at_least", metric=metric,
        treatment=one.variant, control=one.control or "", experiment=one.experiment, published=1.0,
    )  # fmt: skip
    found = measure(claim, one)
    assert isinstance(found, Interval)
    return found


def test_switching_is_as_many_times_as_fast_as_the_verdict_says() -> None:
    """To the last digit, over three sessions and not over their twelve rounds."""
    one = merged(arm_record("home-slot", 4))
    arm = next(arm for arm in switching.arms([one]) if arm.name == "home-slot")
    found = switching.faster(arm, "ttft_mean_s")
    assert found == judged(one, "ttft_mean_s")
    assert found.high / found.low > 1.5


def test_a_quantile_of_requests_is_the_mean_of_sessions_quantiles() -> None:
    """With Student's interval over three; two sessions have none, and too few requests no value."""
    one = merged(arm_record("resident", 4))
    (arm,) = (arm for arm in switching.arms([one]) if arm.name == "resident")
    middle, tail = arm.quantiles("switch_s", (0.5, 0.99))
    each = [
        sorted(p["switch_s"] for p in arm.requests if p["session"] == at)[ceil(0.5 * 120) - 1]
        for at in range(3)
    ]
    assert middle.value == pytest.approx(fmean(each))
    assert middle.interval == pytest.approx(student(each), rel=1e-4)
    assert (middle.n, tail.value, tail.n) == (3, None, 360)
    (arm,) = (
        a for a in switching.arms([merged(arm_record("resident", 4), SLOWER[:2])]) if a.name == "resident"
    )
    (middle,) = arm.quantiles("switch_s", (0.5,))
    assert middle.value == pytest.approx(fmean(each[:2]))
    assert middle.interval is None


def test_strategies_take_as_long_as_the_verdict_says() -> None:
    """Of paired sessions, by the rounds that both arms measured."""
    one = merged(graded("nano", "reread", HALF, HALF))
    first = one.rounds[0]
    one.rounds[0] = replace(first, control={"total_s": None})
    (cell,) = cells_of([one])
    assert cell.time_times is not None
    found = judged(one, "total_s")
    assert cell.time_times[:3] == pytest.approx((1 / found.estimate, 1 / found.high, 1 / found.low))
    batched = merged(graded("nano", "batched-8", "", "", control="nano-one-by-one-8"))
    for at, each in enumerate(batched.rounds):
        assert each.treatment is not None
        batched.rounds[at] = replace(each, treatment={**each.treatment, "answers_per_s": 1.0})
    table = strategy_tables([batched])[-1]
    found = judged(batched, "total_s")
    assert f"[{found.low:.3f}, {found.high:.3f}]" in table.rows[1][-1]
    assert table.notes == (BY_SESSION,)


def test_a_round_that_one_arm_lost_takes_no_order_from_the_others() -> None:
    """The pairs keep each their own order, so that first and second runs still weigh the same."""
    values = (1.0, 2.0, 1.0, 2.0, 1.0, 1.0)
    orders = ("CT", "TC", "CT", "TC", "CT", "CT")
    rounds = [
        Round(order=order, treatment={"total_s": v}, control={"total_s": 1.0})
        for order, v in zip(orders, values, strict=True)
    ]
    rounds.insert(0, Round(order="TC", treatment={"total_s": None}, control={"total_s": 1.0}))
    (cell,) = cells_of([graded("nano", "reread", HALF, HALF, rounds=rounds)])
    assert cell.time_times is not None
    assert cell.time_times.estimate == pytest.approx(2**0.5)


def test_a_ladders_sessions_are_those_of_each_record() -> None:
    """The baseline beside two variants was launched six times, though both number theirs from 0."""
    records = [merged(load(name)) for name in ("load-cascade", "load-hybrid")]
    found = ladders(records, "cascade")
    points = {p.arm: p for p in found.points if p.rate_per_s == 3.0}
    assert (points["load-baseline"].p50_s.n, points["load-cascade"].p50_s.n) == (6, 3)
    each = [
        fmean(
            p["p50_s"]
            for p in records[0].sweep
            if (p["arm"], p["rate_per_s"], p["session"]) == ("treatment", 3.0, at)
        )
        for at in range(3)
    ]
    assert points["load-cascade"].p50_s.interval == pytest.approx(student(each), rel=1e-4)
    rounds = ladders([merged(load(), launch="round")], "cascade")
    assert {p.p50_s.n for p in rounds.points} == {12}


def test_a_policys_hits_are_over_sessions(tmp_path: Path) -> None:
    """As its figure says beneath."""
    one = merged(arm_record("home-slot", 4))
    for at, each in enumerate(one.rounds):
        share = 0.5 + 0.1 * (each.session or 0) + 0.01 * (at % 2)
        one.rounds[at] = replace(each, treatment={**(each.treatment or {}), "hit_share": share})
    run = Run.read(write_run(tmp_path / "run", [one, simulated("sim-policies")]))
    found = policies.data(run, "switching")
    assert found is not None
    row = next(row for row in found.rows if row.name == "home-slot")
    assert row.live_hits.interval == pytest.approx(student([50.5, 60.5, 70.5]), rel=1e-4)
    assert row.live_hits.n == 3
    assert any("intervals over sessions" in note for note in found.notes)


def test_value_number_and_spread_are_of_what_the_interval_is_of() -> None:
    """Sessions of unlike length weigh the same, whether or not there are enough for an interval."""
    values, sessions = [1.0, 1.0, 1.0, 3.0, 5.0], [0, 0, 0, 1, 2]
    found = mean(values, sessions=sessions)
    assert (found.value, found.n, found.sd) == (3.0, 3, 2.0)
    assert found.high == pytest.approx(3 + T * 2 / 3**0.5, rel=1e-4)
    few = mean(values[:4], sessions=sessions[:4])
    assert (few.value, few.n, few.sd, few.interval) == (2.0, 2, None, None)
    assert mean([2.0] * 4, sessions=[0, 0, 1, 1])[:4] == (2.0, 2.0, 2.0, 2)


@pytest.mark.parametrize(
    ("means", "ends"),
    [((1.0, 2.0), ("", "")), ((2.0, 2.0), (2.0, 2.0)), ((1.0, 2.0, 3.0), (0.0, 2 + T / 3**0.5)),
     ((-1.0, 2.0, 5.0), (2 - T * 3**0.5, 2 + T * 3**0.5))],
)  # fmt: skip
def test_csv_has_the_intervals_that_the_tables_have(
    tmp_path: Path, means: tuple[float, ...], ends: tuple[float | str, float | str]
) -> None:
    """None of two sessions that differ, none below 0 of what is never below it."""
    made = [
        record(
            "x",
            control=None,
            tasks=[],
            launch="session",
            rounds=[Round(order="CT", treatment={"total_s": m})] * 2,
        )
        for m in means
    ]
    run = Run.read(write_run(tmp_path / "run", [merge_records(made)]))
    rows = csv.DictReader(io.StringIO(downloads.texts(run)["variants.csv"]))
    (row,) = (row for row in rows if row["metric"] == "total_s")
    found = tuple(float(row[end]) if row[end] else "" for end in ("low", "high"))
    assert found == pytest.approx(ends, rel=1e-4) if ends[0] != "" else found == ends


def routed() -> Record:
    return synthetic_routing.record("greedy")


def written(path: Path, one: Record) -> str:
    return tables.variants_markdown(Run.read(write_run(path / "run", [one])))


def shown(path: Path, one: Record) -> str:
    return tables.variants_table(Run.read(write_run(path / "run", [one])), width=1000)


@pytest.mark.parametrize("told", [written, shown])
@pytest.mark.parametrize(
    "made",
    [record, routed, lambda: arm_record("home-slot", 2), lambda: graded("nano", "reread", HALF, HALF)],
    ids=["workflow", "routing", "switching", "strategies"],
)
def test_a_table_says_that_its_unit_is_the_session(
    tmp_path: Path, made: Callable[[], Record], told: Callable[[Path, Record], str]
) -> None:
    """Beneath it; and not where every round is launched anew."""
    assert BY_SESSION in told(tmp_path / "session", merged(made()))
    assert BY_SESSION not in told(tmp_path / "round", merged(made(), launch="round"))


def test_a_table_of_offered_load_says_it_too(tmp_path: Path) -> None:
    """It is written for the terminal alone."""
    assert BY_SESSION in shown(tmp_path, merged(load()))


@pytest.mark.parametrize(
    ("figure", "made", "expected"),
    [
        (stages, record, "over sessions with Student's"),
        (score_cost, routed, "Time: mean over sessions"),
        (goodput, load, BY_SESSION.capitalize()),
        (latency_modes, lambda: arm_record("home-slot", 2), BY_SESSION.capitalize()),
    ],
    ids=["stages", "score-cost", "goodput", "latency-modes"],
)
def test_a_figure_says_that_its_unit_is_the_session(
    tmp_path: Path, figure: Any, made: Callable[[], Record], expected: str
) -> None:
    """In a note; not where every round is launched anew."""
    for launch, says in (("session", True), ("round", False)):
        one = merged(made(), launch=launch)
        found = figure.data(Run.read(write_run(tmp_path / launch, [one])), one.experiment)
        assert any(expected in note for note in found.notes) == says
