"""The order in which a verdict is decided, and what each step says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reports.claims import Claim
from reports.records import Check, Failure, Metric, Record, Round, TaskPair
from reports.verdicts import BADNESS, LETTERS, WORDS, Stored, family_p, gate_outcome, judge

METRICS = {
    "total_s": Metric(unit="s", better="lower", what="wall-clock time"),
    "route_s": Metric(unit="s", better="lower", what="router's time"),
    "cost_usd": Metric(unit="USD", better="lower", what="cost"),
    "goodput_per_s": Metric(unit="tasks/s", better="higher", what="goodput"),
    "solved": Metric(unit="share", better="higher", what="solved"),
    "large_calls": Metric(unit="calls", better="lower", what="calls"),
}


def claim(**changes: Any) -> Claim:
    row: dict[str, Any] = {
        "id": "a",
        "version": 1,
        "source": "paper, Table 1",
        "says": "33 % faster",
        "form": "at_least",
        "metric": "total_s",
        "quantity": "reduction",
        "treatment": "cascade",
        "control": "baseline",
        "experiment": "cascade",
        "published": 0.2,
        "provenance": ("routed_as_named",),
    }
    return Claim(**{**row, **changes})


def record(
    variant: str = "cascade",
    *,
    speed: float = 0.7,
    spread: float = 0.01,
    solved: float = 0.6,
    n: int = 8,
    tasks: int = 300,
    **changes: Any,
) -> Record:
    """A variant at `speed` × the baseline's time and cost; the baseline solves 0.6 of the tasks."""
    rng = np.random.default_rng(sum(map(ord, variant)))

    def arm(factor: float) -> dict[str, float | None]:
        seconds = factor * float(np.exp(rng.normal(0, spread)))
        return {"total_s": seconds, "cost_usd": seconds / 3600, "goodput_per_s": 1 / seconds, "route_s": 1e-4}

    rounds = [Round(order="TC" if i % 2 else "CT", treatment=arm(speed), control=arm(1.0)) for i in range(n)]
    pairs = [
        TaskPair(
            id=str(i),
            treatment={"solved": float(i < solved * tasks), "large_calls": 1.0},
            control={"solved": float(i < 0.6 * tasks), "large_calls": 3.0},
        )
        for i in range(tasks)
    ]
    return Record(
        **{
            "experiment": "cascade",
            "variant": variant,
            "control": "baseline",
            "backend": "llama.cpp",
            "profile": "pocket",
            "settings": {"workload": "swe-mini", "platform": "f16"},
            "models": {"large": "llama.cpp large f16", "small": "llama.cpp nano f16"},
            "metrics": METRICS,
            "rounds": rounds,
            "tasks": pairs,
            "checks": [Check(name="routed_as_named", ok=True, observed="SLS")],
            "complete": True,
            **changes,
        }
    )


def stored(
    rec: Record | None = None, *, state: str = "passed", why: str = "", variant: str = "cascade"
) -> Stored:
    name = rec.variant if rec else variant
    return Stored(f"bench/test_cascade.py::test_cascade[{name}]", state, why, {"variant": name}, rec)


def word(row: Claim, *entries: Stored, offers: Sequence[str] = ()) -> str:
    return judge(row, entries, offers).word


# the order


def test_a_claim_beyond_its_bound_is_impossible_before_anything_ran() -> None:
    verdict = judge(
        claim(published=0.36, floor="amdahl", floor_inputs={"total_s": 2.597, "routed_s": 0.92}), []
    )
    assert verdict.verdict == "impossible"
    assert "35.4%" in verdict.reason
    assert verdict.physics is not None
    assert verdict.physics["side"] == "at_most"


def test_a_bound_that_the_claim_keeps_is_shown_and_decides_nothing() -> None:
    row = claim(floor="amdahl", floor_inputs={"total_s": 2.597, "routed_s": 0.92})
    verdict = judge(row, [stored(record())])
    assert verdict.verdict == "confirmed"
    assert verdict.physics is not None


