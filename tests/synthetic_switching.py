"""What a run of bench/test_switching.py leaves behind, with numbers from arithmetic alone.

Three models of 12.6, 13.5 and 5.2 MB behind 0.5 GB/s; computing takes 4 ms to the first token and 1 ms more
to the second. `home-slot` misses a quarter of a model where it misses, the others a whole one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from reports.records import Failure, Metric, Record, Round, Values

__all__ = ["FAILED", "LINK", "SIZES", "arm_record", "records", "simulated"]

SIZES = {"llama-mini": 12_600_000, "mistral-mini": 13_500_000, "phi-mini": 5_200_000}
LINK = 0.5e9
REQUESTS = 30
FIRST_S, SECOND_S, CHOOSING_S = 4e-3, 1e-3, 3e-5
CONTROL = "reload-every"
FAILED = 3
"""Requests of each round that `vllm-recreate` loses."""
LIVE = ("home-slot", "keep-last", "home-slot-lookahead", "fifo-ring-copy-out", "resident", "vllm-recreate")
POLICIES = (
    *(CONTROL, "keep-last", "fifo-ring-copy-out", "fifo-ring", "lru", "home-slot", "chunk-slots-lookahead"),
    *("belady", "resident"),
)
SPEED = dict(zip(POLICIES, (1.0, 1.6, 1.1, 2.1, 2.0, 6.0, 14.0, 7.0, 30.0), strict=True))
METRICS = {
    "ttft_p50_s": "s", "ttft_mean_s": "s", "ttft_max_s": "s", "hit_share": "share", "bytes_in": "B",
    "ahead_bytes": "B", "bytes_out": "B", "belady_bytes_in": "B", "completed_share": "share", "wall_s": "s",
}  # fmt: skip


def records(seeds: int = 13) -> list[Record]:
    """A whole run: `home-slot` and `keep-last` over many seeds, others over two, and what was simulated."""
    live = [arm_record(name, seeds if name in ("home-slot", "keep-last") else 2) for name in LIVE]
    return [*live, *(simulated(name) for name in ("sim-buffers", "sim-links", "sim-policies", "sim-models"))]


def arm_record(name: str, seeds: int = 13, control: str | None = CONTROL) -> Record:
    """An arm's record beside its control's."""
    sweep: list[dict[str, Any]] = []
    rounds = []
    for seed in range(seeds):
        own = _trace(name, seed)
        sweep += [{"arm": "treatment", **one} for one in own]
        other = _trace(control, seed) if control else []
        sweep += [{"arm": "control", **one} for one in other]
        order = "TC" if seed % 2 else "CT"
        rounds.append(Round(order=order, treatment=_values(own), control=_values(other) if control else None))
    lost = [f for r in range(seeds) if name == "vllm-recreate" for f in [_failure(r)]]
    return Record(
        experiment="switching",
        variant=name,
        control=control,
        backend="arena",
        profile="pocket",
        complete=True,
        settings={
            "workload": "published-mix", "requests": REQUESTS, "prompt_tokens": 8, "new_tokens": 2,
            "buffer_gb": 25.0, "buffer_mb": 25.0, "scale": 0.001, "link_gb_s": 0.5, "warm": "fill",
            "model_bytes": SIZES, "seeds": seeds,
        },
        models={"model": ", ".join(SIZES)},
        metrics={key: Metric(unit=unit, better="lower", what=key) for key, unit in METRICS.items()},
        rounds=rounds,
        sweep=sweep,
        failures=lost,
    )  # fmt: skip


def simulated(variant: str) -> Record:
    """A record of the simulator."""
    points = {
        "sim-buffers": [
            p for warm in ("cold", "fill") for size in (20.0, 25.0, 32.0, 40.0)
            for p in _points(buffer_gb=size, warm=warm)
        ],
        "sim-links": [p for rate in (4.4, 15.0, 25.0, 55.0) for p in _points(link_gb_s=rate)],
        "sim-policies": [
            p for mix in ("zipf", "published") for warm in ("cold", "fill")
            for p in _points(mix=mix, warm=warm)
        ],
        "sim-models": [p for num in (3, 20) for p in _points(models=num, mix="zipf")],
    }[variant]  # fmt: skip
    return Record(
        experiment="switching", variant=variant, control=CONTROL, backend="simulator", profile="pocket",
        evidence="simulated", models={"model": "llama-7b, mistral-7b, phi-2"}, sweep=points, complete=True,
    )  # fmt: skip


def _trace(name: str, seed: int) -> list[dict[str, Any]]:
    draw, own = random.Random(seed), random.Random(f"{name} {seed}")
    asked = draw.choices(list(SIZES), weights=[4, 4, 2], k=REQUESTS)
    now_s, last, out = 0.0, "", []
    for index, model in enumerate(asked):
        missing, ahead = _copied(name, model, last, draw.random())
        switch_s = (CHOOSING_S + (missing or 0) / LINK) * own.uniform(0.99, 1.01)
        waited_s = missing / LINK if missing else None
        out.append(_request(name, seed, index, model, now_s, switch_s, missing, ahead, waited_s))
        now_s, last = out[-1]["done_s"], model
    return out


def _copied(name: str, model: str, last: str, chance: float) -> tuple[int | None, int | None]:
    """Bytes that are missing when the turn comes, and those that came before."""
    size = SIZES[model]
    if name.startswith("vllm"):
        return None, None
    is_hit = {CONTROL: False, "keep-last": model == last, "resident": True}.get(name, chance < 0.5)
    if name.startswith("home-slot"):
        ahead = size // 8 if name.endswith("lookahead") and not is_hit else 0
        return (0 if is_hit else size // 4 - ahead), ahead
    return (0 if is_hit else size), 0


def _request(
    name: str, seed: int, index: int, model: str, now_s: float, switch_s: float, missing: int | None,
    ahead: int | None, waited_s: float | None,
) -> dict[str, Any]:  # fmt: skip
    began_s, first_s = now_s, now_s + switch_s + FIRST_S
    failure = "LaunchError: out of memory" if name == "vllm-recreate" and index < FAILED else None
    return {
        "name": "request", "round": seed, "seed": seed, "index": index, "agent": index, "phase": "request",
        "model": model, "is_hit": None if missing is None else missing == 0, "arrived_s": began_s,
        "began_s": began_s, "first_token_s": first_s, "done_s": first_s + SECOND_S, "switch_s": switch_s,
        "plan_s": CHOOSING_S, "bind_s": 0.0, "wait_s": switch_s - CHOOSING_S, "ttft_s": first_s - began_s,
        "total_s": first_s + SECOND_S - began_s, "bytes_in": missing, "ahead_bytes": ahead,
        "bytes_out": None if missing is None else missing if name.endswith("copy-out") else 0,
        "evicted_bytes": missing, "needed_bytes": missing,
        "copied_s": None if waited_s is None else [began_s, began_s + waited_s],
        "ahead_s": [began_s - 5e-4, began_s] if ahead else None, "failure": failure,
    }  # fmt: skip


def _values(own: Sequence[Mapping[str, Any]]) -> Values:
    done = [one for one in own if not one["failure"]]
    out: Values = {"completed_share": len(done) / len(own), "wall_s": own[-1]["done_s"]}
    for kind in ("ttft", "switch", "total"):
        seconds = [one[f"{kind}_s"] for one in done]
        out |= {f"{kind}_p50_s": median(seconds), f"{kind}_mean_s": fmean(seconds)}
        out |= {f"{kind}_max_s": max(seconds)}
    for key in ("bytes_in", "ahead_bytes", "bytes_out", "is_hit"):
        known = [one[key] for one in own]
        out[key] = None if None in known else float(sum(known))
    hits = out.pop("is_hit")
    return out | {"hit_share": None if hits is None else hits / len(own), "belady_bytes_in": 40e6}


def _failure(number: int) -> Failure:
    return Failure(arm="treatment", round=number, where="request 0", error="LaunchError: out of memory")


def _points(
    buffer_gb: float = 25.0,
    link_gb_s: float = 25.0,
    mix: str = "published",
    warm: str = "fill",
    models: int = 3,
) -> Iterable[dict[str, Any]]:
    """A point per policy: all fits 32 GB, and 20 GB are 25 to policies of whole models."""
    for policy in POLICIES:
        is_whole = policy in ("fifo-ring-copy-out", "fifo-ring", "lru", "keep-last")
        fits = buffer_gb >= 32 and policy not in (CONTROL, "keep-last")
        share = 0.0 if policy == CONTROL else 0.9 if fits else 0.5 if is_whole else buffer_gb / 50
        faster = 30.0 if fits else SPEED[policy]
        whole_s = 12.0 / link_gb_s
        yield {
            "name": "point", "policy": policy, "buffer_gb": buffer_gb, "link_gb_s": link_gb_s, "mix": mix,
            "warm": warm, "models": models, "seeds": 30, "hit_share": 1.0 if policy == "resident" else share,
            "bytes_in_gb": 340 * (1 - share), "belady_bytes_gb": 40.0, "bytes_over_belady": 8.5 * (1 - share),
            "bytes_out_gb": 159.0 if policy == "fifo-ring-copy-out" else 0.0, "evicted_gb": 1.0,
            "needed_gb": 1.0, "switch_p50_s": 0.0 if share > 0.5 else whole_s, "switch_p99_s": whole_s,
            "switch_mean_s": whole_s / faster, "ttft_p50_s": 0.02, "ttft_mean_s": whole_s / faster + 0.02,
            "ttft_ratio_p50": faster, "ttft_ratio_mean": faster, "ttft_ratio_p99": faster**0.5,
            "total_ratio_p50": 1 + whole_s * (1 - 1 / faster), "total_ratio_mean": 1 + whole_s / 2,
        }  # fmt: skip
