"""What routers did with one job of each shape: a Gantt chart with resident memory against the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reports.experiments import jobs
from reports.experiments.telemetry import GRADED, ROUND, Trace, read
from reports.figures import curves, gantt
from reports.runs import Run
from reports.tabular import cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SHOWN", "Data", "data", "draw"]

SHOWN = ("lp", "sequential", "planner")
"""The routers of the figure: the source's, ours, and a model that plans."""
MOST_SHAPES = 3
KEY_COLUMNS = 6
MEMORY = 0.85
"""Inches of a panel of memory."""


class Graded(NamedTuple):
    """A job's score, and by which models: a grading goes its own way where what is loaded differs."""

    score: float
    models: Mapping[str, str] | None


class Data(NamedTuple):
    """What the figure shows."""

    title: str
    scope: str
    variants: tuple[str, ...]
    shapes: tuple[str, ...]
    traces: Mapping[tuple[str, str], Trace]
    """(variant, shape) → the job's run."""
    scores: Mapping[tuple[str, str], Graded]
    """(variant, job) → the job's grading."""
    stand_ins: frozenset[str]
    """Variants that planned without the model they stand for."""
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    notes: tuple[str, ...]


def data(run: Run, experiment: str) -> Data | None:
    """One whole run of one job per shape and router; None where telemetry has none.

    Raises
    ------
    JournalError: the run's telemetry cannot be read.
    """
    records = [r for r in run.records if r.experiment == experiment and r.variant in SHOWN]
    told = [t for t in read(run.path) if t.variant in SHOWN]
    traces = [t for t in told if t.phase == ROUND and t.is_whole]
    if not records or not traces:
        return None
    variants = tuple(v for v in SHOWN if any(t.variant == v for t in traces))
    shapes = tuple(sorted({t.shape for t in traces}))[:MOST_SHAPES]
    chosen: dict[tuple[str, str], Trace] = {}
    for shape in shapes:
        job = _job([t for t in traces if t.shape == shape], variants)
        for t in traces:
            if (t.shape, t.job) == (shape, job):
                chosen.setdefault((t.variant, shape), t)
    shown = list(chosen.values())
    first = records[0]
    scope = " · ".join((first.backend, f"profile {first.profile}", first.evidence))
    notes = (
        "Of each shape the first job for which a router here made a plan that does not fit, else the first; "
        "its first timed run; scores are those of its grading.",
        "Models stay loaded from one job to the next. A plan that does not fit is refused, and the greedy "
        "plan that fits runs in its place.",
    )
    title = f"{experiment}: one job of each shape, by router"
    return Data(
        title=title,
        scope=scope,
        variants=variants,
        shapes=shapes,
        traces=chosen,
        scores=_scores(told),
        stand_ins=jobs.stand_ins(records),
        models=_models(shown),
        tasks=_tasks(shown),
        notes=notes,
    )


def _scores(traces: Sequence[Trace]) -> dict[tuple[str, str], Graded]:
    """Of gradings; of rounds where a writer told no phases."""
    known = [(t, t.summary) for t in traces if t.summary and t.summary.get("score") is not None]
    known.sort(key=lambda k: k[0].phase == GRADED)
    return {(t.variant, t.job): Graded(told["score"], told.get("models")) for t, told in known}


def _job(traces: Sequence[Trace], variants: Sequence[str]) -> str:
    """The job to show, of those that most routers ran."""
    ran: dict[str, set[str]] = {}
    for trace in traces:
        ran.setdefault(trace.job, set()).add(trace.variant)
    most = max(len(names) for names in ran.values())
    jobs = [job for job, names in ran.items() if len(names) == most]
    bad = {t.job for t in traces if t.variant in variants and any(s.violates for s in t.steps)}
    return next((job for job in jobs if job in bad), jobs[0])


def _models(traces: Sequence[Trace]) -> tuple[str, ...]:
    return tuple(
        sorted(
            {
                model
                for trace in traces
                for step in trace.steps
                for model in (*step.loaded, *step.evicted, *step.resident, *(a.model for a in step.answers))
            }
        )
    )


