"""Run folders with invented but realistic numbers, for the tests of what reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.records import Check, Failure, Metric, Record, Round, TaskPair

METRICS = {
    "total_s": Metric(unit="s", better="lower", what="wall-clock time of the round"),
    "analysis_s": Metric(unit="s", better="lower", what="mean time of the analysis stage"),
    "code_s": Metric(unit="s", better="lower", what="mean time of the code stage"),
    "summary_s": Metric(unit="s", better="lower", what="mean time of the summary stage"),
    "cost_usd": Metric(unit="USD", better="lower", what="engine-seconds × price"),
    "solved": Metric(unit="share", better="higher", what="passes every hidden test"),
}
STAGES = ("analysis", "code", "summary")
SMALL_S = {"analysis": 0.011, "code": 0.019, "summary": 0.008}
LARGE_S = {"analysis": 0.052, "code": 0.094, "summary": 0.036}
SOLVES = {"small": 0.46, "large": 0.83}
VARIANTS = {
    "baseline": "LLL",
    "cascade": "SLS",
    "all-small": "SSS",
    "small-large-large": "SLL",
    "large-small-large": "LSL",
    "large-large-small": "LLS",
    "small-small-large": "SSL",
    "large-small-small": "LSS",
    "random": "RRR",
    "escalate": "SES",
    "hybrid": "SLS",
    "oracle": "OOO",
}


def arm(assignment: str, noise: random.Random, num_tasks: int) -> dict[str, float | None]:
    """One round of a variant, in the metrics of the cascade."""
    values: dict[str, float | None] = {}
    total = 0.0
    for stage, size in zip(STAGES, assignment, strict=True):
        small, large = SMALL_S[stage], LARGE_S[stage]
        mean = {
            "S": small,
            "L": large,
            "R": small / 3 + large * 2 / 3,
            "E": (small + large) * 0.7,
            "O": small,
        }[size]
        values[f"{stage}_s"] = mean * noise.lognormvariate(0, 0.03)
        total += mean
    total = sum(v for v in values.values() if v is not None)
    values["total_s"] = (total + 0.004 * noise.lognormvariate(0, 0.1)) * num_tasks
    values["cost_usd"] = total * num_tasks * 0.048 / 3600
    return values


def record(
    variant: str = "cascade",
    *,
    num_rounds: int = 10,
    num_graded: int = 250,
    seed: int = 7,
    backend: str = "llama.cpp",
    **changes: Any,
) -> Record:
    """The measurement of one variant beside the baseline."""
    noise = random.Random(f"{seed} {variant}")
    shape = VARIANTS.get(variant, "SLS")
    control = None if variant == "baseline" else "baseline"
    rounds = [
        Round(
            order="CT" if i % 2 == 0 else "TC",
            treatment=arm(shape, noise, 20),
            control=arm("LLL", noise, 20) if control else None,
        )
        for i in range(num_rounds)
    ]
    better = {"O": 0.88, "E": 0.8, "R": 0.7, "L": SOLVES["large"], "S": SOLVES["small"]}[shape[1]]

    def graded(share: float, cost: float) -> dict[str, float | None]:
        spread = noise.lognormvariate(0, 0.2)
        return {"solved": float(noise.random() < share), "cost_usd": cost * spread}

    per_task = (rounds[0].treatment or {}).get("cost_usd") if rounds else 0.1
    tasks = [
        TaskPair(
            id=f"task-{i}",
            treatment=graded(better, (per_task or 0.1) / 20),
            control=graded(SOLVES["large"], 0.00000243) if control else None,
        )
        for i in range(num_graded)
    ]
    fields: dict[str, Any] = {
        "experiment": "cascade",
        "variant": variant,
        "control": control,
        "backend": backend,
        "profile": "pocket",
        "settings": {
            "workload": "swe-mini",
            "tasks": 20,
            "rounds": num_rounds,
            "warmup_rounds": 1,
            "max_tokens": {"analysis": 50, "code": 150, "summary": 30},
            "platform": "llama.cpp",
        },
        "models": {"large": "pocket:large@f16", "small": "pocket:nano@f16"},
        "metrics": METRICS,
        "rounds": rounds,
        "tasks": tasks,
        "checks": [Check(name="tokens_equal", ok=True, observed="230 of 230")],
        "complete": True,
    }
    return Record(**{**fields, **changes})


def sweep(arm: str, variant: str, limit: float, rounds: int = 4) -> list[dict[str, Any]]:
    """The open-loop points of one arm that saturates at `limit` tasks/s."""
    noise = random.Random(variant)
    points = []
    for number in range(rounds):
        for rate in (1.5, 3.0, 6.0, 9.0):
            served = min(rate, limit) * noise.lognormvariate(0, 0.03)
            good = served if rate < limit else limit * max(0.05, 1 - (rate - limit) / limit)
            p50_s = (0.18 + 0.4 * max(0.0, rate / limit - 0.7)) * noise.lognormvariate(0, 0.05)
            points.append(
                {
                    "name": "open_loop",
                    "arm": arm,
                    "variant": variant,
                    "round": number,
                    "rate_per_s": rate,
                    "goodput_per_s": good * noise.lognormvariate(0, 0.04),
                    "throughput_per_s": served,
                    "p50_s": p50_s,
                    "p95_s": p50_s * 2.2,
                    "slo_s": 0.5,
                    "n": 12,
                }
            )
    return points


def load(variant: str = "load-cascade", limit: float = 7.0) -> Record:
    """A ladder of rates beside the baseline's."""
    unit = Metric(unit="tasks/s", better="higher", what="tasks finished within the SLO per second")
    points = sweep("treatment", variant, limit) + sweep("control", "load-baseline", 4.0)
    rounds = [Round(order="CT", treatment={"goodput_per_s": limit}, control={"goodput_per_s": 4.0})] * 4
    return record(
        variant,
        control="load-baseline",
        rounds=rounds,
        tasks=[],
        sweep=points,
        metrics={"goodput_per_s": unit},
    )


