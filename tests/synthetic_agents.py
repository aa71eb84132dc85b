"""What a run of bench/test_agents.py leaves behind, with numbers from arithmetic alone.

A token of prompt takes 0.3 ms, a new one 5 ms, a fresh process 5 s and more; agents that run at once wait for
each other's prompts. 455 MiB hold three models of 134.8 MB with 256 tokens each, or one and 40 sessions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from reports.records import Check, Floor, Metric, Record, Round, Values
from reports.verdicts import Stored

__all__ = ["CHECKS", "REQUESTS", "ROUNDS", "control_of", "ran", "record_of", "records", "shape_of"]

CONTROL = "shared-recompute"
RAY = ("ray-keepalive", "ray-serverless")
ARMS = ("shared", CONTROL, "engine-prefix-cache", *RAY)
COUNTED = re.compile(rf"({'|'.join(ARMS)})-(\d+)")
BUDGET_BYTES = 455 * 2**20
NEEDS: dict[str, float | str] = {"weight_bytes": 134_793_216, "kv_bytes": 256 * 32_768}
PREFILL_S, TOKEN_S, NEW, OBSERVED = 3e-4, 5e-3, 16, 32
PARTS = {"queue_s", "import_s", "load_s", "prefill_s", "compute_s", "transfer_s"}
ROUNDS = PARTS | {
    *("reason_ttft_s", "reflect_ttft_s", "reason_total_s", "reflect_total_s", "reflect_ttft_p50_s"),
    *("step_s", "other_s", "reused_tokens", "prefilled_tokens", "recomputed_tokens", "peak_bytes"),
    *("finished_agents", "oom", "oom_at", "refused_bytes", "free_bytes", "capacity_bytes"),
    *("arithmetic_agents", "oom_as_arithmetic"),
    *("reason_over_reflect_ttft", "reason_over_reflect_total"),
}
REQUESTS = PARTS | {"total_s", "ttft_s", "reused_tokens", "prefilled_tokens"}
HIGHER = {"reused_tokens", "finished_agents", "oom_at", "density_ratio", "oom_as_arithmetic"} | {
    *("reason_over_reflect_ttft", "reason_over_reflect_total"),
}
CHECKS = {"equal_tokens", "reuse_counted", "own_process", "fresh_process", "oom_is_physical"} | {
    *("fits_budget", "rate_below_saturation", "predicted_as_refused", "nothing_left", "residents"),
}


def control_of(variant: str) -> str | None:
    """What is measured beside a variant."""
    if variant == "shared-32-rate":
        return "shared-1"
    if variant.startswith((*RAY, CONTROL, "curve", "retention", "replay")):
        return None
    return CONTROL + variant.removeprefix("engine-prefix-cache").removeprefix("shared")


def shape_of(variant: str) -> tuple[str, int, int]:
    """(arm, agents, tokens of prompt) of a variant in the pocket."""
    if variant.startswith("retention-"):
        return ("shared", 8 if variant == "retention-keep" else 16, 192)
    if variant.endswith("-prompt-512"):
        return variant.removesuffix("-prompt-512"), 1, 512
    found = COUNTED.fullmatch(variant)
    assert found, variant
    return found[1], int(found[2]), 192


def ran(variant: str, evidence: str = "measured") -> Stored:
    """A record as its test leaves it, and the test."""
    return Stored(variant, "passed", "", {"variant": variant}, record_of(variant, evidence))


def record_of(variant: str, evidence: str = "measured") -> Record:
    """A record of a variant."""
    rng = random.Random(variant)
    num = 1 if variant.startswith(RAY) else 4
    if variant == "replay":
        evidence = "simulated"
    if variant.startswith(("curve", "replay")):
        return _record(variant, evidence, [{"density_ratio": 40 / 3}] * num, [None] * num, _curve(variant))
    if variant == "shared-32-rate":
        times: list[Values] = [{"reflect_ttft_p50_s": 0.0105}, {"reflect_ttft_p50_s": 0.01}]
        return _record(variant, evidence, [times[0]] * num, [times[1]] * num, [])
    control = control_of(variant)
    points = _requests(variant, "treatment", num, rng)
    beside = _requests(control, "control", num, rng) if control else []
    rounds = [_round(points, variant, index) for index in range(num)]
    others = [_round(beside, control, index) if control else None for index in range(num)]
    arm, count, _ = shape_of(variant)
    for smaller in [n for n in (1, 2, 4, 8, 16, 32) if n <= count and not variant.endswith("-512")]:
        points += _along(f"{arm}-{smaller}", rng)
    return _record(variant, evidence, rounds, others, points + beside)


def records(nightly: bool = False) -> list[Record]:
    """A whole run: every arm and count, the long prompts, and the curves."""
    most = 32 if nightly else 4
    counts = (1, 2, 4, 8, 16, 32)
    names = [f"{arm}-{n}" for arm in ARMS for n in counts if n <= most or not arm.startswith("ray")]
    names += ["shared-prompt-512", "engine-prefix-cache-prompt-512", "shared-32-rate"]
    return [record_of(name) for name in (*names, "curve-prompt", "curve-rate", "curve-density", "replay")]


def _record(
    variant: str,
    evidence: str,
    rounds: Sequence[Values],
    others: Sequence[Values | None],
    sweep: list[dict[str, Any]],
) -> Record:
    names = ROUNDS | REQUESTS | {"density_ratio"}
    return Record(
        experiment="agents",
        variant=variant,
        control=control_of(variant),
        backend="sessions",
        profile="pocket",
        evidence=evidence,
        complete=True,
        models={"model": "llama-34m@float32 (random weights)"},
        settings={
            "workload": "prompt192-new16", "device": "two cores", "dtype": "float32", "new_tokens": NEW,
            "prompt_tokens": 192, "observation_tokens": OBSERVED, "sleep_s": 0.5,
            "budget_bytes": BUDGET_BYTES,
            "agents": shape_of(variant)[1] if COUNTED.fullmatch(variant) else 1, "arrival_rate_per_s": None,
        },
        metrics={n: Metric(unit="", better="higher" if n in HIGHER else "lower", what=n) for n in names},
        rounds=[
            Round(order="TC" if at % 2 else "CT", treatment=one, control=other)
            for at, (one, other) in enumerate(zip(rounds, others, strict=True))
        ],
        sweep=sweep,
        floors=[Floor(name="density_ratio", inputs=NEEDS, value=40 / 3, unit="times")]
        if variant == "curve-density"
        else [],
        checks=[Check(name=name, ok=True, observed="") for name in sorted(CHECKS)],
    )  # fmt: skip


def _step(arm: str, phase: str, place: int, prompt: int, count: int) -> dict[str, float]:
    """One step of the agent that is served as number `place`."""
    keeps = arm in ("shared", "engine-prefix-cache", "ray-keepalive")
    new = {"reason": prompt, "reflect": OBSERVED + 1 if keeps else prompt + NEW + OBSERVED}[phase]
    import_s, load_s = (5.0 + 0.3 * count, 0.2) if arm == "ray-serverless" else (0.0, 0.0)
    queue_s = 0.0 if arm.startswith("ray") else place * new * PREFILL_S
    decode_s = (NEW - 1) * TOKEN_S * (1 + 0.02 * count)
    ttft_s = queue_s + import_s + load_s + new * PREFILL_S
    return {
        "ttft_s": ttft_s, "total_s": ttft_s + decode_s, "import_s": import_s, "load_s": load_s,
        "prefill_s": new * PREFILL_S, "compute_s": new * PREFILL_S + decode_s, "queue_s": queue_s,
        "transfer_s": 0.0, "reused_tokens": prompt + NEW - 1 if keeps and phase == "reflect" else 0,
        "prefilled_tokens": new,
    }  # fmt: skip


def _requests(variant: str, side: str, rounds: int, rng: random.Random) -> list[dict[str, Any]]:
    """A point for each step of an arm."""
    arm, count, prompt = shape_of(variant)
    out = []
    for index in range(rounds):
        for agent in range(min(count, 3) if arm == "ray-keepalive" else count):
            for phase in ("reason", "reflect"):
                noise = rng.uniform(0.99, 1.01)
                step = _step(arm, phase, agent, prompt, count)
                point = {
                    name: value * noise if name.endswith("_s") else value for name, value in step.items()
                }
                head = {"name": "request", "arm": side, "round": index, "agent": agent, "phase": phase}
                out.append(head | point)
    return out


def _along(variant: str, rng: random.Random) -> list[dict[str, Any]]:
    """The points of a smaller count, as a larger one's record holds them too."""
    count = shape_of(variant)[1]
    return [
        {"name": "point", "agents": count, "round": 0, "phase": p["phase"], "step_total_s": p["total_s"]}
        | {f"{p['phase']}_{kind}_s": p[f"{kind}_s"] for kind in ("ttft", "total")}
        for p in _requests(variant, "treatment", 1, rng)
    ]