def test_impossible_comes_before_out_of_scope() -> None:
    row = claim(
        published=0.36,
        floor="amdahl",
        floor_inputs={"total_s": 2.597, "routed_s": 0.92},
        requires=("profile:node",),
    )
    assert word(row, stored(record())) == "impossible"


@pytest.mark.parametrize(
    "need", ["profile:node", "backend:sglang", "large:mistral-7b-instruct-v0.3", "workload:swe20", "gpu:h200"]
)
def test_what_the_run_lacks_puts_a_claim_out_of_scope_by_name(need: str) -> None:
    verdict = judge(claim(requires=(need,)), [stored(record())])
    assert (verdict.verdict, verdict.reason) == ("out of scope", f"needs {need}")


def test_a_model_is_recognized_in_its_label_whatever_the_spelling() -> None:
    models = {
        "large": "sglang mistralai/Mistral-7B-Instruct-v0.3 http://gpu1:30000",
        "edge": "ollama mistral:7b-instruct",
    }
    row = claim(requires=("large:mistral-7b-instruct-v0.3", "edge:mistral:7b-instruct"))
    assert word(row, stored(record(models=models))) == "confirmed"


def test_a_skipped_variant_is_out_of_scope_with_its_line() -> None:
    verdict = judge(claim(), [stored(state="skipped", why="edge-large: no backend; pass --backend")])
    assert (verdict.verdict, verdict.reason) == ("out of scope", "edge-large: no backend; pass --backend")


def test_a_broken_run_is_an_error_and_not_out_of_scope() -> None:
    row = claim(requires=("profile:pocket", "workload:swe-mini"))
    broken = stored(state="failed", why="LaunchError: no port")
    assert judge(row, [broken], ["profile:pocket"]).verdict == "error"
    assert judge(row, [broken], ["profile:node"]).verdict == "out of scope"


@pytest.mark.parametrize(
    ("entries", "part"),
    [
        ([], "no test ran variant 'cascade'"),
        ([stored(record("all-small"))], "no test ran variant 'cascade'"),
        ([stored(state="running")], "running"),
        ([stored(state="passed")], "benchmarks disabled"),
        ([stored(record(complete=False))], "interrupted after 8 rounds"),
        ([stored(record()), stored(record(settings={"platform": "q8_0"}))], "2 tests run variant"),
    ],
)
def test_a_variant_without_one_whole_measurement_is_missing(entries: list[Stored], part: str) -> None:
    verdict = judge(claim(), entries)
    assert verdict.verdict == "missing"
    assert part in verdict.reason


def test_settings_choose_between_tests_of_one_variant() -> None:
    slow = record(speed=0.95, settings={"platform": "q8_0"})
    entries = [stored(record()), stored(slow)]
    assert word(claim(settings={"platform": "f16"}), *entries) == "confirmed"
    assert word(claim(settings={"platform": "q8_0"}), *entries) == "refuted"


def test_a_metric_that_nobody_recorded_is_missing() -> None:
    verdict = judge(claim(metric="energy_j"), [stored(record())])
    assert verdict.verdict == "missing"
    assert "energy_j" in verdict.reason


def test_a_failed_test_without_a_record_is_an_error() -> None:
    verdict = judge(claim(), [stored(state="failed", why="BackendUnreachable: large")])
    assert (verdict.verdict, verdict.reason) == ("error", "BackendUnreachable: large")


def test_a_failed_test_whose_record_explains_nothing_is_an_error() -> None:
    assert word(claim(), stored(record(), state="failed", why="leaked process")) == "error"