def _tasks(traces: Sequence[Trace]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(task for trace in traces for task in trace.types))


def draw(data: Data) -> Figure:
    """A column per shape; per router a Gantt chart and, beneath it, memory."""
    from reports.figures import base

    heights = [0.26 * (len(data.models) + 1) + 0.32, MEMORY]
    keys = gantt.key(data.tasks, list(data.traces.values()))
    key_height = 0.24 * -(-len(keys) // KEY_COLUMNS)
    whole = key_height + sum(heights) * len(data.variants) + 0.85
    figure, _ = base.frame(whole, data.title, data.scope, data.notes)
    grid = figure.add_gridspec(
        2 * len(data.variants) + 1,
        len(data.shapes),
        height_ratios=[key_height, *heights * len(data.variants)],
    )
    top = figure.add_subplot(grid[0, :])
    top.set_axis_off()
    curves.place_key(top, keys, KEY_COLUMNS)
    steps = [s for t in data.traces.values() for s in t.steps]
    held = [b or 0 for s in steps for b in (s.before_bytes, s.planning_bytes, s.resident_bytes)]
    largest = float(max([*held, *((s.budget_bytes or 0) + s.over_bytes for s in steps)]))
    for column, shape in enumerate(data.shapes):
        mine = {v: t for v in data.variants if (t := data.traces.get((v, shape))) is not None}
        times = cells.scale_of("s", [t.steps[-1].done_s for t in mine.values()])
        end = max(t.steps[-1].done_s for t in mine.values()) * times.factor
        for row, variant in enumerate(data.variants):
            above = figure.add_subplot(grid[2 * row + 1, column])
            beneath = figure.add_subplot(grid[2 * row + 2, column], sharex=above)
            if variant not in mine:
                _absent(above, beneath, _name(variant, data))
                continue
            above.set_xlim(-0.015 * end, 1.03 * end)
            _cell(above, beneath, mine[variant], data, times, largest)
            if row == 0:
                above.set_title(f"{_heading(mine[variant])}\n{above.get_title(loc='left')}", loc="left")
            if column:
                above.tick_params(axis="y", labelleft=False)
                beneath.tick_params(axis="y", labelleft=False)
                beneath.set_ylabel("")
            beneath.set_xlabel(f"{times.unit} since the job began" if row == len(data.variants) - 1 else "")
    return figure


def _cell(above: Axes, beneath: Axes, trace: Trace, data: Data, times: cells.Scale, largest: float) -> None:
    gantt.bars(above, trace, data.models, data.tasks, times)
    sizes = gantt.bytes_scale(largest)
    gantt.memory(beneath, trace, times, sizes, 1.25 * largest)
    beneath.set_ylabel(sizes.unit)
    above.grid(visible=False, axis="y")
    above.set_title(_caption(trace, data), loc="left", fontsize=8.5)


def _absent(above: Axes, beneath: Axes, variant: str) -> None:
    for axes in (above, beneath):
        axes.set_axis_off()
    above.set_title(f"{variant}: did not run it", loc="left", fontsize=8.5)


def _heading(trace: Trace) -> str:
    """The job and its tasks, those that run at once joined by ‖."""
    layers = [" ‖ ".join(trace.types.get(a.task, a.task) for a in step.answers) for step in trace.steps]
    return f"{trace.job}\n{' → '.join(layers)}"


def _name(variant: str, data: Data) -> str:
    return f"{variant} (stand-in)" if variant in data.stand_ins else variant


def _caption(trace: Trace, data: Data) -> str:
    """The router, how the job scored and how long it took."""
    told = trace.summary or {}
    graded, wall_s = data.scores.get((trace.variant, trace.job)), told.get("wall_s")
    parts = [_name(trace.variant, data)]
    if graded is not None and graded.models == told.get("models"):
        parts += [f"score {cells.number(100 * graded.score)} %"]
    elif graded is not None:
        parts += ["graded on other models"]
    parts += [cells.estimate(wall_s, None, "s")] if wall_s is not None else []
    return " · ".join(parts)
