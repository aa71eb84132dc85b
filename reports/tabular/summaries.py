"""Each variant in one row: what tables, figures and exports show of it, computed once, here.

What is read of a record, and in which words:

    rounds   `total_s`      wall-clock time of the round, over all of its tasks
             `task_s`       mean time of one task; `total_s / tasks` where a sequential round has none
             `<stage>_s`    mean time of that stage in one task, for each key of `settings["max_tokens"]`
    tasks    `solved`       1 or 0, by hidden tests
             `cost_usd`     what the task cost
    settings `tasks` (of a round), `max_tokens` (stage → cap), `platform`, `warmup_rounds`

A record that times no workflow and grades no task (a load ladder) is no variant here.

Times are arithmetic means with Student's t interval, cut at 0, over rounds, or over merged sessions where
what was measured stayed up for one; shares carry Wilson's score interval over tasks; cost per solved task is
a ratio of sums, its interval by the delta method on its logarithm. All are two-sided 95 %. An interval needs
two values, or three sessions; with fewer there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reports.records import Record, Round, TaskPair, Values
from reports.tabular.means import NOTHING, Estimate, divided, mean, of_rounds, sessions_of, share_of

__all__ = ["Variant", "scope", "stages_of", "summarize"]

STAGES = ("analysis", "code", "summary")
TOTALS = ("total_s", "wall_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One variant of one experiment on one backend."""

    experiment: str
    name: str
    control: str | None
    backend: str
    profile: str
    evidence: str
    models: Mapping[str, str]
    total_s: Estimate
    task_s: Estimate
    stages_s: Mapping[str, Estimate]
    other_s: Estimate
    """What a task took beyond its stages."""
    cost_usd: Estimate
    """Per task."""
    solved: Estimate
    cost_per_solved_usd: Estimate
    num_tasks: int | None = None
    """Tasks in a round."""
    num_rounds: int = 0
    num_sessions: int = 1
    is_by_session: bool = False
    """Whether its intervals are over sessions, not over rounds."""
    num_failures: int = 0
    num_ungraded: int = 0
    """Tasks that were to be graded and could not be."""
    beside: str | None = None
    """Set when the variant has no test of its own: the variant whose control arm this is."""
    rounds: tuple[Values | None, ...] = field(default=(), repr=False)


def summarize(records: Iterable[Record]) -> list[Variant]:
    """One row per (experiment, backend, profile, variant), controls first, otherwise in order of the records.

    A variant measured by several tests (time in one, grading in another) is one row: each quantity comes
    from the first record that measured it, and rounds of different tests are never pooled.
    """
    arms: dict[tuple[str, str, str, str], list[tuple[Record, str]]] = {}
    borrowed: dict[tuple[str, str, str, str], list[tuple[Record, str]]] = {}
    for record in records:
        if not record.tasks and not any(name in record.metrics for name in (*TOTALS, "task_s")):
            continue
        where = (record.experiment, record.backend, record.profile)
        arms.setdefault((*where, record.variant), []).append((record, "treatment"))
        if record.control is not None and _has_control(record):
            borrowed.setdefault((*where, record.control), []).append((record, "control"))
    for key, sources in borrowed.items():
        arms.setdefault(key, []).extend(sources)
    controls = {key for key, sources in borrowed.items() if sources}
    rows = [_variant(key[3], sources) for key, sources in arms.items()]
    order = {id(row): (key not in controls) for row, key in zip(rows, arms, strict=True)}
    return sorted(rows, key=lambda row: order[id(row)])


def stages_of(variants: Sequence[Variant]) -> list[str]:
    """The stages that any of `variants` measured, in workflow order."""
    measured = (stage for v in variants for stage, e in v.stages_s.items() if e.value is not None)
    return list(dict.fromkeys(measured))


def scope(variants: Sequence[Variant]) -> str:
    """What a finding about `variants` holds for: engine, models, rounds, tasks, profile, evidence."""
    if not variants:
        return "nothing measured"
    models: dict[str, list[str]] = {}
    for variant in variants:
        for role, model in variant.models.items():
            known = models.setdefault(role, [])
            known += [] if model in known else [model]
    parts = [
        " and ".join(dict.fromkeys(v.backend for v in variants)),
        ", ".join(f"{role} = {' | '.join(names)}" for role, names in models.items()),
        _rounds(variants),
        _count((v.solved.n for v in variants), "graded task"),
        "profile " + " and ".join(dict.fromkeys(v.profile for v in variants)),
        " and ".join(dict.fromkeys(v.evidence for v in variants)),
    ]
    return " · ".join(part for part in parts if part)