@pytest.mark.parametrize(
    ("checks", "part"),
    [
        ([Check(name="routed_as_named", ok=False, observed="code→small ×3")], "code→small ×3"),
        ([Check(name="caps_sent", ok=True, observed="")], "was not checked"),
    ],
)
def test_a_check_that_failed_or_was_never_made_makes_a_claim_invalid(checks: list[Check], part: str) -> None:
    for state in ("passed", "failed"):
        verdict = judge(claim(), [stored(record(checks=checks), state=state)])
        if state == "failed" and part == "was not checked":
            continue
        assert verdict.verdict == "invalid"
        assert part in verdict.reason


def test_a_check_that_the_claim_does_not_ask_for_does_not_invalidate_it() -> None:
    checks = [*record().checks, Check(name="attribution_sums", ok=False, observed="4 %")]
    assert word(claim(), stored(record(checks=checks), state="failed")) == "confirmed"


@pytest.mark.parametrize(
    ("published", "expected"), [(0.2, "confirmed"), (0.3, "inconclusive"), (0.5, "refuted")]
)
def test_the_interval_decides(published: float, expected: str) -> None:
    verdict = judge(claim(published=published), [stored(record())])
    assert verdict.verdict == expected
    assert verdict.interval is not None
    assert verdict.interval[0] < 0.3 < verdict.interval[1]
    assert (verdict.more > 0) == (expected == "inconclusive")


def test_too_few_rounds_are_inconclusive_and_say_how_many_would_do() -> None:
    verdict = judge(claim(), [stored(record(n=1))])
    assert (verdict.verdict, verdict.more) == ("inconclusive", 1)


# failures, simulation


def failed_round(rec: Record) -> Record:
    rec.rounds[3] = Round(order="TC", treatment=None, control=rec.rounds[3].control)
    rec.failures.append(Failure(arm="treatment", round=3, where="code", error="timeout"))
    return rec


def test_a_record_with_a_failed_round_confirms_nothing() -> None:
    verdict = judge(claim(), [stored(failed_round(record()), state="failed")])
    assert verdict.verdict == "error"
    assert "cascade: 1 failures, 1 of 8 rounds lost; first: treatment, code: timeout" in verdict.reason
    assert verdict.estimate is not None


def test_a_record_with_a_failed_round_can_refute() -> None:
    assert word(claim(published=0.5), stored(failed_round(record()), state="failed")) == "refuted"


def test_failures_that_leave_nothing_to_measure_are_an_error() -> None:
    rounds = [Round(order="CT", treatment=None, control={"total_s": 1.0})] * 4
    failures = [Failure(arm="treatment", round=i, where="code", error="timeout") for i in range(4)]
    verdict = judge(claim(), [stored(record(rounds=rounds, failures=failures), state="failed")])
    assert verdict.verdict == "error"
    assert "4 of 4 rounds lost" in verdict.reason


def test_simulated_evidence_confirms_no_measured_claim() -> None:
    entry = stored(record(evidence="simulated", profile="replay"))
    verdict = judge(claim(), [entry])
    assert verdict.verdict == "out of scope"
    assert "simulated" in verdict.reason
    assert word(claim(requires=("profile:replay",)), entry) == "confirmed"


# alternatives


def test_a_gain_that_a_trivial_alternative_exceeds_is_confirmed_but_not_against_it() -> None:
    verdict = judge(
        claim(also_beats=("all-small", "random")),
        [stored(record(v, speed=s)) for v, s in (("cascade", 0.7), ("all-small", 0.4), ("random", 0.8))],
    )
    assert (verdict.verdict, verdict.not_against, verdict.word) == (
        "confirmed",
        ("all-small",),
        "confirmed, but",
    )
    assert verdict.sentence == "confirmed, but not against all-small"
    assert [c["beaten"] for c in verdict.controls] == [False, True]
    assert verdict.controls[1]["advantage"] == pytest.approx(np.log(0.8 / 0.7), abs=0.02)
    assert verdict.reason == "all-small: it is better"


