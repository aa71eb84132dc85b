"""One run of a job as a Gantt chart: who answered, loaded and planned when, and the memory beneath it.

Evicting precedes loading and loads follow each other, so a step's loads are drawn one after another up to its
first answer. Trap: what a refused plan would have needed is not in use; it is drawn above the budget as an
empty hatched box, never as part of the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reports.experiments.telemetry import Answer, Step, Trace
from reports.figures import base
from reports.tabular import cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

__all__ = ["PLANNING", "bars", "bytes_scale", "in_use", "key", "memory"]

PLANNING = "planning"
VIOLATION = base.PALETTE[1]
TASKS = (base.PALETTE[0], base.PALETTE[2], base.PALETTE[4], base.PALETTE[3], base.PALETTE[5], base.PALETTE[6])
LETTERS = {"fallback": "F", "repaired": "R"}
"""A planning model's status → its mark; a first answer that held has none."""
HEIGHT = 0.66
"""Of a bar, in rows."""
NARROW = 0.05
"""Share of the axis that a task's name takes; a narrower bar has its colour alone."""
LOADING: dict[str, Any] = {"facecolor": "white", "edgecolor": base.GREY, "hatch": "////", "linewidth": 0.6}
RESIDENT: dict[str, Any] = {"color": "#b5b5b5", "linewidth": 2, "solid_capstyle": "butt", "zorder": 1}
CROSS: dict[str, Any] = {
    "linestyle": "none",
    "marker": "X",
    "markersize": 9,
    "color": VIOLATION,
    "markeredgecolor": base.INK,
}
REFUSED: dict[str, Any] = {
    "facecolor": "none",
    "edgecolor": VIOLATION,
    "hatch": "xxx",
    "linewidth": 1.0,
    "linestyle": "--",
}


class Load(NamedTuple):
    """A model being loaded."""

    model: str
    began_s: float
    done_s: float


def bars(axes: Axes, trace: Trace, models: Sequence[str], tasks: Sequence[str], scale: cells.Scale) -> None:
    """A row for planning and one per model, with what each did when.

    tasks: the tasks of the job in the order of their colours. The axis of time must have its limits.
    """
    rows = {model: row for row, model in enumerate(models, start=1)}
    ends = [step.planning_s[1] for step in trace.steps[1:]] + [trace.steps[-1].done_s]
    _before(axes, trace.steps[0], rows, scale)
    for step, end in zip(trace.steps, ends, strict=True):
        for model in step.resident:
            span = [scale.factor * step.planning_s[1], scale.factor * end]
            axes.plot(span, [rows[model]] * 2, **RESIDENT)
        _planning(axes, step, scale)
        loads = list(_loads(step))
        at = scale.factor * (loads[0].began_s if loads else step.planning_s[1])
        for model in step.evicted:
            axes.plot([at], [rows[model]], marker="v", markersize=6, color=base.INK, markerfacecolor="white")
        for load in loads:
            width = scale.factor * (load.done_s - load.began_s)
            axes.barh(rows[load.model], width, HEIGHT, left=scale.factor * load.began_s, **LOADING)
        for answer, lane, num_lanes in _lanes(step.answers):
            _answer(axes, answer, rows[answer.model], lane / num_lanes, 1 / num_lanes, tasks, scale)
    axes.set_yticks(range(len(models) + 1), [PLANNING, *models])
    axes.set_ylim(len(models) + 0.5, -0.75)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=False)


def _before(axes: Axes, first: Step, rows: Mapping[str, int], scale: cells.Scale) -> None:
    """What the job before left loaded, and the planning model, up to the first plan."""
    left = {*first.evicted, *first.resident} - set(first.loaded)
    if first.planner is not None and first.planning_bytes is not None:
        left.add(first.planner)
    for model in sorted(left & rows.keys()):
        axes.plot([0, scale.factor * first.planning_s[1]], [rows[model]] * 2, **RESIDENT)


def memory(axes: Axes, trace: Trace, times: cells.Scale, sizes: cells.Scale, top: float) -> None:
    """Bytes resident as a line of steps, the budget above it, and what refused plans would have needed.

    top: the upper end of the axis, in bytes.
    """
    if found := list(in_use(trace)):
        xs = [times.factor * at for at, _ in found]
        ys = [sizes.factor * held for _, held in found]
        axes.plot(xs, ys, drawstyle="steps-post", color=base.PALETTE[0], linewidth=1.6)
        axes.fill_between(xs, ys, step="post", color=base.PALETTE[0], alpha=0.13, linewidth=0)
    budget = next((s.budget_bytes for s in trace.steps if s.budget_bytes is not None), None)
    if budget is not None:
        axes.axhline(sizes.factor * budget, color=base.INK, linewidth=1.1, linestyle=(0, (5, 2)))
        for step in trace.steps:
            if step.violates:
                _refused(axes, step, budget, times, sizes)
    axes.set_ylim(0, sizes.factor * top)


def in_use(trace: Trace) -> Iterator[tuple[float, int]]:
    """(seconds, bytes resident from then on), from the job's beginning to its end.

    A model's room is taken when its load begins: the planning model's with the step, the others' when the
    step is planned. Where a writer does not say what was loaded before the job, nothing was.
    """
    held = trace.steps[0].before_bytes or 0
    yield 0.0, held
    for step in trace.steps:
        held = held if step.before_bytes is None else step.before_bytes
        held = held if step.planning_bytes is None else step.planning_bytes
        yield step.began_s, held
        held = held if step.resident_bytes is None else step.resident_bytes
        yield step.planning_s[1], held
    yield trace.steps[-1].done_s, held


