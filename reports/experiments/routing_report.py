"""The origin's `report.json` of the head-to-head, for scripts that read it: `output/routing/report.json`.

The origin writes one file per run, and a run is one LP against one planning model. Here a run holds several:
`runs` has one comparison per LP, and the keys of the file itself are those of the first of `LP` that ran,
the window of the origin's showcase. `routers` has what every other router did, in the same words.

What was not measured is null, never 0. `fields` in the file says what each number is; two differ from the
origin's on purpose. Its latency left planning out, here both stand side by side; its solve time is the sum
over a job under the name of a step, here it is per step.

Trap: times are of the timed rounds, which begin with an idle device; scores, memory, violations and
`avg_loads` are of the graded jobs, one long stream. `measured_in` names the record of both: a planner's times
differ from record to record, since it runs anew beside each router.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from reports.errors import JournalError
from reports.experiments import jobs
from reports.experiments.routed_tables import kind_of
from reports.experiments.telemetry import TELEMETRY, read
from reports.records import Record
from reports.runs import Run

__all__ = ["FIELDS", "LP", "PLANNER", "write"]

EXPERIMENT = "routing"
LP = ("lp-3", "lp", "lp-flat")
"""The origin's optimiser by window; the first that ran is the file's own comparison."""
PLANNER = jobs.PLANNER
VRAM = ("step_peak", "answers_peak", "resident_peak", "transition_peak", "sum_distinct")
SAME = 1e-9
"""Scores no further apart are equal: they are means of a few fractions."""
ARTIFACTS = "artifacts"

FIELDS = {
    "avg_job_score": "mean over jobs of the mean score of a job's tasks, 0 to 1",
    "num_jobs": "graded jobs",
    "measured_in": "the record whose rounds and gradings these are",
    "is_stand_in": "whether no model was asked, and another plan stood in for its answers",
    "avg_vram_gb.step_peak": "mean over jobs of the most memory of models that work in one step, a planning "
    "model among them, GB",
    "avg_vram_gb.answers_peak": "as step_peak, of the models that answer, GB",
    "avg_vram_gb.resident_peak": "mean over jobs of the most memory of models loaded in one step, GB",
    "avg_vram_gb.transition_peak": "as resident_peak, with the models loaded just before still counted, GB",
    "avg_vram_gb.sum_distinct": "mean over jobs of the memory of all models that answered, GB",
    "jobs_violating_pct": "jobs with a step whose plan does not fit the budget, % of jobs",
    "steps_violating_pct": "steps whose plan does not fit the budget, % of steps",
    "max_over_gb": "by how much the worst plan exceeds the budget, GB; 0 where all fit",
    "answer_violates_pct": "jobs in which some answer of the planning model did not fit, before it was "
    "mended, % of jobs",
    "avg_loads": "models loaded per graded job, one after another, so that models stay loaded",
    "avg_loads_timed": "models loaded per job of the timed rounds, which begin with an idle device",
    "avg_latency_s": "wall-clock seconds per job, planning in: mean over timed rounds",
    "avg_latency_without_planner_s": "of those, loading the models that answer, and answering: neither the "
    "planning nor the load of a planning model; the origin's latency",
    "avg_critical_path_s": "seconds of the slowest chain of tasks per job, planning apart",
    "avg_critical_path_with_planner_s": "avg_critical_path_s and the seconds of planning",
    "avg_planner_s": "seconds of planning per job, a model's requests among them",
    "avg_solve_ms_per_step": "avg_planner_s / the steps of a timed job, in milliseconds, the whole call",
    "score_per_token_cost": "mean over jobs of score / Σ tokens × the model's cost per token, 1/cost, the "
    "scale of the records and of the published .0012 and .0031; a planning model's tokens are counted",
    "score_per_answer_cost": "likewise, of the answers alone",
    "planner_status_pct": "steps by how their plan came to be, %: computed, valid, repaired (second answer), "
    "fallback (the greedy plan stood in)",
    "jobs_lp_won, jobs_llm_won, jobs_tied": "jobs graded in both arms, by the higher job score",
    "routing_divergence_pct": "tasks that both arms gave to different models, % of tasks",
    "lp_better, llm_better, tie": "of the tasks given to different models: whose score is higher",
    "per_job": "each graded job: scores, winner, models by task, latency in s, memory in GB, violating steps",
}


class Arm(NamedTuple):
    """One side of a comparison: a record's treatment or control."""

    record: Record
    side: str
    name: str
    jobs: Mapping[str, Mapping[str, Any]]
    """Job → its point."""
    artifacts: Path
    """Of the graded jobs."""


