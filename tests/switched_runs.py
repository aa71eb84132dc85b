"""What a run of bench/test_switching.py leaves behind, as the simulator answers it.

Live records are replayed by the arms' own policies, at the published sizes over 25 GB/s: the pocket's sizes
are a thousandth, and its link is slower by a twentieth of that, which no ratio shows. Answers are made of
what was simulated, and metrics of the answers by the fixtures' own code, so that rows and records speak of
the same names. Arms that have no policy are a reload that takes longer. Nothing was measured for this.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from fixtures.switching_belady import CASES, tasks_of
from fixtures.switching_concurrent import METRICS as OF_CLIENTS
from fixtures.switching_memcpy import METRICS as OF_MEMCPY
from fixtures.switching_simulated import Case, points_of
from fixtures.switching_values import METRICS, POINT_METRICS, Played, Resting, request_of, values_of
from harness.residency.arms import ARMS, Setting
from harness.residency.catalogue import published
from harness.residency.served import Link, Served
from harness.residency.simulator import Simulator
from harness.residency.traces import PUBLISHED_MIX, Trace, categorical
from harness.switching.base import Answer, Ask
from reports.records import Check, Metric, Record, Round, TaskPair, Values
from reports.verdicts import Stored

__all__ = ["ALIKE", "LIVE", "NODE", "SIMULATED", "checks_of", "metrics_of", "ran", "record_of"]

CONTROL = "reload-every"
ALIKE = {
    "fresh": 1.3, "serverless-warm": 1.0, "serverless-cold": 1.2, "vllm-recreate": 8.0, "vllm-sleep": 0.6,
    "process-per-model": 0.05,
}  # fmt: skip
"""Arms without a policy, and how much longer than a reload they switch here."""
LIVE = (
    *("home-slot", "keep-last", "home-slot-sync", "home-slot-lookahead", "chunk-slots"),
    *("chunk-slots-lookahead", "fifo-ring", "fifo-ring-copy-out", "lru", "gdsf", "resident", CONTROL),
    *("fresh", "serverless-warm", "serverless-cold"),
)
NODE = ("vllm-sleep", "vllm-recreate", "process-per-model")
SIMULATED = ("sim-buffers", "sim-links", "sim-models", "sim-policies", "sim-trace", "sim-belady")
LINK = Link(bytes_per_s=25e9)
NAMES, SHARES = list(PUBLISHED_MIX), list(PUBLISHED_MIX.values())
CHECKS = {"equal_tokens", "greedy_deterministic", "own_process", "all_completed"}
OF_ARENA = {"blobs_unchanged", "nothing_copied_out", "bytes_landed_in_arena"}
SIMULATED_TOO = {"hits_as_simulated", "bytes_as_simulated"}
H100 = {"profile": "node", "device": "NVIDIA H100 80GB HBM3", "link_gb_s": None, "scale": 1.0}
POCKET = {"profile": "pocket", "device": "two cores", "link_gb_s": 0.5, "scale": 0.001}


def checks_of(variant: str) -> set[str]:
    """The checks that are made of a variant."""
    if variant in SIMULATED:
        return set()
    if variant == "miss-memcpy":
        return {"equal_tokens", "blobs_unchanged", "bytes_landed_in_arena"}
    if variant == "concurrent-8":
        return CHECKS - {"greedy_deterministic"} | {"same_trace", "nothing_copied_out", "fits_budget"}
    beside = set() if variant == CONTROL else {"same_trace"}
    if variant in NODE:
        return CHECKS | beside
    told = set() if variant.endswith("lookahead") else SIMULATED_TOO
    return CHECKS | OF_ARENA | beside | told | {"link_as_declared"}


def metrics_of(variant: str) -> dict[str, Metric]:
    """The metrics that a variant's record defines."""
    of = {"miss-memcpy": OF_MEMCPY, "concurrent-8": OF_CLIENTS}
    return dict(POINT_METRICS if variant in SIMULATED else of.get(variant, METRICS))


def ran(variant: str, seeds: int = 30, *, on: str = "pocket", buffer_gb: float = 25.0) -> Stored:
    """A record as its test leaves it, and the test."""
    return Stored(variant, "passed", "", {"variant": variant}, record_of(variant, seeds, on, buffer_gb))


def record_of(variant: str, seeds: int = 30, on: str = "pocket", buffer_gb: float = 25.0) -> Record:
    """A record of a variant, which its caller may change."""
    if variant in SIMULATED:
        return _simulated(variant)
    control = {"miss-memcpy": "memcpy", "concurrent-8": "sequential", CONTROL: None}.get(variant, CONTROL)
    at = H100 if on == "node" else POCKET
    labels = "meta-llama/Llama-2-7b-hf, mistralai/Mistral-7B-v0.1, Qwen/Qwen2.5-3B @float16"
    record = Record(
        experiment="switching", variant=variant, control=control, backend="arena", profile=on, complete=True,
        settings={"workload": "published-mix", "buffer_gb": buffer_gb, "requests": 30, "warm": "fill"} | at,
        models={"model": labels if on == "node" else "llama-mini, mistral-mini, phi-mini @float32"},
        metrics=metrics_of(variant),
        checks=[Check(name=name, ok=True, observed="") for name in sorted(checks_of(variant))],
    )  # fmt: skip
    if variant in ("miss-memcpy", "concurrent-8"):
        record.rounds = [_beside(variant, at) for at in range(12)]
        return record
    for seed in range(seeds):
        values, points = _round(variant, seed, buffer_gb)
        others, beside = _round(control, seed, buffer_gb) if control else (None, ())
        order = "TC" if seed % 2 else "CT"
        record.rounds.append(Round(order=order, treatment=dict(values), control=others and dict(others)))
        record.sweep += [{**point, "arm": "treatment"} for point in points]
        record.sweep += [{**point, "arm": "control"} for point in beside]
    return record