def key(tasks: Sequence[str], traces: Sequence[Trace]) -> list[Line2D | Patch]:
    """What the marks mean, those that occur."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    steps = [step for trace in traces for step in trace.steps]
    out: list[Line2D | Patch] = [
        Patch(facecolor=_faded(colour), edgecolor=colour, label=f"answers {task}")
        for task, colour in zip(tasks, TASKS, strict=False)
    ]
    out += [Patch(**LOADING, label="loading"), Line2D([], [], label="loaded", **RESIDENT)]
    point: dict[str, Any] = {"linestyle": "none", "color": base.INK, "markersize": 6.5}
    if any(s.evicted for s in steps):
        out += [Line2D([], [], marker="v", markerfacecolor="white", label="evicted", **point)]
    out += [Line2D([], [], marker="|", label="planned", **point)]
    out += [
        Line2D([], [], marker=f"${letter}$", label=word, **point)
        for word, letter in LETTERS.items()
        if any(s.status == word for s in steps)
    ]
    out += [Line2D([], [], color=base.PALETTE[0], linewidth=1.6, label="memory in use")]
    out += [Line2D([], [], color=base.INK, linewidth=1.1, linestyle=(0, (5, 2)), label="budget")]
    if any(s.violates for s in steps):
        out += [Line2D([], [], label="plan does not fit", **CROSS), Patch(**REFUSED, label="what it lacked")]
    return out


def bytes_scale(largest: float) -> cells.Scale:
    """The decimal unit in which `largest` bytes read as a number of at least 1."""
    steps = ((1e-9, "GB"), (1e-6, "MB"), (1e-3, "kB"))
    return next((cells.Scale(f, unit) for f, unit in steps if largest * f >= 1), cells.Scale(1, "B"))


def _planning(axes: Axes, step: Step, scale: cells.Scale) -> None:
    began, ended = (scale.factor * at for at in step.planning_s)
    axes.plot([began], [0], marker="|", markersize=8, markeredgewidth=1.4, color=base.INK)
    axes.barh(0, ended - began, 0.4, left=began, color=base.INK, linewidth=0)
    if step.status in LETTERS:
        axes.annotate(
            LETTERS[step.status],
            ((began + ended) / 2, 0),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
        )
    if step.violates:
        axes.plot([ended], [0], zorder=5, **CROSS)


def _loads(step: Step) -> Iterator[Load]:
    """A step's loads: the planning model's before it plans, the others up to the first answer."""
    known = {model: step.load_s.get(model) or 0.0 for model in step.loaded}
    if step.planner in known:
        yield Load(step.planner, step.began_s, step.began_s + known.pop(step.planner))
    whole = sum(known.values())
    at = min((a.began_s for a in step.answers), default=step.planning_s[1] + whole) - whole
    for model, taken in known.items():
        yield Load(model, at, at + taken)
        at += taken


def _lanes(answers: Sequence[Answer]) -> Iterator[tuple[Answer, int, int]]:
    """Each answer with its lane and its model's number of lanes, so that none covers another."""
    by_model: dict[str, list[list[Answer]]] = {}
    for answer in sorted(answers, key=lambda a: a.began_s):
        lanes = by_model.setdefault(answer.model, [])
        free = next((lane for lane in lanes if lane[-1].done_s <= answer.began_s), None)
        if free is None:
            lanes.append([answer])
        else:
            free.append(answer)
    for lanes in by_model.values():
        yield from ((answer, at, len(lanes)) for at, lane in enumerate(lanes) for answer in lane)


def _answer(
    axes: Axes,
    answer: Answer,
    row: int,
    place: float,
    share: float,
    tasks: Sequence[str],
    scale: cells.Scale,
) -> None:
    colour = TASKS[tasks.index(answer.task) % len(TASKS)]
    left, width = scale.factor * answer.began_s, scale.factor * (answer.done_s - answer.began_s)
    y = row + HEIGHT * (place + share / 2 - 0.5)
    axes.barh(
        y, width, 0.94 * HEIGHT * share, left=left, facecolor=_faded(colour), edgecolor=colour, linewidth=0.9
    )
    low, high = axes.get_xlim()
    if width < NARROW * (high - low):
        return
    middle = left + width * (place + share / 2)  # aside, so that names in narrow lanes stay apart
    axes.text(middle, y, answer.task, ha="center", va="center", fontsize=7, clip_on=True)


def _refused(axes: Axes, step: Step, budget: float, times: cells.Scale, sizes: cells.Scale) -> None:
    from matplotlib.patches import Rectangle

    left, right = times.factor * step.began_s, times.factor * step.done_s
    over = sizes.factor * step.over_bytes
    corner = (left, sizes.factor * budget)
    axes.add_patch(Rectangle(corner, right - left, over, **REFUSED))
    low, high = axes.get_xlim()
    if right - left >= 1.4 * NARROW * (high - low):
        middle = ((left + right) / 2, corner[1] + over)
        text = f"+{cells.number(over)}"
        axes.annotate(text, middle, (0, 2), textcoords="offset points", ha="center", fontsize=7.5)


def _faded(colour: str) -> tuple[float, float, float]:
    """The colour on white paper, light enough for dark letters."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - 0.38 * (1 - part) for part in to_rgb(colour))
    return red, green, blue
