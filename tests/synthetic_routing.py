"""A routing run with invented but realistic numbers: records, sweeps and telemetry."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from reports.records import Metric, Record, Round, TaskPair
from reports.runs import Run
from tests.synthetic_runs import write_run

GB = 10**9
BUDGET_BYTES = 8 * GB
SIZES_GB = {"gemma2:2b": 2.0, "qwen2.5-coder:7b": 6.5, "llama3.1:8b": 8.0, "phi4:14b": 12.5}
GEMMA, QWEN, LLAMA, PHI = SIZES_GB
SHAPES = {
    "wb1": (("s0", "extraction"), ("s1", "math"), ("s2", "code")),
    "wb2": (("s0", "code"), ("s1", "math"), ("s2", "summarize")),
    "wb3": (("s0", "extraction"), ("s1", "reasoning"), ("s2", "summarize")),
}
LAYERS = {
    "wb1": (("s0",), ("s1",), ("s2",)),
    "wb2": (("s0",), ("s1", "s2")),
    "wb3": (("s0",), ("s1",), ("s2",)),
}
ROUTERS = {
    "lp": {"wb1": (GEMMA, PHI, QWEN), "wb2": (QWEN,) * 3, "wb3": (GEMMA, LLAMA, LLAMA)},
    "lp-3": dict.fromkeys(SHAPES, (QWEN,) * 3),
    "lp-flat": dict.fromkeys(SHAPES, (QWEN,) * 3),
    "exact": {"wb1": (GEMMA, GEMMA, QWEN), "wb2": (QWEN,) * 3, "wb3": (GEMMA, LLAMA, LLAMA)},
    "exact-3": dict.fromkeys(SHAPES, (QWEN,) * 3),
    "sequential": {"wb1": (QWEN,) * 3, "wb2": (QWEN,) * 3, "wb3": (QWEN, LLAMA, LLAMA)},
    "order-free": {"wb1": (QWEN,) * 3, "wb2": (QWEN,) * 3, "wb3": (QWEN, LLAMA, LLAMA)},
    "greedy": dict.fromkeys(SHAPES, (GEMMA, QWEN, QWEN)),
    "best-single": dict.fromkeys(SHAPES, (LLAMA,) * 3),
    "random": {"wb1": (GEMMA, LLAMA, GEMMA), "wb2": (LLAMA, GEMMA, GEMMA), "wb3": (GEMMA, QWEN, LLAMA)},
    "preference": {"wb1": (LLAMA, GEMMA, LLAMA), "wb2": (LLAMA, GEMMA, GEMMA), "wb3": (GEMMA, LLAMA, GEMMA)},
    "offline-optimum": {"wb1": (QWEN,) * 3, "wb2": (QWEN,) * 3, "wb3": (LLAMA,) * 3},
    "planner": dict.fromkeys(SHAPES, (GEMMA,) * 3),
}
SKILL = {GEMMA: 0.52, QWEN: 0.71, LLAMA: 0.73, PHI: 0.8}
COST = {GEMMA: 0.4, QWEN: 1.2, LLAMA: 1.4, PHI: 2.0}
METRICS = {
    "score": Metric(unit="share", better="higher", what="score of a task, 0 to 1"),
    "token_cost": Metric(unit="cost", better="lower", what="tokens / 1000 × the model's cost"),
    "job_s": Metric(unit="s", better="lower", what="wall-clock time of a job"),
}
SWEEPS: dict[str, Sequence[Any]] = {
    "lambda_token": (0.0, 0.25, 0.5, 1.0, 2.0),
    "lambda_switch": (0.0, 0.1, 0.2, 0.5, 1.0),
    "budget": (6, 8, 12, 16, 24),
    "num_models": (2, 4, 8, 16),
    "prior_quality": (0.0, 0.25, 0.5, 0.75, 1.0),
}
MATRIX = ((3, 4), (10, 4), (30, 8), (100, 16))


def record(variant: str, control: str | None = "planner", num_jobs: int = 30, **changes: Any) -> Record:
    """A router beside the planner: rounds, gradings and the points of its jobs."""
    noise = random.Random(variant)
    jobs = [(f"{shape}-{i:03d}", shape) for i in range(num_jobs // 3) for shape in SHAPES]
    own, beside = _gradings(variant, jobs), _gradings(control, jobs) if control else None
    tasks = [
        TaskPair(id=id, treatment=dict(values), control=dict(beside[id]) if beside else None)
        for id, values in own.items()
    ]
    for task in tasks:
        if task.control is not None:
            task.treatment["same_model"] = float(task.treatment["model_gb"] == task.control["model_gb"])
    points = [_job(variant, "treatment", job, shape, own) for job, shape in jobs]
    points += (
        [_job(control, "control", job, shape, beside) for job, shape in jobs] if control and beside else []
    )
    fields: dict[str, Any] = {
        "experiment": "routing",
        "variant": variant,
        "control": control,
        "backend": "llama.cpp",
        "profile": "pocket",
        "settings": {"fleet": "specialists", "rounds": 6},
        "models": {},
        "metrics": METRICS,
        "rounds": [
            Round(
                order="CT",
                treatment=_round(variant, noise),
                control=_round(control, noise) if control else None,
            )
            for _ in range(6)
        ],
        "tasks": tasks,
        "sweep": points,
        "complete": True,
    }
    return Record(**{**fields, **changes})


def _gradings(variant: str, jobs: Iterable[tuple[str, str]]) -> dict[str, dict[str, float | None]]:
    out: dict[str, dict[str, float | None]] = {}
    for job, shape in jobs:
        for (task, _), model in zip(SHAPES[shape], used(variant, shape), strict=True):
            luck = random.Random(f"{job}.{task}").random()  # of the task, so that arms are paired
            out[f"{job}.{task}"] = {
                "score": float(luck < SKILL[model]),
                "right": float(luck < SKILL[model]),
                "model_gb": SIZES_GB[model],
                "token_cost": 0.2 * COST[model],
                "violates": 0.0,
            }
    return out


def used(variant: str, shape: str) -> tuple[str, ...]:
    """The models that answer, the greedy plan's where the router's own does not fit."""
    return tuple(GEMMA if m == PHI else m for m in ROUTERS[variant][shape])


def status(variant: str, step: int) -> str:
    """How the plan of a step came to be."""
    return ("valid", "fallback", "repaired")[step] if variant == "planner" else "computed"


def _round(variant: str, noise: random.Random) -> dict[str, float | None]:
    infer_s = (
        sum(0.4 + SIZES_GB[used(variant, s)[1]] * 0.15 for s in SHAPES) / 3 * noise.lognormvariate(0, 0.03)
    )
    plan_s = 1.1 * noise.lognormvariate(0, 0.1) if variant == "planner" else 0.0004
    load_s = 0.25 * len(set(used(variant, "wb3")))
    return {
        "job_s": infer_s + plan_s + load_s,
        "plan_s": plan_s,
        "load_s": load_s,
        "inference_s": infer_s,
        "critical_path_s": infer_s * 0.98,
        "answers_s": infer_s + 0.5 * load_s,
        "loads": 1.5,
    }


def _job(
    variant: str, arm: str, job: str, shape: str, graded: dict[str, dict[str, float | None]]
) -> dict[str, Any]:
    models = [SIZES_GB[m] for m in used(variant, shape)]
    scores = [graded[f"{job}.{task}"]["score"] or 0.0 for task, _ in SHAPES[shape]]
    costs = [graded[f"{job}.{task}"]["token_cost"] or 0.0 for task, _ in SHAPES[shape]]
    over_gb = max(0.0, max(SIZES_GB[m] for m in ROUTERS[variant][shape]) - 8.0)
    return {
        "name": "job",
        "arm": arm,
        "job": job,
        "shape": shape,
        "score": sum(scores) / 3,
        "step_peak_gb": max(models),
        "resident_peak_gb": max(models),
        "transition_peak_gb": max(models),
        "sum_distinct_gb": sum(set(models)),
        "violations": int(over_gb > 0),
        "num_steps": len(LAYERS[shape]),
        "over_gb": over_gb,
        "loads": len(set(models)),
        "job_s": 1.5 + max(models) / 5,
        "planner_status": dict(Counter(status(variant, i) for i in range(len(LAYERS[shape])))),
        "score_per_token_cost": sum(scores) / 3 / sum(costs),
    }


def swept(variant: str, points: Iterable[dict[str, Any]]) -> Record:
    """A record that holds a curve and nothing else."""
    return Record(
        experiment="routing",
        variant=variant,
        control=None,
        backend="numpy",
        profile="pocket",
        settings={"fleet": "seed", "along": "what was varied"},
        sweep=[{"name": "point", **point} for point in points],
        complete=True,
    )


def sweeps() -> list[Record]:
    """Every curve of the experiment."""
    return [windows(), solve_times(), violations(), *(parameter(name) for name in SWEEPS)]


def windows() -> Record:
    """Regret by window, as the study in the facts has it."""
    regret = {
        "lp": (0.0048, 0.0030, 0.0036, 0.0038, 0.0038),
        "sequential": (0.0046, 0.0010, 0.0003, 0.0001, 0.0),
    }
    return swept(
        "sweep-window",
        [
            {
                "along": window,
                "planner": planner,
                "regret": value,
                "regret_low": value * 0.8,
                "regret_high": value * 1.2,
            }
            for planner, values in regret.items()
            for window, value in zip((1, 2, 3, 4, None), values, strict=True)
        ],
    )


def solve_times() -> Record:
    """Milliseconds of three planners at four sizes."""
    times_ms = {
        "exact": ((0.016, 0.044), (0.019, 0.055), (0.11, 0.97), (0.44, 1.2)),
        "highs": ((0.12, 0.31), (0.22, 0.51), (0.63, 1.4), (2.5, 6.0)),
        "cvxpy": ((12.1, 19.0), (11.9, 16.0), (14.7, 39.0), (29.5, 42.0)),
    }
    return swept(
        "solve-time-by-size",
        [
            {**_size(size), "planner": planner, "median_ms": median, "p99_ms": p99}
            for planner, values in times_ms.items()
            for size, (median, p99) in zip(MATRIX, values, strict=True)
        ],
    )


def violations() -> Record:
    """Shares of the LP and of the exact planner at four sizes."""
    shares = {"lp": ((0.11, 0.19), (0.22, 0.41), (0.35, 0.66), (0.4, 0.8)), "exact": ((0.0, None),) * 4}
    return swept(
        "violations-by-size",
        [
            {
                **_size(size),
                "planner": planner,
                "violating_share": share,
                "low": max(0.0, share - 0.015),
                "high": share + 0.015 if share else 0.0004,
                "fractional_share": mixed,
            }
            for planner, values in shares.items()
            for size, (share, mixed) in zip(MATRIX, values, strict=True)
        ],
    )


def _size(size: tuple[int, int]) -> dict[str, Any]:
    return {"along": f"{size[0]}x{size[1]}", "num_tasks": size[0], "num_models": size[1]}


def parameter(name: str) -> Record:
    """A sweep over one parameter."""
    points = []
    for planner, skill in (
        ("lp", 0.70),
        ("exact", 0.71),
        ("sequential", 0.73),
        ("greedy", 0.66),
        ("planner", 0.55),
    ):
        noise = random.Random(f"{name} {planner}")
        for i, along in enumerate(SWEEPS[name]):
            score = skill - 0.02 * i + noise.gauss(0, 0.01)
            points.append(
                {
                    "along": along,
                    "planner": planner,
                    "score": score,
                    "score_low": score - 0.05,
                    "score_high": score + 0.05,
                    "violating_share": 0.24 - 0.04 * i if planner == "lp" else 0.0,
                    "loads": max(0.6, 2.0 - 0.3 * i + noise.gauss(0, 0.05)),
                    "token_cost": 0.25 - 0.02 * i + noise.gauss(0, 0.005),
                }
            )
    return swept(f"sweep-{name}", points)


def telemetry(
    variants: Iterable[str] = ("lp", "sequential", "planner"), num_jobs: int = 2
) -> list[dict[str, Any]]:
    """The events of some jobs of each shape under each variant."""
    out: list[dict[str, Any]] = []
    for variant in variants:
        resident: list[str] = []
        for i in range(num_jobs):
            for shape in SHAPES:
                out += _events(variant, f"{shape}-{i:03d}", shape, resident)
    return out


def phased(events: Iterable[dict[str, Any]], phase: str, round: int | None = None) -> list[dict[str, Any]]:
    """Events as a fixture marks them: graded ones have scores and no times, the others no scores."""
    out = [{**e, "phase": phase, "round": round} for e in events]
    for event in out:
        if phase == "graded":
            event |= dict.fromkeys(event.keys() & {"began_s", "done_s", "plan_s", "wall_s", "load_s"})
        elif event["event"] == "job_dag_summary":
            event["score"] = None
    return out


def _events(variant: str, job: str, shape: str, resident: list[str]) -> list[dict[str, Any]]:
    """One run of a job; `resident` goes on to the next."""
    who = {"variant": variant, "job": job}
    nodes = [{"id": t, "type": kind, "difficulty": 2.0, "num_tokens": 150} for t, kind in SHAPES[shape]]
    layers = [list(layer) for layer in LAYERS[shape]]
    out = [{**who, "event": "dag_structure", "shape": shape, "nodes": nodes, "edges": [], "layers": layers}]
    planned = dict(zip((t for t, _ in SHAPES[shape]), ROUTERS[variant][shape], strict=True))
    at, done = 0.0, 0.0
    for number, layer in enumerate(layers):
        step = _step(variant, planned, layer, number, at, resident)
        at = done = step["done_s"]
        out.append({**who, "event": "plan_step", **step})
    statuses = [e["planner_status"] for e in out[1:]]
    run = {task: run["model"] for e in out[1:] for task, run in e["exec"].items()}
    out.append(
        {
            **who,
            "event": "job_dag_summary",
            "shape": shape,
            "models": run,
            "score": 2 / 3,
            "wall_s": done,
            "plan_s": sum(e["plan_s"] for e in out[1:]),
            "num_steps": len(layers),
            "violations": sum(e["violates"] for e in out[1:]),
            "planner_status": {s: statuses.count(s) for s in sorted(set(statuses))},
        }
    )
    return out


def _step(
    variant: str, planned: dict[str, str], layer: list[str], number: int, at: float, resident: list[str]
) -> dict[str, Any]:
    plan_s = 0.55 if variant == "planner" else 0.0004
    over_bytes = int(max(0, sum(SIZES_GB[m] for m in {planned[t] for t in layer}) - 8.0) * GB)
    models = {t: GEMMA if over_bytes else planned[t] for t in layer}
    need = sorted(set(models.values()))
    loaded = [m for m in need if m not in resident]
    evicted = []
    while sum(SIZES_GB[m] for m in {*resident, *need}) > 8.0:
        evicted.append(next(m for m in resident if m not in need))
        resident.remove(evicted[-1])
    resident += loaded
    load_s = {m: 0.12 * SIZES_GB[m] for m in loaded}
    began = at + plan_s + sum(load_s.values())
    runs = {
        t: {
            "model": models[t],
            "began_s": began,
            "done_s": began + 0.4 + 0.1 * i + SIZES_GB[models[t]] * 0.12,
        }
        for i, t in enumerate(layer)
    }
    used_bytes = int(sum(SIZES_GB[m] for m in resident) * GB)
    return {
        "step": number,
        "window": 1,
        "horizon": layer,
        "ready": layer,
        "planner_status": status(variant, number),
        "planner": None,
        "plan_s": plan_s,
        "solver": variant,
        "objective": 0.4,
        "violates": over_bytes > 0,
        "over_bytes": over_bytes,
        "assignment": {t: planned[t] for t in layer},
        "replaced": over_bytes > 0,
        "evicted": evicted,
        "loaded": loaded,
        "load_s": load_s,
        "resident": list(resident),
        "resident_bytes": used_bytes,
        "step_bytes": int(sum(SIZES_GB[m] for m in need) * GB),
        "budget_bytes": BUDGET_BYTES,
        "began_s": at,
        "done_s": max(r["done_s"] for r in runs.values()),
        "exec": runs,
    }


def routed(path: Path, variants: Iterable[str] = ROUTERS) -> Path:
    """A whole routing run: every router beside the planner, every curve, and telemetry."""
    records = [record(v, None if v == "planner" else "planner") for v in variants]
    write_run(path, [*records, *sweeps()])
    write_telemetry(path, telemetry())
    return path


def write_artifact(path: Path, variant: str, job: str, assignments: dict[str, str]) -> Path:
    """What a graded job leaves beside its record."""
    file = path / "artifacts" / variant / f"{job}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({"job": job, "assignments": assignments, "model_task_estimates": {}, "load_s": {}})
    )
    return file


def write_telemetry(path: Path, events: Iterable[dict[str, Any]], tail: str = "") -> None:
    """The events of a run as its `telemetry.jsonl`, with `tail` after the last line."""
    lines = [json.dumps(event) + "\n" for event in events]
    (path / "telemetry.jsonl").write_text("".join(lines) + tail)


def written(tmp_path: Path, records: list[Record], events: list[dict[str, Any]] | None = None) -> Run:
    """A run of these records and events, read back."""
    path = write_run(tmp_path / "run", records)
    if events is not None:
        write_telemetry(path, events)
    return Run.read(path)


def texts(figure: Any) -> str:
    """Every text in a figure, tick labels included."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return "\n".join(text for t in figure.findobj(Text) if (text := t.get_text()))
