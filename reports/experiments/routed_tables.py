"""Routing's tables: routers beside the planner, plans that nothing ran, and where the curves stand.

    routed    a record with graded tasks and a point per job: a row, its score beside its control's
    planned   a record of plans alone (`*-plans`, `published-*`): a row of another table
    curves    a record of points along a parameter: named in one line

Traps: the rounds time a few jobs, the grading takes all of them once, so `loads` is of the grading and times
are of the rounds; a job is the unit of every interval over tasks; what was not measured is "–".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from reports.experiments import jobs
from reports.records import Record
from reports.tabular import cells
from reports.tabular.cells import ABSENT
from reports.tabular.means import Estimate, of_rounds, unit_notes

__all__ = ["Table", "kind_of", "tables_of"]

PERCENT = cells.scale_of("share", ())
PLAIN = cells.scale_of("", ())
ROUNDING = 1e-6
"""An interval no wider than this share of its value is arithmetic's, not the rounds'."""
UNBOUNDED = ("value", "regret", "loads")


class Table(NamedTuple):
    """A heading, rows, the columns' titles first, and notes."""

    scope: str
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


class Arm(NamedTuple):
    """One side of a record."""

    record: Record
    side: str

    @property
    def points(self) -> list[Any]:
        """What is known of each graded job."""
        return list(jobs.points(self.record, self.side).values())

    def graded(self, metric: str) -> Estimate:
        """The mean over tasks, its interval by jobs."""
        span = None if metric in UNBOUNDED else (0.0, 1.0)
        return jobs.graded(self.record, metric, self.side, span)

    def timed(self, metric: str) -> Estimate:
        """The mean over rounds, or over merged sessions of what stays up for one."""
        return of_rounds(self.record, metric, self.side)

    def total(self, key: str) -> float | None:
        """The mean of a number over the graded jobs."""
        known = [float(p[key]) for p in self.points if p.get(key) is not None]
        return sum(known) / len(known) if known else None

    @property
    def over_share(self) -> float | None:
        """Steps whose plan did not fit, of all steps."""
        known = [
            (v, n)
            for p in self.points
            if (v := p.get("violations")) is not None and (n := p.get("num_steps"))
        ]
        return sum(v for v, _ in known) / sum(n for _, n in known) if known else None

    @property
    def statuses(self) -> str:
        """How a model's plans came to be: "98 % valid, 2 % repaired, 0 % fallback"; empty where none did."""
        found: Counter[str] = Counter()
        for point in self.points:
            found.update(point.get("planner_status") or {})
        if not found.keys() - {"computed"}:
            return ""
        words = dict.fromkeys(("valid", "repaired", "fallback", *found))
        return ", ".join(f"{100 * found[w] / found.total():.0f} % {w}" for w in words)


def kind_of(record: Record) -> str | None:
    """ "routed", "planned" or "curves"; None for a record of another kind."""
    if any("regret" in t.treatment or "as_published" in t.treatment for t in record.tasks):
        return "planned"
    if any("along" in p for p in record.sweep):
        return "curves"
    if jobs.points(record) and any("score" in t.treatment for t in record.tasks):
        return "routed"
    return None


def tables_of(records: Iterable[Record], *, is_whole: bool = False) -> list[Table]:
    """The tables of one experiment; none where it routed nothing.

    is_whole: every number with its interval, whatever the width.
    """
    by_kind: dict[str | None, list[Record]] = {}
    for record in records:
        by_kind.setdefault(kind_of(record), []).append(record)
    out = [_routed(group, is_whole=is_whole) for group in _alike(by_kind.get("routed", []))]
    out += [table for group in _alike(by_kind.get("planned", [])) for table in _planned(group)]
    if curves := by_kind.get("curves"):
        out.append(_curves(curves))
    return out


def _alike(records: Sequence[Record]) -> list[list[Record]]:
    """Numbers of different engines and profiles never stand in one table."""
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for r in records:
        groups.setdefault((r.experiment, r.profile, r.backend, r.evidence), []).append(r)
    return list(groups.values())