def _round(points: Sequence[dict[str, Any]], variant: str, index: int) -> Values:
    """A round's metrics, from its requests."""
    arm, count, prompt = shape_of(variant)
    mine = [p for p in points if p["round"] == index]

    def mean(phase: str, key: str) -> float:
        found = [float(p[key]) for p in mine if p["phase"] == phase]
        return sum(found) / len(found)

    refused = arm == "ray-keepalive" and count > 3
    values: Values = dict.fromkeys(ROUNDS)
    for phase in ("reason", "reflect"):
        values |= {f"{phase}_{kind}_s": mean(phase, f"{kind}_s") for kind in ("ttft", "total")}
    for part in PARTS:
        values[part] = sum(float(p[part]) for p in mine) / len(mine)
    return values | {
        "step_s": sum(float(p["total_s"]) for p in mine) / len(mine),
        "reason_over_reflect_ttft": mean("reason", "ttft_s") / mean("reflect", "ttft_s"),
        "reason_over_reflect_total": mean("reason", "total_s") / mean("reflect", "total_s"),
        "reused_tokens": mean("reflect", "reused_tokens"),
        "prefilled_tokens": mean("reflect", "prefilled_tokens"),
        "recomputed_tokens": max(0.0, mean("reflect", "prefilled_tokens") - OBSERVED - 1),
        "peak_bytes": 134.8e6 + count * 32_768 * (prompt + 64),
        "finished_agents": float(min(count, 3) if refused else count),
        "oom": float(refused), "oom_at": 4.0 if refused else None,
        "refused_bytes": 143.2e6 if refused else None, "free_bytes": 47.5e6 if refused else None,
        "capacity_bytes": float(BUDGET_BYTES),
    }  # fmt: skip