def test_an_alternative_that_did_not_run_is_not_beaten() -> None:
    verdict = judge(claim(also_beats=("all-small",)), [stored(record())])
    assert verdict.not_against == ("all-small",)
    assert "no test ran" in verdict.reason


def test_an_alternative_whose_path_is_not_proven_is_not_beaten() -> None:
    other = record("random", speed=0.9, checks=[Check(name="routed_as_named", ok=False, observed="LLL")])
    assert judge(claim(also_beats=("random",)), [stored(record()), stored(other)]).not_against == ("random",)


def test_an_alternative_with_failed_rounds_is_not_beaten() -> None:
    other = failed_round(record("random", speed=0.9))
    verdict = judge(claim(also_beats=("random",)), [stored(record()), stored(other, state="failed")])
    assert verdict.not_against == ("random",)
    assert "failures" in verdict.reason


def test_an_alternative_solves_the_same_tasks() -> None:
    row = claim(
        form="no_worse_than",
        metric="solved",
        over="tasks",
        quantity="difference",
        published=0.0,
        margin=0.05,
        also_beats=("all-small",),
    )
    fewer, equal = record("all-small", solved=0.3), record("all-small", solved=0.6)
    assert word(row, stored(record()), stored(fewer)) == "confirmed"
    assert word(row, stored(record()), stored(equal)) == "confirmed, but"


def test_a_refuted_claim_lists_no_alternatives_as_exceptions() -> None:
    verdict = judge(claim(published=0.5, also_beats=("all-small",)), [stored(record())])
    assert (verdict.word, verdict.not_against) == ("refuted", ())


# other quantities


def test_a_ratio_above_1_is_better_in_either_direction_of_the_metric() -> None:
    for metric in ("total_s", "goodput_per_s"):
        verdict = judge(claim(metric=metric, quantity="ratio", published=1.2), [stored(record())])
        assert verdict.verdict == "confirmed"
        assert verdict.estimate == pytest.approx(1 / 0.7, rel=0.02)


def test_a_cost_per_solved_task_weighs_the_tasks_that_are_lost() -> None:
    row = claim(metric="cost_usd", per="solved", published=0.0)
    assert judge(row, [stored(record())]).estimate == pytest.approx(0.3, abs=0.02)
    assert judge(row, [stored(record(solved=0.3))]).estimate == pytest.approx(1 - 0.7 * 2, abs=0.05)
    assert judge(row, [stored(record(solved=0.0))]).verdict == "inconclusive"


def test_a_cost_per_solved_task_over_tasks_takes_both_from_the_same_tasks() -> None:
    """The graded tasks cost half, and a quarter fewer are solved: 1 - 0.5 / 0.75."""
    row = claim(metric="cost_usd", per="solved", over="tasks", published=0.0, also_beats=("all-small",))
    mine, other = record(solved=0.45), record("all-small", solved=0.06)
    for rec in (mine, other):
        for i, task in enumerate(rec.tasks):
            assert task.control is not None
            task.control["cost_usd"] = 1.0 + i % 5
            task.treatment["cost_usd"] = 0.5 * (1.0 + (i + 1) % 5)
    verdict = judge(row, [stored(mine), stored(other)])
    assert verdict.estimate == pytest.approx(1 - 0.5 / 0.75, abs=0.01)
    assert (verdict.word, verdict.n) == ("confirmed", 300)
    mine.tasks[0].treatment["cost_usd"] = None
    assert judge(row, [stored(mine), stored(other)]).n == 299


def test_a_value_is_the_treatments_own_or_its_share_of_another() -> None:
    row = claim(
        metric="route_s", of="total_s", quantity="value", form="at_most", published=0.01, control=None
    )
    assert judge(row, [stored(record())]).estimate == pytest.approx(1e-4 / 0.7, rel=0.02)


