"""Routing's rows are whole, ask for what is recorded, and keep the published numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.routers.planning import LPPlanner, flat, fleet, jobs, memory_of, problem_of, roll
from reports.claims import Claim, load, needed_variants
from reports.physics import bound
from reports.records import Check, Metric, Record, Round, TaskPair
from reports.verdicts import Stored, judge

ROUTING = Path(__file__).parents[1] / "bench" / "claims" / "routing.toml"
CLAIMS = load(ROUTING)
BY_ID = {claim.id: claim for claim in CLAIMS}
CHECKS = {
    "counts_from_server",
    "edges_carry_data",
    "equal_tasks",
    "fits_budget",
    "greedy_deterministic",
    "planned_as_named",
    "same_information",
    "statuses_recorded",
}
PLANNER = "planner"
ROUTERS = {
    *("lp", "lp-3", "lp-flat", "exact", "exact-3", "sequential", "order-free"),
    *("greedy", "best-single", "smallest", "random"),
}
PLANS = {
    *("lp-plans", "lp-3-plans", "lp-full-plans", "exact-plans", "sequential-plans", "sequential-1-plans"),
    *("order-free-plans", "greedy-plans", "best-single-plans", "random-plans"),
}
PUBLISHED = {"published-lp-1", "published-lp-3", "published-lp-flat"}
SWEEPS = {"sweep-lambda_token", "sweep-lambda_switch", "sweep-budget", "sweep-prior_quality"}
COMPUTED_SWEEPS = {"sweep-window", "violations-by-size"}
WHERE_DIFFERS = {f"{how}_where_differs" for how in ("better", "worse", "tied")}
PEAKS = {"step_peak_gb", "sum_distinct_gb"}

METRICS: dict[tuple[str, str], set[str]] = {
    ("live", "rounds"): {"job_s", "plan_s", "inference_s", "plan_share", "inference_share", "answers_s"}
    | {f"wb{i}_answers_s" for i in (1, 2, 3)},
    ("live", "tasks"): {"score", "model_gb", "violates", "diverged", "math_score"} | WHERE_DIFFERS,
    ("live", "jobs"): {"score", "num_steps", "distinct_models", "answers_peak_gb", "won", "lost", "tied"}
    | {"layered", "horizon_as_window", "planned_itself", "answer_violates"}
    | {"score_per_answer_cost", "score_per_token_cost"}
    | PEAKS,
    ("live", "sweep"): {"lp_lead"},
    ("plans", "rounds"): {"route_s", "solver_s"},
    ("plans", "tasks"): {"violates", "violating_steps", "regret", "optimal", "same_again", "loads"}
    | {"distinct_models"},
    ("published", "rounds"): {f"wb1_step{i}_solver_s" for i in range(3)},
    ("published", "tasks"): {"as_published", "violates", "distinct_models", "loads"} | PEAKS,
    ("sweep", "sweep"): {"lp_lead", "lp_score", "lp_loads", "lp_token_cost", "lp_model_gb"},
    ("sweep", "jobs"): {"score"},
    ("computed", "sweep"): {"lp_violates"},
}
"""What is recorded, by kind of record and part of it."""


def kind_of(variant: str) -> str:
    kinds = {
        "live": ROUTERS | {PLANNER},
        "plans": PLANS,
        "published": PUBLISHED,
        "sweep": SWEEPS,
        "computed": COMPUTED_SWEEPS,
    }
    return next((kind for kind, names in kinds.items() if variant in names), f"no bench runs {variant!r}")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_names_variants_of_one_kind_and_a_control_that_they_have(claim: Claim) -> None:
    """What is compared was recorded in the same way, beside the same control."""
    kind = kind_of(claim.treatment)
    assert {kind_of(name) for name in needed_variants(claim)} == {kind}
    controls = {"live": {PLANNER}, "plans": {"exact-plans"}, "sweep": {PLANNER}}
    assert claim.control is None or claim.control in controls[kind]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_metrics_that_its_variant_records(claim: Claim) -> None:
    """By kind of record, and by the part of it that the row reads."""
    kind = kind_of(claim.treatment)
    if claim.form == "order":
        wanted = [tuple(axis.split(":")) for axis in claim.axes]
        wanted = [(claim.over if over == "tasks" else over, metric) for over, metric in wanted]
    else:
        wanted = [(claim.over, name) for name in (*claim.metrics, *((claim.of,) if claim.of else ()))]
    assert wanted
    for over, metric in wanted:
        assert metric in METRICS[kind, over], (over, metric)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_asks_for_provenance_that_its_record_can_have(claim: Claim) -> None:
    """By known names; what is said of two arms is not asked of the planner alone."""
    assert claim.provenance
    assert set(claim.provenance) <= CHECKS
    if claim.treatment == PLANNER:
        assert not {"equal_tasks", "same_information"} & set(claim.provenance)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_bound_can_be_computed_from_its_row(claim: Claim) -> None:
    """Where a row has one."""
    if claim.floor is not None:
        assert bound(claim.floor, claim.floor_inputs).arithmetic


def test_three_statements_are_impossible_by_counting() -> None:
    """Whatever runs: each shows its sum."""
    impossible = {v.id: v.reason for c in CLAIMS if (v := judge(c, [])).verdict == "impossible"}
    assert impossible.keys() == {"phi4-within-budget", "run-141650-gap", "run-232915-sum"}
    assert "12.5 GB (phi4:14b), and the budget is 8 GB" in impossible["phi4-within-budget"]
    assert "2 × 1 ÷ 9 = 0.222" in impossible["run-141650-gap"]
    assert "2 + 6.5 + 8 = 16.5 GB" in impossible["run-232915-sum"]


def test_a_published_row_has_no_scope_and_covers_a_statement() -> None:
    """And our own rows cover none."""
    for claim in CLAIMS:
        assert bool(claim.covers) == (claim.scope is None), claim.id


def test_the_showcase_run_keeps_its_published_numbers() -> None:
    """Run 234936, aggregate and per job."""
    published = {
        "lp-score": 0.741,
        "gain": 1.176,
        "points": 0.111,
        "lp-latency": 16.8,
        "planner-latency": 9.9,
        "lp-vram": 6.5,
        "planner-vram": 2.0,
        "lp-efficiency": 0.0012,
        "planner-efficiency": 0.0031,
        "solver-mean": 0.00285,
        "wb1-lp-latency": 37.5,
        "wb2-planner-score": 0.56,
        "wb3-lp-score": 0.33,
        "divergence": 1.0,
    }
    assert {name: BY_ID[f"run-234936-{name}"].published for name in published} == published


def test_what_ollama_measured_is_out_of_scope_elsewhere_and_says_what_it_needs() -> None:
    """The four models by their roles, the engine, the jobs and the budget."""
    verdict = judge(BY_ID["run-234936-gain"], [], ["profile:pocket"])
    assert verdict.verdict == "out of scope"
    for need in ("profile:node", "backend:ollama", "budget_gb:8.0", "qwen:qwen2.5-coder-7b", "phi:phi4-14b"):
        assert need in verdict.reason


def published_record(window: int | None, fleet_name: str, routing: dict[str, str]) -> Stored:
    """The three jobs under the origin's LP, as the bench of plans records them."""
    name = "flat" if window is None else str(window)
    return Stored("n", "passed", "", {}, Record(
        experiment="routing", variant=f"published-lp-{name}", control=None, backend="cvxpy",
        profile="pocket", settings={"fleet": fleet_name}, complete=True,
        metrics={m: Metric(unit="", better="lower", what=m) for m in METRICS["published", "tasks"]},
        tasks=list(_rows(window, fleet_name, routing)),
        checks=[Check(name="planned_as_named", ok=True, observed="HiGHS")],
    ))  # fmt: skip


