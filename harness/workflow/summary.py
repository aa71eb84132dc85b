"""The numbers of one run of a workflow over several tasks.

All times in seconds. Means are over tasks that finished; a task that failed counts in no mean and is listed
as a failure, and a number that no task could give is `None`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from harness.models import prices
from harness.workflow.attribution import PARTS, attribute
from harness.workflow.cost import SECONDS_PER_HOUR
from harness.workflow.executor import TaskRun
from harness.workflow.workload import Workload

__all__ = ["failures", "summarize", "tally", "total"]

Values = dict[str, float | None]


def summarize(workload: Workload, runs: Sequence[TaskRun]) -> Values:
    """Reduce the runs of one arm in one round.

    Returns total_s (first start to last end), task_s, critical_path_s, route_s, `<stage>_s` and the parts of
    `attribution.PARTS`, each a mean per task; prompt_tokens, output_tokens and cost_usd, each a sum.
    """
    needs = {stage.name: stage.needs for stage in workload.stages}
    good = [run for run in runs if run.error is None]
    accounts = [attribute(run, needs) for run in good]
    values: Values = {
        "total_s": max(run.done_s for run in runs) - min(run.intended_s for run in runs),
        "task_s": _mean(run.wall_s for run in good),
        "critical_path_s": _mean(
            sum(run.stages[s].wall_s for s in a.critical_path) for run, a in zip(good, accounts, strict=True)
        ),
        "route_s": _mean(sum(stage.route_s for stage in run.stages.values()) for run in good),
        "unaccounted_share": _mean(abs(a.unaccounted_s) / a.wall_s for a in accounts),
    }
    for stage in workload.stages:
        values[f"{stage.name}_s"] = _mean(run.stages[stage.name].wall_s for run in good)
    for part in PARTS:
        values[part] = _mean(account.parts[part] for account in accounts)
    return values | tally(runs)


def tally(runs: Sequence[TaskRun]) -> Values:
    """Tokens as the server counted them; cost of every request and of the router's seconds on a vCPU."""
    attempts = [attempt for run in runs for attempt in run.attempts]
    router_s = sum(stage.route_s + stage.review_s for run in runs for stage in run.stages.values())
    usd_per_s = prices().compute["vcpu"].usd_per_hour / SECONDS_PER_HOUR
    return {
        "prompt_tokens": total(a.completion.prompt_tokens for a in attempts),
        "output_tokens": total(a.completion.output_tokens for a in attempts),
        "cost_usd": total([*(a.usd for a in attempts), router_s * usd_per_s]),
    }


def failures(runs: Iterable[TaskRun]) -> list[tuple[str, str]]:
    """(task, what happened) of every task that did not finish."""
    return [(run.task_id, run.error) for run in runs if run.error is not None]


def total(values: Iterable[float | None]) -> float | None:
    """The sum, or `None` when a summand is unknown: a sum that leaves something out is no sum."""
    known = list(values)
    return None if any(v is None for v in known) else float(sum(v for v in known if v is not None))


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None