def test_an_exact_count_holds_on_every_task_or_not_at_all() -> None:
    row = claim(metric="large_calls", over="tasks", quantity="value", form="exact", published=1.0)
    assert word(row, stored(record())) == "confirmed"
    assert word(replace(row, published=3.0), stored(record())) == "refuted"
    rec = record()
    rec.tasks[0].treatment["large_calls"] = 2.0
    assert word(row, stored(rec)) == "refuted"


def test_a_sum_of_metrics_is_measured_as_their_sum() -> None:
    assert judge(claim(metric="total_s+route_s"), [stored(record())]).estimate == pytest.approx(0.3, abs=0.02)


def test_metrics_of_opposite_directions_do_not_sum() -> None:
    verdict = judge(claim(metric="total_s+goodput_per_s"), [stored(record())])
    assert verdict.verdict == "missing"
    assert "opposite directions" in verdict.reason


@pytest.mark.parametrize("against", ["edge-cascade", "platform:q8_0", "backend:ollama"])
def test_two_gains_are_compared_each_over_its_own_control(against: str) -> None:
    row = claim(form="equivalent", published=0.0, margin=0.05, against=against, settings={"platform": "f16"})
    if against == "backend:ollama":
        row = replace(row, requires=("backend:llama.cpp", "backend:ollama"))
    name = against if against == "edge-cascade" else "cascade"

    def other(speed: float) -> Stored:
        settings = {"platform": "q8_0" if against.startswith("platform") else "f16"}
        backend = "ollama" if against.startswith("backend") else "llama.cpp"
        return stored(record(name, speed=speed, settings=settings, backend=backend))

    assert word(row, stored(record()), other(0.7)) == "confirmed"
    assert word(row, stored(record()), other(0.5)) == "refuted"
    assert judge(row, [stored(record()), other(0.5)]).estimate == pytest.approx(-0.2, abs=0.02)


def test_two_variants_are_compared_task_by_task() -> None:
    """The other's tasks under its own name count, and not the control beside it."""
    row = claim(metric="solved", over="tasks", quantity="difference", form="at_least", published=0.0)
    row = replace(row, against="edge-cascade")
    first = stored(record(solved=0.6))
    assert judge(row, [first, stored(record("edge-cascade", solved=0.4))]).estimate == pytest.approx(0.2)
    assert word(row, first, stored(record("edge-cascade", solved=0.4))) == "confirmed"
    assert word(row, first, stored(record("edge-cascade", solved=0.8))) == "refuted"


def test_a_ratio_of_two_variants_is_that_of_their_gains_over_one_control() -> None:
    """0.4 and 0.8 of the baseline's time: twice as fast, and decided like any number."""
    row = claim(quantity="ratio", form="at_least", published=1.8, against="edge-cascade")
    first, other = stored(record(speed=0.4)), stored(record("edge-cascade", speed=0.8))
    verdict = judge(row, [first, other])
    assert (verdict.verdict, verdict.against) == ("confirmed", "edge-cascade")
    assert verdict.estimate == pytest.approx(2.0, rel=0.02)
    assert verdict.p is not None
    assert word(replace(row, published=2.2), first, other) == "refuted"
    assert word(replace(row, form="at_most"), first, other) == "refuted"
    assert word(row, first) == "missing"


def test_a_ratio_over_tasks_takes_the_totals_of_the_same_tasks() -> None:
    """Calls of the large model, 1 and 4 a task; the control beside them does not enter."""
    row = claim(metric="large_calls", over="tasks", quantity="ratio", form="at_least", published=3.9)
    row = replace(row, against="edge-cascade")
    other = record("edge-cascade")
    other.tasks = [TaskPair(id=t.id, treatment={"large_calls": 4.0}, control=None) for t in other.tasks]
    verdict = judge(row, [stored(record()), stored(other)])
    assert verdict.verdict == "confirmed"
    assert verdict.estimate == pytest.approx(4.0)