def _variant(name: str, sources: Sequence[tuple[Record, str]]) -> Variant:
    first, first_arm = sources[0]
    timed, timed_arm = next((s for s in sources if any(_values(s, total) for total in TOTALS)), sources[0])
    rounds = tuple(_arm(r, timed_arm) for r in timed.rounds)
    tasks = next((found for s in sources if (found := _tasks(s))), [])
    num_tasks = timed.settings.get("tasks")
    num_tasks = num_tasks if isinstance(num_tasks, int) and num_tasks > 0 else None
    if "timed_jobs" in timed.settings:  # its tasks are those of the grading, and a round times a few jobs
        num_tasks = None
    totals = (of_rounds(timed, name, timed_arm) for name in TOTALS)
    total_s = next((e for e in totals if e.value is not None), NOTHING)
    task_s = of_rounds(timed, "task_s", timed_arm)
    if task_s.value is None and num_tasks:
        task_s = divided(total_s, num_tasks)
    stages = tuple(timed.settings.get("max_tokens") or STAGES)
    stages_s = {stage: of_rounds(timed, f"{stage}_s", timed_arm) for stage in stages}
    solved = [v for t in tasks if (v := t.get("solved")) is not None]
    cost_usd = mean([v for t in tasks if (v := t.get("cost_usd")) is not None])
    return Variant(
        experiment=first.experiment,
        name=name,
        control=first.control if first_arm == "treatment" else None,
        backend=first.backend,
        profile=first.profile,
        evidence=first.evidence,
        models=first.models,
        total_s=total_s,
        task_s=task_s,
        stages_s=stages_s,
        other_s=_other(rounds, task_s, stages, num_tasks, sessions_of(timed)),
        cost_usd=cost_usd,
        solved=share_of(solved),
        cost_per_solved_usd=_cost_per_solved(tasks),
        num_tasks=num_tasks,
        num_rounds=sum(r is not None for r in rounds),
        num_sessions=timed.sessions,
        is_by_session=sessions_of(timed) is not None,
        num_failures=sum(f.arm == arm for rec, arm in sources if arm == first_arm for f in rec.failures),
        num_ungraded=sum(t.get("solved") is None for t in tasks) if solved else 0,
        beside=first.variant if first_arm == "control" else None,
        rounds=rounds,
    )


def _has_control(record: Record) -> bool:
    pairs: list[Round | TaskPair] = [*record.rounds, *record.tasks]
    return any(pair.control is not None for pair in pairs)


def _arm(pair: Round | TaskPair, arm: str) -> Values | None:
    return pair.treatment if arm == "treatment" else pair.control


def _values(source: tuple[Record, str], metric: str) -> list[float]:
    record, arm = source
    return record.values(metric, arm)


def _tasks(source: tuple[Record, str]) -> list[Values]:
    record, arm = source
    return [values for task in record.tasks if (values := _arm(task, arm)) is not None]


def _other(
    rounds: Sequence[Values | None],
    task_s: Estimate,
    stages: Sequence[str],
    num_tasks: int | None,
    sessions: Sequence[int] | None,
) -> Estimate:
    """Time of a task outside its stages, round by round; nothing where a stage of the round is not known."""
    rest, of = [], []
    for at, values in enumerate(rounds):
        if values is None:
            continue
        whole = values.get("task_s")
        if whole is None and num_tasks:
            total = next((v for t in TOTALS if (v := values.get(t)) is not None), None)
            whole = None if total is None else total / num_tasks
        parts = [values.get(f"{stage}_s") for stage in stages]
        if whole is not None and all(p is not None for p in parts):
            rest.append(whole - sum(p for p in parts if p is not None))
            of.append(sessions[at] if sessions else 0)
    return mean(rest, signed=True, sessions=of if sessions else None) if task_s.value is not None else NOTHING


def _cost_per_solved(tasks: Sequence[Values]) -> Estimate:
    """Cost of all tasks over the number of solved ones; nothing when none was solved."""
    from reports import stats

    known = [(t.get("cost_usd"), t.get("solved")) for t in tasks]
    both = [(c, s) for c, s in known if c is not None and s is not None]
    n, num_solved = len(both), sum(s for _, s in both)
    if not num_solved:
        return Estimate(None, n=n)
    value = sum(c for c, _ in both) / num_solved
    found = stats.total_log_ratio(both)
    if isinstance(found, stats.Unsupported):
        return Estimate(value, n=n)
    ratio = stats.as_ratio(found)
    return Estimate(value, ratio.low, ratio.high, n)


def _rounds(variants: Sequence[Variant]) -> str:
    rounds = _count((v.num_rounds for v in variants), "round")
    tasks = _count((v.num_tasks or 0 for v in variants), "task")
    told = f"{rounds} of {tasks}" if rounds and tasks else rounds
    sessions = _count((v.num_sessions for v in variants if v.num_sessions > 1), "session")
    return f"{told} in {sessions}" if told and sessions else told


def _count(numbers: Iterable[int], noun: str) -> str:
    counts = sorted({n for n in numbers if n})
    if not counts:
        return ""
    text = str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    return f"{text} {noun}{'' if counts == [1] else 's'}"
