"""What running a job tells: the origin's three events, as plain dictionaries; and its artifact.

    dag_structure     the job: its tasks, edges and layers
    plan_step         one per step: what was planned, evicted, loaded and answered
    job_dag_summary   scores, times and memory of the whole job

Times are seconds since the job began. What was not measured is None, never 0.
"""

from __future__ import annotations

from typing import Any

from harness.routers.orchestration.estimates import Estimates
from harness.routers.orchestration.record import JobRun, StepRun
from harness.workflow.jobs.job import Job

__all__ = ["artifact", "dag_structure", "events", "job_dag_summary", "plan_step"]

_MEMORY = ("step_peak_bytes", "resident_peak_bytes", "transition_peak_bytes", "sum_distinct_bytes")


def events(run: JobRun) -> list[dict[str, Any]]:
    """All events of a job, in the order in which things happened."""
    steps = [plan_step(run, step) for step in run.steps]
    return [dag_structure(run.job), *steps, job_dag_summary(run)]


def dag_structure(job: Job) -> dict[str, Any]:
    """The job as planning sees it."""
    return {
        "event": "dag_structure",
        "job": job.id,
        "shape": job.shape,
        "nodes": [
            {"id": t.id, "type": t.type, "difficulty": t.difficulty, "num_tokens": t.num_tokens}
            for t in job.tasks
        ],
        "edges": [list(edge) for edge in job.edges],
        "layers": [[job.tasks[i].id for i in layer] for layer in job.graph.layers()],
    }


def plan_step(run: JobRun, step: StepRun) -> dict[str, Any]:
    """One step; what did not come about before a failure is None or empty."""
    return {
        "event": "plan_step",
        "job": run.job.id,
        "step": step.step,
        "window": step.window,
        "horizon": list(step.horizon),
        "ready": list(step.ready),
        "planner": run.planner,
        "plan_s": step.plan_s,
        **_decision(step),
        "violates": step.violates,
        "over_bytes": step.over_bytes,
        "assignment": dict(step.assignment),
        "replaced": step.replaced,
        "evicted": [name for change in step.changes for name in change.evicted],
        "loaded": [name for change in step.changes for name in change.loaded],
        "load_s": {name: s for change in step.changes for name, s in change.load_s.items()},
        "resident": list(step.changes[-1].resident if step.changes else step.resident_before),
        "resident_bytes": step.changes[-1].resident_bytes if step.changes else None,
        "step_bytes": step.step_bytes,
        "budget_bytes": step.budget_bytes,
        "began_s": step.began_s,
        "done_s": step.done_s,
        "exec": {
            task.task: {"model": task.model, "began_s": task.began_s, "done_s": task.done_s}
            for task in step.tasks
        },
    }


def job_dag_summary(run: JobRun) -> dict[str, Any]:
    """The job as a whole."""
    memory = run.memory
    return {
        "event": "job_dag_summary",
        "job": run.job.id,
        "shape": run.job.shape,
        "models": run.models,
        "scores": run.scores,
        "score": run.score,
        "wall_s": run.wall_s,
        **run.parts,
        "critical_path_s": run.critical_path_s,
        "planner_load_s": run.planner_load_s,
        "loads": run.num_loads,
        "prompt_tokens": run.prompt_tokens,
        "output_tokens": run.output_tokens,
        "token_cost": run.token_cost,
        **{name: None if memory is None else getattr(memory, name) for name in _MEMORY},
        "violations": run.num_violations,
        "num_steps": len(run.steps),
        "over_bytes": max((step.over_bytes for step in run.steps), default=0),
        "planner_status": run.statuses,
        "error": run.error,
    }


def artifact(run: JobRun, estimates: Estimates) -> dict[str, Any]:
    """What is kept of a job beside its events: who answered, and what was believed of the models after it."""
    return {
        "job": run.job.id,
        "assignments": run.models,
        "model_task_estimates": estimates.snapshot(),
        "load_s": {name: estimates.load_s(name) for name in estimates.models},
    }


def _decision(step: StepRun) -> dict[str, Any]:
    decision = step.decision
    certificate = None if decision is None else decision.plan.certificate
    return {
        "planner_status": None if decision is None else decision.status,
        "num_requests": None if decision is None else decision.num_requests,
        "complaint": None if decision is None else decision.complaint,
        "solver": None if certificate is None else certificate.solver,
        "objective": None if decision is None else decision.plan.objective,
        "bound": None if certificate is None else certificate.bound,
        "optimal": None if certificate is None else certificate.optimal,
        "fractional": None if certificate is None else certificate.fractional,
        "plan_violates": None if certificate is None else certificate.violates,
    }