def test_a_ratio_to_what_was_simulated_is_not_measured() -> None:
    """One side is not enough."""
    row = claim(quantity="ratio", published=1.0, against="edge-cascade")
    other = record("edge-cascade", speed=0.8, evidence="simulated")
    assert word(row, stored(record(speed=0.4)), stored(other)) == "out of scope"


def test_a_quantile_of_rounds_is_compared_once_there_are_enough() -> None:
    """72 rounds for a p95; below, the verdict says how many more."""
    row = claim(form="at_most", quantity="value", control=None, published=2.0, quantile=0.95)
    short = judge(row, [stored(record(n=10))])
    assert (short.verdict, short.more) == ("inconclusive", 62)
    verdict = judge(row, [stored(record(n=80))])
    assert (verdict.verdict, verdict.quantile) == ("confirmed", 0.95)
    assert verdict.method == "p95, order statistics"


def test_a_device_is_required_by_part_of_its_name() -> None:
    """As the driver spells it."""
    row = claim(requires=("device:a100", "device:80gb"))
    assert word(row, stored(record(settings={"device": "NVIDIA A100-SXM4-80GB"}))) == "confirmed"
    verdict = judge(row, [stored(record(settings={"device": "NVIDIA A100-SXM4-40GB"}))])
    assert (verdict.verdict, verdict.reason) == ("out of scope", "needs device:80gb")


def test_only_the_tasks_whose_ids_begin_as_named_count() -> None:
    """Of 300 tasks the first 180 are solved: 29 is, and 290 to 299 are not."""
    row = claim(metric="solved", over="tasks", quantity="value", form="at_most", published=0.5, control=None)
    verdict = judge(replace(row, only="29"), [stored(record(solved=0.6))])
    assert (verdict.n, verdict.only) == (11, "29")
    assert verdict.estimate == pytest.approx(1 / 11)
    assert word(replace(row, only="wb9"), stored(record())) == "inconclusive"


def test_a_required_setting_is_that_of_the_treatment_and_of_no_other_test() -> None:
    """Under another budget the claim is out of scope, although plans were made under the one it names."""
    row = claim(requires=("budget_gb:8.0",))
    plans = stored(record("plans", settings={"budget_gb": 8.0}))
    assert word(row, plans, stored(record(settings={"budget_gb": 8.0}))) == "confirmed"
    verdict = judge(row, [plans, stored(record(settings={"budget_gb": 18.0}))])
    assert (verdict.verdict, verdict.reason) == ("out of scope", "needs budget_gb:8.0")


def test_jobs_are_the_points_of_the_sweep_that_are_named_so() -> None:
    """Paired by job; what else the sweep or the tasks hold does not count."""
    points = [
        {"name": "job", "job": f"wb{i % 3 + 1}-{i}", "arm": arm, "shape": "wb", "solved": float(i < most)}
        for i in range(60)
        for arm, most in (("treatment", 40), ("control", 10))
    ]
    one = stored(record(solved=0.0, sweep=[*points, {"name": "point", "solved": 0.0}]))
    row = claim(metric="solved", over="jobs", quantity="difference", published=0.3)
    verdict = judge(row, [one])
    assert (verdict.verdict, verdict.n, verdict.over) == ("confirmed", 60, "jobs")
    assert verdict.estimate == pytest.approx(0.5)
    assert judge(replace(row, only="wb2"), [one]).n == 20
    assert word(row, stored(record())) == "inconclusive"


# orders


def order(**changes: Any) -> Claim:
    row = {"form": "order", "published": None, "among": ("cascade", "all-small", "baseline")}
    return claim(**{**row, "axes": ("rounds:total_s", "tasks:solved"), **changes})


def rivals(small_solved: float) -> list[Stored]:
    return [
        stored(record(v, speed=s, solved=q))
        for v, s, q in (("cascade", 0.7, 0.6), ("all-small", 0.4, small_solved), ("baseline", 1.0, 0.6))
    ]


