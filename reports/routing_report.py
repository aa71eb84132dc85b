"""The origin's `report.json` of the head-to-head, for scripts that read it: `output/routing/report.json`.

The origin writes one file per run, and a run is one LP against one planning model. Here a run holds several:
`runs` has one comparison per LP, and the keys of the file itself are those of the first of `LP` that ran,
the window of the origin's showcase. `routers` has what every other router did, in the same words.

What was not measured is null, never 0. `fields` in the file says what each number is; two differ from the
origin's on purpose. Its latency left planning out, here both stand side by side; its solve time is the sum
over a job under the name of a step, here it is per step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from reports import jobs
from reports.errors import JournalError
from reports.records import Record
from reports.runs import Run
from reports.telemetry import TELEMETRY, Trace, read

__all__ = ["FIELDS", "LP", "PLANNER", "write"]

EXPERIMENT = "routing"
LP = ("lp-3", "lp", "lp-flat")
"""The origin's optimiser by window; the first that ran is the file's own comparison."""
PLANNER = "planner"
VRAM = ("step_peak", "resident_peak", "transition_peak", "sum_distinct")
SAME = 1e-9
"""Scores no further apart are equal: they are means of a few fractions."""
ARTIFACTS = "artifacts"

FIELDS = {
    "avg_job_score": "mean over jobs of the mean score of a job's tasks, 0 to 1",
    "num_jobs": "graded jobs",
    "avg_vram_gb.step_peak": "mean over jobs of the most memory of models that answer in one step, GB",
    "avg_vram_gb.resident_peak": "mean over jobs of the most memory of models loaded in one step, GB",
    "avg_vram_gb.transition_peak": "as resident_peak, with the models loaded just before still counted, GB",
    "avg_vram_gb.sum_distinct": "mean over jobs of the memory of all models that answered, GB",
    "jobs_violating_pct": "jobs with a step whose plan does not fit the budget, % of jobs",
    "steps_violating_pct": "steps whose plan does not fit the budget, % of steps",
    "max_over_gb": "by how much the worst plan exceeds the budget, GB; 0 where all fit",
    "avg_loads": "models loaded per job",
    "avg_latency_s": "wall-clock seconds per job, planning in: mean over timed rounds",
    "avg_latency_without_planner_s": "avg_latency_s less the seconds of planning, the origin's latency",
    "avg_critical_path_s": "seconds of the slowest chain of tasks per job, planning apart",
    "avg_critical_path_with_planner_s": "avg_critical_path_s and the seconds of planning",
    "avg_planner_s": "seconds of planning per job, a model's requests among them",
    "avg_solve_ms_per_step": "milliseconds of planning per step, the whole call",
    "score_per_token_cost": "sum of job scores / sum of the jobs' token costs",
    "token_cost_with_planner": "whether those costs count the tokens that a model spent on planning",
    "planner_status_pct": "steps by how their plan came to be, %: computed, valid, repaired (second answer), "
    "fallback (the greedy plan stood in)",
    "jobs_lp_won, jobs_llm_won, jobs_tied": "jobs graded in both arms, by the higher job score",
    "routing_divergence_pct": "tasks that both arms gave to different models, % of tasks",
    "lp_better, llm_better, tie": "of the tasks given to different models: whose score is higher",
    "per_job": "each graded job: scores, winner, models by task, latency in s, memory in GB, violating steps",
}


class Told(NamedTuple):
    """What a run's folder has beside its records."""

    traces: tuple[Trace, ...]
    """Of the timed rounds."""
    artifacts: Path
    """Of the graded jobs."""


class Arm(NamedTuple):
    """One side of a comparison: a record's treatment or control."""

    record: Record
    side: str
    name: str
    jobs: Mapping[str, Mapping[str, Any]]
    """Job → its point."""
    told: Told


def write(run: Run) -> list[Path]:
    """Write `report.json` where routers were graded; returns its path, or nothing.

    Raises
    ------
    JournalError: the run's telemetry or an artifact cannot be read.
    """
    records = [r for r in run.records if r.experiment == EXPERIMENT and jobs.points(r)]
    if not records:
        return []
    path = run.path / "output" / EXPERIMENT / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _report(run, records, Told(tuple(read(run.path)), run.path / ARTIFACTS))
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return [path]


def _report(run: Run, records: Sequence[Record], told: Told) -> dict[str, Any]:
    against = {r.variant: r for r in records if r.control == PLANNER}
    runs = {name: _run(against[name], told) for name in LP if name in against}
    first = next(iter(runs), None)
    others = [r for r in records if r.variant not in runs]
    return {
        "experiment": EXPERIMENT,
        "machine": run.about.get("machine") or (run.about.get("plan") or {}).get("machine"),
        "run": first,
        **(runs[first] if first is not None else dict.fromkeys(_NO_RUN)),
        "runs": runs,
        "routers": {r.variant: {**_label(r), **_summary(_arm(r, "treatment", told))} for r in others},
        "telemetry": TELEMETRY if told.traces else None,
        "artifacts": ARTIFACTS if told.artifacts.is_dir() else None,
        "fields": FIELDS,
    }


_NO_RUN = (
    "comparison_lp_vs_llm",
    "jobs_lp_won",
    "jobs_llm_won",
    "jobs_tied",
    "routing_divergence_pct",
    "lp_better",
    "llm_better",
    "tie",
    "per_job",
)


def _run(record: Record, told: Told) -> dict[str, Any]:
    """The comparison of one LP with the planning model beside it."""
    lp, llm = (_arm(record, side, told) for side in ("treatment", "control"))
    rows = [_job(job, lp, llm) for job in lp.jobs if job in llm.jobs]
    decided = [row["winner"] for row in rows if row["winner"] is not None]
    return {
        **_label(record),
        "comparison_lp_vs_llm": {"lp": _summary(lp), "llm": _summary(llm)},
        "jobs_lp_won": _count(decided, "lp"),
        "jobs_llm_won": _count(decided, "llm"),
        "jobs_tied": _count(decided, "tie"),
        **_divergence(record),
        "per_job": rows or None,
    }