def failed(variant: str = "hybrid") -> Record:
    """A variant whose treatment failed in every round."""
    rounds = [Round(order="CT", treatment=None, control=None) for _ in range(3)]
    failures = [Failure(arm="treatment", round=i, where="code", error="connection refused") for i in range(3)]
    return record(variant, rounds=rounds, tasks=[], failures=failures, complete=False)


def verdict(id: str, word: str, **changes: Any) -> dict[str, Any]:
    """A row of claims.json."""
    fields: dict[str, Any] = {
        "id": id,
        "version": 1,
        "verdict": word,
        "estimate": None,
        "interval": None,
        "published": None,
        "reason": "",
        "metric": "total_s",
        "unit": "",
        "n": 0,
        "experiment": "cascade",
        "quantity": "",
        "over": "rounds",
        "form": "at_least",
        "margin": None,
        "source": "cascade.md, Expected Results, row 1",
        "says": "the cascade takes 33 % less time",
        "scope": None,
        "covers": [],
        "not_against": [],
    }
    return {**fields, **changes}


def entry(record: Record | None, nodeid: str = "", outcome: str = "passed", why: str = "") -> dict[str, Any]:
    """A line of the journal."""
    name = record.variant if record else "x"
    return {
        "nodeid": nodeid or f"bench/test_cascade.py::test_cascade[{name}]",
        "plan": "0123456789abcdef",
        "outcome": outcome,
        "why": why,
        "params": {"variant": name},
        "experiment": "cascade",
        "data": [0.1, 0.2],
        "benchmark": None,
        "extra_info": {"assay": record.to_json()} if record else {},
    }


def write_run(
    path: Path, records: Sequence[Record], verdicts: Sequence[dict[str, Any]] = (), tail: str = ""
) -> Path:
    """A run folder at `path`, with `tail` after the journal's last line."""
    path.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(entry(r, f"bench/test_cascade.py::test_cascade[{i}-{r.variant}]"))
        for i, r in enumerate(records)
    ]
    (path / "journal.jsonl").write_text("".join(line + "\n" for line in lines) + tail)
    if verdicts:
        (path / "claims.json").write_text(json.dumps({"claims": list(verdicts)}))
    (path / "run.json").write_text(json.dumps({"machine": "x86_64, 2 CPUs, a processor", "python": "3.11.8"}))
    return path


def verdicts() -> list[dict[str, Any]]:
    """One of each verdict, in the units that claims have."""
    c, v = "confirmed", verdict
    return [
        v(
            "cascade-total-sglang",
            "out of scope",
            published=0.33,
            quantity="reduction",
            reason="needs profile:node",
        ),
        v(
            "cascade-tokens-40k-25k",
            "impossible",
            published=0.37,
            quantity="reduction",
            reason="at most 20 × 230 = 4,600 output tokens",
        ),
        v(
            "pocket-total",
            c,
            estimate=0.36,
            interval=[0.345, 0.373],
            published=0.25,
            quantity="reduction",
            n=10,
            scope="pocket",
        ),
        v(
            "pocket-analysis",
            c,
            estimate=0.7891,
            interval=[0.781, 0.797],
            published=0.75,
            quantity="reduction",
            n=10,
        ),
        v(
            "pocket-summary",
            c,
            estimate=0.778,
            interval=[0.76, 0.79],
            published=0.75,
            quantity="reduction",
            n=10,
            not_against=["all-small"],
        ),
        v(
            "pocket-cost",
            "refuted",
            estimate=0.31,
            interval=[0.29, 0.33],
            published=[0.4, 0.6],
            quantity="reduction",
            n=250,
            reason="right direction, 31 % of 40 %",
        ),
        v(
            "pocket-throughput-2x-to-3x-at-the-declared-slo",
            "refuted",
            estimate=1.62,
            interval=[1.51, 1.74],
            published=[2.0, 3.0],
            quantity="ratio",
            n=9,
            reason="right direction, 1.62× of 2×",
        ),
        v(
            "pocket-token-ratio",
            c,
            estimate=4.42,
            interval=[4.31, 4.53],
            published=4.0,
            quantity="ratio",
            n=10,
        ),
        v(
            "pocket-code-similar",
            "inconclusive",
            estimate=0.99,
            interval=[0.86, 1.13],
            published=1.0,
            quantity="ratio",
            n=4,
            form="equivalent",
            margin=0.1,
            reason="needs ≈12 more rounds",
        ),
        v(
            "pocket-quality",
            c,
            estimate=-0.008,
            interval=[-0.041, 0.022],
            published=0.0,
            quantity="difference",
            n=250,
            metric="solved",
            over="tasks",
            form="no_worse_than",
            margin=0.05,
        ),
        v(
            "pocket-router",
            "invalid",
            published=0.01,
            unit="share",
            reason="provenance: the plan was not recorded",
        ),
        v("pocket-hybrid", "error", quantity="ratio", published=1.0, reason="connection refused"),
        v("pocket-pareto", "missing", reason="no test runs variant 'oracle'"),
    ]


def realistic(path: Path) -> Path:
    """A whole run: twelve variants, a sweep, a failed variant, and verdicts of every kind."""
    records = [record(name) for name in VARIANTS if name != "hybrid"]
    records.append(failed("hybrid"))
    records += [load("load-cascade", 7.0), load("load-all-small", 11.0), load("load-replicated", 7.5)]
    return write_run(path, records, verdicts())