def test_nothing_dominates_a_treatment_that_leads_each_rival_on_some_axis() -> None:
    verdict = judge(order(), rivals(0.3))
    assert (verdict.verdict, verdict.estimate, verdict.interval) == ("confirmed", 0.0, (0.0, 0.0))


def test_a_rival_that_is_better_on_every_axis_refutes_an_order() -> None:
    verdict = judge(order(), rivals(0.8))
    assert (verdict.verdict, verdict.reason) == ("refuted", "all-small: at least as good on every axis")


def test_a_rival_that_is_equal_on_an_axis_leaves_an_order_open() -> None:
    assert word(order(), *rivals(0.6)) == "inconclusive"


def test_a_margin_counts_a_near_equal_as_good() -> None:
    assert word(order(margin=0.05), *rivals(0.6)) == "refuted"


def test_an_order_needs_every_rival() -> None:
    assert word(order(), *rivals(0.3)[:2]) == "missing"


def curve(values: Callable[[int], float]) -> Record:
    return record(
        sweep=[{"rate": x, "goodput_per_s": values(x) + e} for x in (1, 2, 3) for e in (-0.01, 0.0, 0.01)]
    )


def test_a_monotone_claim_holds_when_the_whole_rises_and_no_step_falls() -> None:
    row = claim(
        form="monotone",
        published=None,
        metric="goodput_per_s",
        over="sweep",
        along="rate",
        direction="increasing",
    )
    assert word(row, stored(curve(lambda x: float(x)))) == "confirmed"
    assert word(row, stored(curve(lambda x: float(-x)))) == "refuted"
    assert word(row, stored(curve(lambda x: [0, 1.0, 3.0, 2.0][x]))) == "refuted"
    assert word(row, stored(curve(lambda _: 1.0))) == "inconclusive"
    assert word(replace(row, direction="decreasing"), stored(curve(lambda x: float(-x)))) == "confirmed"


def test_a_simulated_point_is_exact_and_a_measured_one_needs_another() -> None:
    """Of a curve of several policies, the points of one; nothing is said of the other."""
    row = claim(
        form="monotone", published=None, metric="goodput_per_s", over="sweep", along="rate",
        direction="increasing", only="policy=lru", requires=("evidence:simulated",),
    )  # fmt: skip

    def points(*values: float, evidence: str = "simulated") -> Record:
        own = [{"rate": x, "policy": "lru", "goodput_per_s": y} for x, y in enumerate(values)]
        others = [{"rate": x, "policy": "fifo", "goodput_per_s": -x} for x in range(3)]
        return record(sweep=[*own, *others], evidence=evidence)

    assert word(row, stored(points(1.0, 1.0, 3.0))) == "confirmed"
    assert word(row, stored(points(1.0, 3.0, 2.9))) == "refuted"
    assert word(replace(row, only="policy=fifo"), stored(points(1.0, 2.0, 3.0))) == "refuted"
    measured = stored(points(1.0, 2.0, 3.0, evidence="measured"))
    assert word(replace(row, requires=()), measured) == "inconclusive"


# the words


def test_a_verdict_is_plain_json_with_what_a_reader_needs() -> None:
    verdict = judge(claim(also_beats=("all-small",)), [stored(record())])
    data = json.loads(json.dumps(verdict.to_json()))
    assert {"id", "version", "verdict", "word", "estimate", "interval", "published", "reason"} <= data.keys()
    assert (data["verdict"], data["word"], data["n"]) == ("confirmed", "confirmed, but", 8)
    assert data["checks"] == [{"name": "routed_as_named", "ok": True, "observed": "SLS"}]


def test_a_verdict_tells_what_was_compared() -> None:
    """A cost per solved task is no cost, and a curve runs along something, one way."""
    row = claim(form="monotone", published=None, over="sweep", along="rate", direction="increasing")
    assert (judge(row, []).along, judge(row, []).direction) == ("rate", "increasing")
    assert judge(replace(row, per="solved", axes=("rounds:a",)), []).to_json()["per"] == "solved"