def _arm(record: Record, side: str, told: Told) -> Arm:
    name = record.variant if side == "treatment" else record.control or ""
    return Arm(record, side, name, jobs.points(record, side), told)


def _summary(arm: Arm) -> dict[str, Any]:
    """One arm in the words of `FIELDS`."""
    points = list(arm.jobs.values())
    job_s, plan_s, path_s = (
        _mean(arm.record.values(m, arm.side)) for m in ("job_s", "plan_s", "critical_path_s")
    )
    job_s = job_s if job_s is not None else _mean(_known(points, "job_s"))
    violating = _known(points, "violations")
    return {
        "variant": arm.name,
        "num_jobs": len(points) or None,
        "avg_job_score": _mean(_known(points, "score")),
        "avg_vram_gb": {metric: _mean(_known(points, f"{metric}_gb")) for metric in VRAM},
        "jobs_violating_pct": _percent([v > 0 for v in violating]),
        "steps_violating_pct": _steps_violating(points),
        "max_over_gb": max(_known(points, "over_gb"), default=None),
        "avg_loads": _mean(_known(points, "loads")),
        "avg_latency_s": job_s,
        "avg_latency_without_planner_s": _added(job_s, plan_s, -1),
        "avg_critical_path_s": path_s,
        "avg_critical_path_with_planner_s": _added(path_s, plan_s, 1),
        "avg_planner_s": plan_s,
        "avg_solve_ms_per_step": _mean(
            [
                1e3 * s.plan_s
                for t in arm.told.traces
                if t.variant == arm.name
                for s in t.steps
                if s.plan_s is not None
            ]
        ),
        "score_per_token_cost": _score_per_cost(arm),
        "token_cost_with_planner": jobs.token_costs(arm.record, arm.side).with_planning,
        "planner_status_pct": _statuses(points),
    }


def _score_per_cost(arm: Arm) -> float | None:
    """Jobs without a cost or a score are left out of both sums."""
    costs = jobs.token_costs(arm.record, arm.side).by_job
    known = {
        job: score
        for job, point in arm.jobs.items()
        if (score := point.get("score")) is not None and job in costs
    }
    cost = sum(costs[job] for job in known)
    return sum(known.values()) / cost if cost > 0 else None


def _statuses(points: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
    """Shares of the steps' statuses in per cent."""
    found: Counter[str] = Counter()
    for point in points:
        found.update(point.get("planner_status") or {})
    return {word: 100 * number / found.total() for word, number in found.items()} or None


def _steps_violating(points: Iterable[Mapping[str, Any]]) -> float | None:
    known = [(v, n) for p in points if (v := p.get("violations")) is not None and (n := p.get("num_steps"))]
    return 100 * sum(v for v, _ in known) / sum(n for _, n in known) if known else None


def _divergence(record: Record) -> dict[str, Any]:
    """How often both arms chose different models, and whose score is higher where they did."""
    same = [(t, v) for t in record.tasks if (v := t.treatment.get("same_model")) is not None]
    scores = [
        (t.treatment.get("score"), t.control.get("score")) for t, v in same if not v and t.control is not None
    ]
    winners = [w for lp, llm in scores if (w := _winner(lp, llm)) is not None]
    return {
        "routing_divergence_pct": _percent([not v for _, v in same]),
        "lp_better": winners.count("lp") if same else None,
        "llm_better": winners.count("llm") if same else None,
        "tie": winners.count("tie") if same else None,
    }


def _job(job: str, lp: Arm, llm: Arm) -> dict[str, Any]:
    """One job in both arms."""
    row: dict[str, Any] = {"job": job, "shape": lp.jobs[job].get("shape")}
    for word, arm in (("lp", lp), ("llm", llm)):
        point = arm.jobs[job]
        row |= {
            f"{word}_score": point.get("score"),
            f"{word}_models": _models(arm, job),
            f"{word}_latency_s": point.get("job_s"),
            f"{word}_vram_gb": {metric: point.get(f"{metric}_gb") for metric in VRAM},
            f"{word}_violations": point.get("violations"),
        }
    return {**row, "winner": _winner(row["lp_score"], row["llm_score"])}


def _models(arm: Arm, job: str) -> dict[str, str] | None:
    """Task → model when the job was graded, as its artifact says.

    Raises
    ------
    JournalError: the artifact cannot be read.
    """
    path = arm.told.artifacts / arm.name / f"{job}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["assignments"]
        return {str(task): str(model) for task, model in found.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise JournalError(
            f"{path}: no artifact of a job ({type(exc).__name__}: {exc}); move it away to go without"
        ) from exc


def _winner(lp: float | None, llm: float | None) -> str | None:
    if lp is None or llm is None:
        return None
    return "tie" if abs(lp - llm) <= SAME else "lp" if lp > llm else "llm"


def _label(record: Record) -> dict[str, Any]:
    """What ran, so that no name is taken for a model or an engine."""
    return {
        "backend": record.backend,
        "models": dict(record.models),
        "profile": record.profile,
        "evidence": record.evidence,
        "settings": dict(record.settings),
    }


def _known(points: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [v for p in points if (v := p.get(key)) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _percent(values: Sequence[bool]) -> float | None:
    return 100 * sum(values) / len(values) if values else None


def _count(winners: Sequence[str], word: str) -> int | None:
    return winners.count(word) if winners else None


def _added(value: float | None, other: float | None, sign: int) -> float | None:
    return None if value is None or other is None else value + sign * other