def write(run: Run) -> list[Path]:
    """Write `report.json` where routers were graded; returns its path, or nothing.

    Raises
    ------
    JournalError: the run's telemetry or an artifact cannot be read.
    """
    mine = [r for r in run.records if r.experiment == EXPERIMENT and jobs.points(r)]
    records = [r for r in mine if kind_of(r) not in ("planned", "curves")]
    if not records:
        return []
    path = run.path / "output" / EXPERIMENT / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _report(run, records, run.path / ARTIFACTS)
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return [path]


def _report(run: Run, records: Sequence[Record], artifacts: Path) -> dict[str, Any]:
    against = {r.variant: r for r in records if r.control == PLANNER}
    runs = {name: _run(against[name], artifacts) for name in LP if name in against}
    first = next(iter(runs), None)
    others = [r for r in records if r.variant not in runs]
    return {
        "experiment": EXPERIMENT,
        "machine": run.about.get("machine") or (run.about.get("plan") or {}).get("machine"),
        "run": first,
        **(runs[first] if first is not None else dict.fromkeys(_NO_RUN)),
        "runs": runs,
        "routers": {r.variant: {**_label(r), **_summary(_arm(r, "treatment", artifacts))} for r in others},
        "telemetry": TELEMETRY if read(run.path) else None,
        "artifacts": ARTIFACTS if artifacts.is_dir() else None,
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


def _run(record: Record, artifacts: Path) -> dict[str, Any]:
    """The comparison of one LP with the planning model beside it."""
    lp, llm = (_arm(record, side, artifacts) for side in ("treatment", "control"))
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


def _arm(record: Record, side: str, artifacts: Path) -> Arm:
    name = record.variant if side == "treatment" else record.control or ""
    return Arm(record, side, name, jobs.points(record, side), artifacts)


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
        "measured_in": arm.record.variant,
        "is_stand_in": arm.name in jobs.stand_ins([arm.record]),
        "num_jobs": len(points) or None,
        "avg_job_score": _mean(_known(points, "score")),
        "avg_vram_gb": {metric: _mean(_known(points, f"{metric}_gb")) for metric in VRAM},
        "jobs_violating_pct": _percent([v > 0 for v in violating]),
        "steps_violating_pct": _steps_violating(points),
        "max_over_gb": max(_known(points, "over_gb"), default=None),
        "answer_violates_pct": _percent([v > 0 for v in _known(points, "answer_violates")]),
        "avg_loads": _mean(_known(points, "loads")),
        "avg_loads_timed": _mean(arm.record.values("loads", arm.side)),
        "avg_latency_s": job_s,
        "avg_latency_without_planner_s": _mean(arm.record.values("answers_s", arm.side)),
        "avg_critical_path_s": path_s,
        "avg_critical_path_with_planner_s": _added(path_s, plan_s),
        "avg_planner_s": plan_s,
        "avg_solve_ms_per_step": _per_step_ms(arm, plan_s),
        "score_per_token_cost": _mean(_known(points, "score_per_token_cost")),
        "score_per_answer_cost": _mean(_known(points, "score_per_answer_cost")),
        "planner_status_pct": _statuses(points),
    }


def _per_step_ms(arm: Arm, plan_s: float | None) -> float | None:
    """Planning per step: its seconds per timed job over the steps of such a job."""
    timed = arm.record.settings.get("timed_jobs") or list(arm.jobs)
    steps = _mean(_known([arm.jobs[job] for job in timed if job in arm.jobs], "num_steps"))
    return 1e3 * plan_s / steps if plan_s is not None and steps else None


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
    path = arm.artifacts / arm.name / f"{job}.json"
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


def _added(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value + other