def _rows(window: int | None, fleet_name: str, routing: dict[str, str]) -> Iterator[TaskPair]:
    for job in jobs():
        problem = problem_of(job, *fleet(fleet_name))
        done = roll(LPPlanner(window=window), flat(problem) if window is None else problem)
        memory = memory_of(problem.fleet, done.executed, done.residents)
        models = [problem.fleet.models[m] for m in done.assignment]
        as_published = all(m.startswith(p) for m, p in zip(models, routing[job.id].split(), strict=True))
        values: dict[str, float | None] = {
            "as_published": float(as_published),
            "step_peak_gb": memory.step_peak_bytes / 1e9,
            "sum_distinct_gb": memory.sum_distinct_bytes / 1e9,
            "violates": float(memory.is_violated),
            "distinct_models": float(len(set(models))),
            "loads": float(len(set(models))),
        }
        yield TaskPair(id=job.id, treatment=values)


DEPTH_1 = {"wb1": "gemma phi4 qwen", "wb2": "qwen qwen qwen", "wb3": "gemma llama llama"}
ALL_QWEN = dict.fromkeys(DEPTH_1, "qwen qwen qwen")


@pytest.fixture(scope="module")
def published_runs() -> list[Stored]:
    return [
        published_record(window, name, routing)
        for window, routing in ((1, DEPTH_1), (3, ALL_QWEN), (None, ALL_QWEN))
        for name in ("agents_heavy", "fitted")
    ]


