"""Strategies' tables: a comparison per model, what is recommended, and who wins at equal tokens.

The source prints a strategy comparison, results by model, and recommendations. Here the first is a table per
model, every number beside that of one greedy answer; the others are computed (`strategies_advice`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.experiments.routed_tables import Table
from reports.experiments.strategies import (
    ALL,
    EXPERIMENT,
    SINGLE,
    Cell,
    cells_of,
    families_of,
    split,
    tasks_of,
    troubles,
)
from reports.experiments.strategies_advice import MARGIN, Advice, Contest, advise, contests
from reports.intervals.estimates import rounds_log_ratio
from reports.records import Record
from reports.stats import Interval, Unsupported, as_ratio
from reports.tabular import cells
from reports.tabular.cells import ABSENT
from reports.tabular.means import Estimate, of_rounds, unit_notes

__all__ = ["advice_table", "advised", "comparison", "contest_table", "tables"]

PERCENT = cells.scale_of("share", ())
TITLES = (
    "strategy", "tokens", "latency", "tok/s", "success", "solved %", "− single", "× tokens", "× time",
    "/solved",
)  # fmt: skip
NOTES = (
    "solved: tasks whose chosen answer passes every hidden test, or is right; − single: paired difference to "
    "one greedy answer of the same model, in points; 95 % intervals",
    "tokens: read and written per task, as the server counted them; success: tasks without a failed call, "
    "whatever was answered; latency, tok/s, × time: of the timed rounds, × paired with one greedy answer",
    "/solved: cost of all tasks ÷ solved ones, by price or engine time and the verifier's",
)
ADVICE = ("model", "tasks", "use", "solved %", "− single", "× tokens", "decided")
ADVICE_NOTES = (
    "use: from the cheapest strategy, by tokens, on to the cheapest one that is certain to solve more, until "
    "none is; all comparisons with one strategy hold together at 95 % (Bonferroni), the intervals here too",
    "strategies that ask another model too are not compared here: a token of that one costs something else",
    f"decided: no dearer strategy may still gain {100 * MARGIN:.0f} points over it",
)
CONTEST = ("best of 8 of", "solved %", "tokens", "against", "− its majority of 8", "− its single", "× tokens")
CONTEST_NOTES = (
    "At equal tokens, eight answers each: the chosen one of a model against the vote of one that solves more "
    "alone; × tokens: against that one's single answer. Equal tokens are not equal seconds: a token of a "
    "larger model costs more.",
)


def tables(records: Iterable[Record], *, is_whole: bool = False) -> list[Table]:
    """The tables of the experiment; none where no strategy ran.

    is_whole: every number with its interval, whatever the width; families beside all tasks.
    """
    records = [r for r in records if r.experiment == EXPERIMENT]
    models = dict.fromkeys(cell.model for cell in cells_of(records))
    out = [comparison(records, model, is_whole=is_whole) for model in models]
    if out:
        graded = [r for r in records if tasks_of(r)]
        out[-1] = out[-1]._replace(notes=(*out[-1].notes, *NOTES, *unit_notes(graded)))
    families = families_of(records) if is_whole else (ALL,)
    found = [one for family in families for one in advise(records, family)]
    if found:
        out.append(advice_table(found, is_whole=is_whole))
    if rivals := [one for family in families for one in contests(records, family)]:
        out.append(contest_table(rivals))
    if batched := [r for r in records if not r.tasks and r.values("answers_per_s")]:
        out.append(_batched(batched))
    return out


def comparison(records: Sequence[Record], model: str, *, is_whole: bool = True) -> Table:
    """One model's strategies over all tasks, `single` first."""
    mine = {split(r)[1]: r for r in records if split(r)[0] == model and r.tasks}
    found = sorted((c for c in cells_of(records) if c.model == model), key=lambda c: c.strategy != SINGLE)
    rows = [_row(cell, mine[cell.strategy], 2 if is_whole else 1) for cell in found]
    failed = [
        f"{name}: failures: {len(r.failures)}, the first: {r.failures[0].error}"
        for name, r in mine.items()
        if r.failures
    ] + [f"{name}: {trouble}" for name, r in mine.items() for trouble in troubles(r)]
    return Table(_scope(model, list(mine.values()), found), (TITLES, *rows), tuple(failed))