@cache
def _round(arm: str, seed: int, buffer_gb: float) -> tuple[Values, tuple[dict[str, Any], ...]]:
    """One seed's metrics and requests."""
    trace, sizes = _trace(seed), {name: model.layout.num_bytes for name, model in published().items()}
    served = _served(CONTROL if arm in ALIKE else arm, seed, buffer_gb)
    answers = [
        _answer(one, ALIKE.get(arm, 1.0), 1 + 0.002 * ((seed + at) % 7)) for at, one in enumerate(served)
    ]
    asks = [Ask(model=one.model, prompt_ids=(1,), new_tokens=2) for one in served]
    played = Played(seed=seed, trace=trace, asks=asks, answers=answers, pid=1, simulated=served)
    capacity = sum(sizes.values()) if arm == "resident" else round(buffer_gb * 1e9)
    values = values_of(played, Resting(sizes, capacity, is_warm=True))
    points = (request_of(one, "", seed, at, played) for at, one in enumerate(answers))
    return values, tuple({**point, "same_tokens": 1.0} for point in points)


@cache
def _trace(seed: int) -> Trace:
    return categorical(NAMES, SHARES, 30, seed=seed)


@cache
def _served(arm: str, seed: int, buffer_gb: float) -> tuple[Served, ...]:
    models, trace, found = published(), _trace(seed), ARMS[arm]
    setting = Setting(
        layouts={name: model.layout for name, model in models.items()},
        capacity_bytes=round(buffer_gb * 1e9), popularity=PUBLISHED_MIX, future=trace.models,
    )  # fmt: skip
    policy = found.build(setting, warm="fill")
    run = Simulator(models, LINK).run
    return tuple(run(policy, trace.requests, streaming=found.streaming, lookahead=found.lookahead))


def _answer(one: Served, slower: float, noise: float) -> Answer:
    """What was simulated as an answer; a hit takes a moment to choose."""
    switch_s = max(3e-5, one.switch_s * slower) * noise
    late_s = switch_s - one.switch_s
    return Answer(
        model=one.model, token_ids=(1, 2), began_s=one.began_s, first_token_s=one.first_token_s + late_s,
        done_s=one.done_s + late_s, switch_s=switch_s, plan_s=1e-5, bind_s=0.0, wait_s=switch_s - 1e-5,
        is_hit=one.is_hit, bytes_in=one.bytes_in, ahead_bytes=one.ahead_bytes, bytes_out=one.bytes_out,
        evicted_bytes=one.evicted_bytes, needed_bytes=one.needed_bytes, copied_s=one.copied_s,
        ahead_s=one.ahead_s,
    )  # fmt: skip


def _beside(variant: str, at: int) -> Round:
    """A round of what is not a trace: by arithmetic."""
    noise = 1 + 0.004 * (at % 3)
    if variant == "miss-memcpy":
        one: Values = {"copy_s": 0.0275 * noise, "bytes_in": 134.8e6, "hit_switch_s": 3e-5 * noise}
        other: Values = {"copy_s": 0.027, "bytes_in": 134.8e6, "hit_switch_s": None}
        one["pinned_link_share"], other["pinned_link_share"] = 0.96 / noise, 0.98
    else:
        one = {"completed_share": 1.0, "num_switches": 16.0 + at % 2, "ttft_p50_s": 0.08, "wall_s": 0.7}
        other = {"completed_share": 1.0, "num_switches": 31.0, "ttft_p50_s": 0.02 * noise, "wall_s": 1.1}
    return Round(order="TC" if at % 2 else "CT", treatment=one, control=other)


@cache
def _simulated(variant: str) -> Record:
    """Points of a few seeds, as the fixture makes them, and a task per seed."""
    if variant == "sim-belady":
        return Record(
            experiment="switching", variant=variant, control="belady", backend="simulator", profile="pocket",
            evidence="simulated", metrics=metrics_of(variant), complete=True,
            tasks=[task for case in CASES for task in tasks_of(case)],
        )  # fmt: skip
    base = Case(warm="cold", seeds=10)
    cases = {
        "sim-buffers": [base._replace(warm="fill", buffer_gb=gb) for gb in (20.0, 25.0, 32.0, 40.0)],
        "sim-links": [base._replace(link_gb_s=rate) for rate in (4.4, 25.0, 55.0)],
        "sim-models": [base._replace(mix="zipf", buffer_gb=70.0, num_models=n) for n in (3, 8, 20)],
    }.get(variant, [base])
    record = Record(
        experiment="switching", variant=variant, control=CONTROL, backend="simulator", profile="pocket",
        evidence="simulated", metrics=metrics_of(variant), complete=True,
        settings={"workload": base.workload, **base.head},
    )  # fmt: skip
    record.sweep = [dict(point) for case in cases for point, _ in points_of(case)]
    for seed in range(base.seeds):
        arms = [_of_seed(seed, arm) for arm in ("home-slot", CONTROL)]
        record.tasks.append(TaskPair(id=f"seed-{seed:02}", treatment=arms[0], control=arms[1]))
    return record


def _of_seed(seed: int, arm: str) -> Values:
    """An arm's numbers for one seed's trace."""
    case = Case(warm="cold", seeds=1, trace=replace(_trace(seed), name=f"seed-{seed}"))
    (values,) = (point for point, outcome in points_of(case) if outcome.arm == arm)
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