def test_the_origins_constants_confirm_depth_1_and_refute_that_wb3_violates(
    published_runs: list[Stored],
) -> None:
    """Its whole table holds but for the violation that only the older metric sees."""
    rows = [c for c in CLAIMS if c.treatment == "published-lp-1" and c.floor is None]
    words = {claim.id: judge(claim, published_runs).verdict for claim in rows}
    refuted = {name for name, word in words.items() if word == "refuted"}
    assert refuted == {"wb3-depth-1-violates"}
    assert set(words.values()) == {"confirmed", "refuted"}


def test_the_origins_constants_refute_that_depth_3_is_qwen_throughout(published_runs: list[Stored]) -> None:
    """wb3 goes to llama at 8 GB. A fitted table gives the published row; by both, the three jobs comply."""
    rows = [c for c in CLAIMS if c.treatment in ("published-lp-3", "published-lp-flat") and c.over == "tasks"]
    words = {claim.id: judge(claim, published_runs).verdict for claim in rows}
    assert {name for name, word in words.items() if word == "refuted"} == {
        "depth-3-all-qwen",
        "depth-3-vram",
        "flat-vram",
    }
    assert set(words.values()) == {"confirmed", "refuted"}


def invented(variant: str) -> Stored:
    """A whole record with every metric that is declared for its kind, and numbers that mean nothing."""
    kind, rng = kind_of(variant), random.Random(variant)
    parts = {over: names for (of, over), names in METRICS.items() if of == kind}
    names = {name for part in parts.values() for name in part}
    control = {"live": PLANNER, "plans": "exact-plans"}.get(kind) if variant != PLANNER else None

    def values(over: str) -> dict[str, float | None]:
        return {name: rng.uniform(0.4, 0.6) for name in sorted(parts.get(over, ()))}

    ids = [f"wb{i % 3 + 1}-{i:03}" for i in range(30)]
    arms = ("treatment", "control") if control or kind == "sweep" else ("treatment",)
    settings = {"fleet": "agents_heavy", "workload": "workflowbench", "budget_gb": 8.0}
    return Stored(variant, "passed", "", {}, Record(
        experiment="routing", variant=variant, control=control, backend="ollama", profile="node",
        settings=settings, models=FOUR, complete=True,
        metrics={name: Metric(unit="", better="lower", what=name) for name in names},
        rounds=[
            Round(order="TC" if i % 2 else "CT", treatment=values("rounds"),
                  control=values("rounds") if control else None)
            for i in range(8)
        ],
        tasks=[
            TaskPair(id=f"{job}.s0" if kind == "live" else job, treatment=values("tasks"),
                     control=values("tasks") if control else None)
            for job in ids
        ],
        sweep=[
            *({"name": "job", "job": job, "arm": arm, **values("jobs")} for job in ids for arm in arms),
            *(
                {"name": "lead", "along": at, "num_tasks": at, "planner_agreement": at, **values("sweep")}
                for at in range(3)
                for _ in ids
            ),
        ],
        checks=[Check(name=name, ok=True, observed="") for name in CHECKS],
    ))  # fmt: skip


FOUR = {"gemma": "gemma2:2b", "qwen": "qwen2.5-coder:7b", "llama": "llama3.1:8b", "phi": "phi4:14b"}


@pytest.fixture(scope="module")
def invented_run() -> list[Stored]:
    return [
        invented(name) for name in sorted({PLANNER} | ROUTERS | PLANS | PUBLISHED | SWEEPS | COMPUTED_SWEEPS)
    ]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_every_row_is_decided_once_what_it_asks_for_is_there(
    claim: Claim, invented_run: list[Stored]
) -> None:
    """On the models and under the fleet that it names, no row comes out as missing or out of scope."""
    offers = [need for need in claim.requires if need.startswith(("profile:", "workload:"))]
    fleets = [s._replace(record=replace(s.record, settings={**s.record.settings, **claim.settings}))
              for s in invented_run if s.record is not None]  # fmt: skip
    verdict = judge(claim, fleets, offers)
    assert verdict.verdict in ("confirmed", "refuted", "inconclusive", "impossible"), verdict.reason
    assert "log ratio" not in verdict.reason