def test_a_p_value_is_below_5_percent_exactly_when_the_claim_is_decided() -> None:
    for published in (0.2, 0.28, 0.29, 0.295, 0.30, 0.305, 0.31, 0.4):
        verdict = judge(claim(published=published), [stored(record())])
        assert verdict.p is not None
        assert (verdict.p <= 0.05) == (verdict.verdict != "inconclusive")


def test_a_curve_and_an_order_have_a_p_value_of_what_was_decided() -> None:
    """A step that runs back by little may do so by chance, however surely the whole rises."""
    row = claim(
        form="monotone", published=None, metric="goodput_per_s", over="sweep", along="rate",
        direction="increasing",
    )  # fmt: skip
    little = judge(row, [stored(curve(lambda x: [0, 1.0, 3.0, 2.97][x]))])
    clear = judge(row, [stored(curve(lambda x: [0, 1.0, 3.0, 2.0][x]))])
    rises = judge(row, [stored(curve(lambda x: float(x)))])
    flat = judge(row, [stored(curve(lambda _: 1.0))])
    assert [v.verdict for v in (little, clear, rises, flat)] == [
        "refuted", "refuted", "confirmed", "inconclusive",
    ]  # fmt: skip
    p_values = [v.p if v.p is not None else -1.0 for v in (little, clear, rises, flat)]
    assert 0.001 < p_values[0] < 0.05 < p_values[3]
    assert 0 < p_values[1] < 1e-3 > p_values[2] > 0
    assert 0 < (judge(order(), rivals(0.8)).p or 0) < 0.05
    assert (judge(order(), rivals(0.6)).p or 0) > 0.05


def test_a_family_of_claims_raises_each_p_value() -> None:
    rows = [claim(id=str(i), published=p) for i, p in enumerate((0.2, 0.3, 0.5))]
    verdicts = [judge(row, [stored(record())]) for row in [*rows, order()]]
    adjusted = family_p(verdicts)
    assert adjusted.keys() == {"0", "1", "2"}
    assert all(adjusted[v.id] >= v.p for v in verdicts if v.p is not None)


def test_every_claim_gets_one_verdict_in_order() -> None:
    rows = [claim(id="x"), claim(id="y", published=0.5)]
    assert [(v.id, v.verdict) for v in (judge(row, [stored(record())]) for row in rows)] == [
        ("x", "confirmed"),
        ("y", "refuted"),
    ]


def test_words_have_a_letter_of_their_own_and_a_rank() -> None:
    assert len({letter for letter, _ in LETTERS.values()}) == len(WORDS)
    assert sorted(BADNESS.values()) == list(range(len(WORDS)))


@pytest.mark.parametrize(
    ("expected", "now", "outcome"),
    [
        ("confirmed", "confirmed", "ok"),
        ("confirmed", "confirmed, but", "fail"),
        ("confirmed", "refuted", "fail"),
        ("confirmed", "missing", "fail"),
        ("confirmed", "error", "fail"),
        ("confirmed", "invalid", "fail"),
        ("confirmed", "inconclusive", "rerun"),
        ("confirmed", "out of scope", "warn"),
        ("confirmed, but", "confirmed", "ok"),
        ("confirmed, but", "inconclusive", "rerun"),
        ("confirmed, but", "refuted", "fail"),
        ("refuted", "confirmed", "ok"),
        ("refuted", "inconclusive", "ok"),
        ("refuted", "invalid", "fail"),
        ("inconclusive", "refuted", "ok"),
        ("out of scope", "refuted", "ok"),
        ("missing", "missing", "ok"),
        ("missing", "error", "fail"),
        ("error", "missing", "ok"),
    ],
)
def test_the_gate_fails_when_a_claim_that_held_no_longer_does(expected: str, now: str, outcome: str) -> None:
    assert gate_outcome(expected, now) == outcome