def advice_table(found: Sequence[Advice], *, is_whole: bool = True) -> Table:
    """What to use on each model and family, and whether that is decided: in its row, or beneath."""
    rows = [
        (
            one.model,
            f"{one.family}, {one.n}",
            one.strategy,
            cells.number(PERCENT(one.solved)),
            _points(one.gain),
            cells.with_unit(cells.number(one.tokens_times), "×"),
            advised(one) if is_whole else "yes" if one.rival is None else "no",
        )
        for one in found
    ]
    beneath = [f"{one.model}: {_rival(one)}" for one in found if one.rival is not None and not is_whole]
    return Table("recommendation by model", (ADVICE, *rows), (*beneath, *ADVICE_NOTES))


def advised(one: Advice) -> str:
    """Whether a recommendation is decided; if not, what may be better, and how many tasks would tell."""
    return "yes" if one.rival is None else f"no: {_rival(one)}"


def _rival(one: Advice) -> str:
    gain, margin = _points(one.rival_gain), f"{100 * MARGIN:.0f} points"
    return f"{one.rival} may gain {margin}, measured {gain}; about {one.tasks_needed} tasks would tell"


def contest_table(found: Sequence[Contest]) -> Table:
    """Best of eight of a model beside a better one at as many tokens, and at one answer."""
    rows = []
    for one in found:
        times = None if one.tokens is None or not one.single_tokens else one.tokens / one.single_tokens
        rows.append(
            (
                one.model if one.family == ALL else f"{one.model}, {one.family}",
                cells.number(PERCENT(one.best)),
                cells.number(one.tokens),
                one.larger if one.vote_tokens is None else f"{one.larger} ({cells.number(one.vote_tokens)})",
                _points(one.over_vote),
                _points(one.over_single),
                cells.with_unit(cells.number(times), "×"),
            )
        )
    return Table("equal tokens", (CONTEST, *rows), CONTEST_NOTES)


def _row(cell: Cell, record: Record, digits: int) -> tuple[str, ...]:
    latency, speed = of_rounds(record, "task_s"), of_rounds(record, "tokens_per_s")
    failed = [v for task in tasks_of(record) if (v := task.treatment.get("failed")) is not None]
    per_solved = cells.scale_of("USD", [cell.cost_per_solved_usd])
    return (
        cell.strategy,
        cells.number(cell.tokens),
        _latency(latency),
        cells.number(speed.value, speed.interval, digits=1),
        cells.with_unit(cells.number(100 * (1 - sum(failed) / len(failed))), "%") if failed else ABSENT,
        _share(cell.solved, digits),
        _points(cell.gain, digits),
        _times(cell.tokens_times),
        _times(cell.time_times),
        cells.with_unit(cells.number(per_solved(cell.cost_per_solved_usd)), per_solved.unit),
    )


def _latency(found: Estimate) -> str:
    scale = cells.scale_of("s", [found.value])
    return cells.with_unit(cells.plus_minus(scale(found.value), scale.interval(found.interval)), scale.unit)


def _share(found: Interval | None, digits: int) -> str:
    if found is None:
        return ABSENT
    value, ends = PERCENT(found.estimate), PERCENT.interval((found.low, found.high))
    return f"{cells.number(value, ends, digits)} {cells.interval_text(value, ends, digits)}"


def _points(found: Interval | None, digits: int = 2) -> str:
    return _share(found, digits)


def _times(found: Interval | None) -> str:
    return ABSENT if found is None else f"{cells.number(found.estimate, (found.low, found.high), 1)}×"


def _batched(records: Sequence[Record]) -> Table:
    """Eight answers in one request beside eight requests."""
    rows = [("model", "one request", "one by one", "times as fast")]
    for record in records:
        ratio = rounds_log_ratio(("total_s",), record)
        found = None if isinstance(ratio, Unsupported) else as_ratio(ratio, inverse=True)
        rows.append(
            (
                split(record)[0],
                _latency(of_rounds(record, "total_s")),
                _latency(of_rounds(record, "total_s", "control")),
                ABSENT if found is None else cells.estimate(found.estimate, (found.low, found.high), "×"),
            )
        )
    notes = unit_notes(records) or ["95 % intervals over paired rounds"]
    return Table("eight answers in one request, per round", tuple(rows), tuple(notes))


def _scope(model: str, records: Sequence[Record], found: Sequence[Cell]) -> str:
    first = records[0]
    left_out = dict.fromkeys(str(r.settings["left_out"]) for r in records if "left_out" in r.settings)
    parts = [
        f"{model} = {first.models.get(model, model)}",
        f"tasks graded: {max(cell.n for cell in found)}",
        f"timed: {first.settings.get('tasks', '?')}, in {max(len(r.rounds) for r in records)} rounds",
        f"profile {first.profile}",
        " and ".join(dict.fromkeys(r.evidence for r in records)),
        *(f"left out: {why}" for why in left_out),
    ]
    return " · ".join(parts)