def _routed(records: Sequence[Record], *, is_whole: bool) -> Table:
    arms = list(_arms(records).items())
    digits = 2 if is_whole else 1
    times = cells.scale_of("s", [arm.timed("job_s").value for _, arm in arms])
    planning = cells.scale_of("s", [arm.timed("plan_s").value for _, arm in arms])
    titles = (
        "variant", "score %", "− control", "right %", "over %", "loads",
        f"job {times.unit}", "control", f"plan {planning.unit}",
    )  # fmt: skip
    rows = [titles]
    for name, arm in arms:
        record, is_own = arm.record, arm.side == "treatment"
        control = Arm(record, "control")
        has_control = is_own and record.control is not None
        rows.append(
            (
                name,
                _cell(arm.graded("score"), PERCENT, digits),
                _beside(record, digits) if has_control else ABSENT,
                _bare(arm.graded("right"), PERCENT, digits, is_whole=is_whole),
                cells.number(PERCENT(arm.over_share)),
                cells.number(arm.total("loads")),
                _spread(arm.timed("job_s"), times),
                _bare(control.timed("job_s"), times, digits, is_whole=is_whole) if has_control else ABSENT,
                _bare(arm.timed("plan_s"), planning, digits, is_whole=is_whole),
            )
        )
    return Table(_scope(records), tuple(rows), tuple(_notes(arms)))


def _arms(records: Sequence[Record]) -> dict[str, Arm]:
    """Router → its own record, or the control arm of the first that has it beside it; controls first."""
    own = {r.variant: Arm(r, "treatment") for r in records}
    beside: dict[str, Arm] = {}
    for r in records:
        if r.control is not None and any(t.control for t in r.tasks):
            beside.setdefault(r.control, own.get(r.control, Arm(r, "control")))
    return beside | {name: arm for name, arm in own.items() if name not in beside}


def _beside(record: Record, digits: int) -> str:
    """The paired difference of scores; in words where both arms had the same models answer everything."""
    same = [v for t in record.tasks if (v := t.treatment.get("same_model")) is not None]
    if same and all(same):
        return "same models"
    return _cell(_difference(record, "score"), PERCENT, digits)


def _difference(record: Record, metric: str) -> Estimate:
    gaps = [
        (t.id, a - b)
        for t in record.tasks
        if t.control is not None
        if (a := t.treatment.get(metric)) is not None and (b := t.control.get(metric)) is not None
    ]
    is_share = all(gap in (-1, 0, 1) for _, gap in gaps)
    return jobs.by_job(record, gaps, (-1.0, 1.0) if is_share else None)


def _notes(arms: Sequence[tuple[str, Arm]]) -> list[str]:
    controls = dict.fromkeys(a.record.control for _, a in arms if a.side == "treatment" and a.record.control)
    names = ", ".join(controls) or "none"
    notes = [
        f"score, right, over, loads: of the graded jobs, one after another, so that models stay loaded; "
        f"− control: paired difference of scores in points; control: {names}; intervals: 95 %, by jobs",
        "over: steps whose plan does not fit the budget; job, plan: of the timed rounds, per job, "
        "± half of the 95 % interval; control beside job: its time in the same rounds",
    ]
    notes += unit_notes(a.record for _, a in arms)
    if all(a.timed("plan_s").value is None for _, a in arms):
        notes += ["plan: not timed, since time is simulated"]
    told = [(n, s, n in jobs.stand_ins([a.record])) for n, a in arms if (s := a.statuses)]
    notes += [
        f"{n}{' (a stand-in, no model)' if is_stand_in else ''}: its plans were {s}"
        for n, s, is_stand_in in told
    ]
    for name, arm in arms:
        failed = [f for f in arm.record.failures if f.arm == arm.side]
        notes += [f"{name}: failures: {len(failed)}, the first: {failed[0].error}"] if failed else []
    return notes