def _curve(variant: str) -> list[dict[str, Any]]:
    """Points along a prompt, a rate, a budget or a number of replayed agents."""
    rng = random.Random(variant)
    if variant == "curve-prompt":
        out = [
            {
                "name": "point", "arm": arm, "prompt_tokens": prompt, "round": at,
                "reason_ttft_s": (0.004 + prompt * PREFILL_S) * rng.uniform(0.95, 1.05),
                "reflect_ttft_s": slower * (0.004 + 33 * PREFILL_S) * rng.uniform(0.95, 1.05),
                "predicted_reason_ttft_s": max(0.003, prompt * 2.5e-4),
                "predicted_reflect_ttft_s": 33 * 2.5e-4,
            }
            for arm, slower in (("shared", 1.0), ("engine-prefix-cache", 0.85))
            for prompt in (64, 128, 256, 512, 1024) for at in range(3)
        ]  # fmt: skip
    elif variant == "curve-rate":
        out = [
            {
                "name": "point", "arm": "shared", "arrival_rate_per_s": 6.0 * share, "saturation_per_s": 6.0,
                "reason_ttft_p50_s": 0.06 * (1 + share / (2 - 1.8 * share)) * rng.uniform(0.95, 1.05),
                "reflect_ttft_p50_s": 0.012 * (1 + share / (2 - 1.8 * share)) * rng.uniform(0.95, 1.05),
                "alone_ttft_p50_s": 0.012, "round": at,
            }
            for share in (0.1, 0.25, 0.5, 0.75, 0.9, 1.05) for at in range(2)
        ]  # fmt: skip
    elif variant == "curve-density":
        kv, weights = 256 * 32_768, 134_793_216
        out = []
        for budget in range(200, 801, 50):
            own, shared = budget * 10**6 // (weights + kv), (budget * 10**6 - weights) // kv
            fits = {"own_models": own, "sessions": shared}
            predicted = {f"predicted_{name}": number for name, number in fits.items()}
            out.append({"name": "point", "budget_bytes": budget * 10**6} | fits | predicted)
    else:
        out = [
            {
                "name": "point", "arm": arm, "agents": count, "arrival_rate_per_s": 3.0,
                "reason_ttft_p50_s": 0.06 * slower, "reflect_ttft_p50_s": 0.015 * slower**3.4,
                "reflect_ttft_p99_s": 0.08 * slower**3 if count >= 1000 else None,
            }
            for arm, slower in (("shared", 1.0), ("shared-recompute", 2.0))
            for count in (10, 100, 1000, 10_000)
        ]  # fmt: skip
    return out