def _scope(records: Sequence[Record]) -> str:
    first, settings = records[0], records[0].settings
    graded, timed = settings.get("jobs"), settings.get("timed_jobs")
    num_rounds = max(sum(r.treatment is not None for r in one.rounds) for one in records)
    rounds = f"{num_rounds} round{'' if num_rounds == 1 else 's'}"
    models = dict.fromkeys(f"{role} = {model}" for r in records for role, model in r.models.items())
    budget = settings.get("budget_gb")
    parts = [
        first.backend if first.backend != first.evidence else "",
        ", ".join(models),
        f"budget {budget:g} GB" if budget is not None else "",
        f"{graded} jobs graded ({len(first.tasks)} tasks)" if graded is not None else "",
        f"{rounds} of {len(timed)} jobs timed" if timed else rounds,
        f"profile {first.profile}",
        first.evidence,
    ]
    return " · ".join(part for part in parts if part)


def _planned(records: Sequence[Record]) -> list[Table]:
    """Plans that were computed and not run: of seeded streams, and of the published jobs."""
    is_published = {id(r): any("as_published" in t.treatment for t in r.tasks) for r in records}
    first = records[0]
    scope = f"plans computed on published constants, no model ran · profile {first.profile}"
    note = "value: per job; over: jobs with a plan over the budget"
    regret = "; regret: per job, against the offline optimum of its stream"
    parts = (("streams of jobs", False), ("the published jobs", True))
    groups = [(words, [r for r in records if is_published[id(r)] == flag]) for words, flag in parts]
    tables = [(words, tuple(_plan_rows(group))) for words, group in groups if group]
    return [
        Table(f"{words}, {scope}", rows, (f"{note}{regret if 'regret' in rows[0] else ''}",))
        for words, rows in tables
    ]


def _plan_rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    arms = [Arm(r, "treatment") for r in records]
    route = cells.scale_of("s", [arm.timed("route_s").value for arm in arms])
    same = [arm.graded("as_published").value for arm in arms]
    last = "regret" if all(v is None for v in same) else "as published"
    titles = ("plans", "fleet", "jobs", "value", last, "over %", "loads", f"route {route.unit}")
    rows: list[tuple[str, ...]] = [titles]
    for arm, share in zip(arms, same, strict=True):
        record, number = arm.record, len(arm.record.tasks)
        as_published = ABSENT if share is None else f"{share * number:.0f} of {number}"
        rows.append(
            (
                record.variant,
                str(record.settings.get("fleet") or ABSENT),
                str(number),
                cells.number(arm.graded("value").value),
                _cell(arm.graded("regret"), PLAIN, 1) if last == "regret" else as_published,
                cells.number(PERCENT(arm.graded("violates").value)),
                cells.number(arm.graded("loads").value),
                _bare(arm.timed("route_s"), route, 1, is_whole=False),
            )
        )
    return rows


def _curves(records: Sequence[Record]) -> Table:
    named = [f"{r.variant} ({_counted(sum('along' in p for p in r.sweep))})" for r in records]
    names = ", ".join(dict.fromkeys(named))
    return Table(f"curves, in the figures and in benchmark.json: {names}", (), ())


def _cell(e: Estimate, scale: cells.Scale, digits: int) -> str:
    value, ends = scale(e.value), scale.interval(e.interval)
    return f"{cells.number(value, ends, digits)} {cells.interval_text(value, ends, digits)}".rstrip()


def _bare(e: Estimate, scale: cells.Scale, digits: int, *, is_whole: bool) -> str:
    if e.interval is not None and e.value and e.interval[1] - e.interval[0] <= ROUNDING * abs(e.value):
        return cells.number(scale(e.value))
    if is_whole:
        return _cell(e, scale, digits)
    return cells.number(scale(e.value), scale.interval(e.interval), digits=1)


def _spread(e: Estimate, scale: cells.Scale) -> str:
    """Value and half-width; rounds that differ by rounding alone, as simulated ones do, have none."""
    value, ends = e.value, e.interval
    if value is not None and ends is not None and ends[1] - ends[0] <= ROUNDING * abs(value):
        ends = None
    return cells.plus_minus(scale(value), scale.interval(ends))


def _counted(number: int) -> str:
    return f"{number} point{'' if number == 1 else 's'}"
