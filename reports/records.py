"""The one schema of a measurement: what a variant's test leaves behind.

A record travels in pytest-benchmark's `extra_info["assay"]`, in `journal.jsonl` and in `benchmark.json`;
verdicts, tables and figures are made from records alone. It is plain JSON:

    schema      2; records of schema 1 are read (`reports.migration`)
    experiment  "cascade"
    variant     the treatment's name; `control` the name of the arm it is paired with, or None
    backend     the engine under the variant, as the engine is called ("llama.cpp")
    profile     "pocket", "node" or "replay"
    evidence    "measured", "simulated" (engines), or "modelled" (a formula over what was measured): the last
                two never confirm a claim about what is measured
    launch      "round" (what is measured is launched anew for each round), "session" (it stays up, so that a
                session is one observation of it), or None where nobody said
    settings    what was chosen: workload, number of tasks, rounds, caps, seeds, …
    models      role → label of the model ("large" → "pocket:large@f16")
    metrics     name → {unit, better, what}: every metric that occurs below, defined in words
    rounds      [{order, treatment, control, session}], a round per pair, each arm a map of metric → value.
                `order` is "CT" where the control ran first and "TC" where it ran second.
                A metric that an arm could not measure is None. An arm that failed is None. `session` counts
                the sessions that were merged, and is None in a record of a single one.
    tasks       [{id, treatment, control}], one greedy grading of each task, each arm a map of metric → value
    sweep       [{name, …}], points of a curve (offered rate → goodput …), as the experiment defines them
    failures    [{arm, round, where, error}]; failures count, they are never dropped
    checks      [{name, ok, observed}], provenance: what was looked at and what was seen
    floors      [{name, inputs, value, unit}], what the declared hardware allows, with the arithmetic's inputs
    complete    True when every planned round was run
    sessions    how many sessions of one plan were merged into it (`reports.merging`), 1 as it was measured
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any

from reports.errors import RecordError
from reports.migration import SCHEMA, upgraded

__all__ = ["ARMS", "LAUNCHES", "SCHEMA", "Check", "Failure", "Floor", "Metric", "Record", "Round", "TaskPair"]

ARMS = ("treatment", "control")
LAUNCHES = ("round", "session", None)
COUNTED = ("round", "session")
"""What numbers a sweep's point, where anything does."""
TEXTS = {
    "metric": ("unit", "what"), "round": ("order",), "task": ("id",), "failure": ("arm", "where", "error"),
    "check": ("name", "observed"), "floor": ("name", "unit"),
}  # fmt: skip
"""What is text in the parts of a record."""

Values = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number means."""

    unit: str
    better: str
    """"lower" or "higher"."""
    what: str
    """The metric in words, with its formula where engines differ."""

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher"):
            raise RecordError(f"metric: better is {self.better!r}, and must be 'lower' or 'higher'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pair: the variant and, beside it, its control."""

    order: str
    treatment: Values | None
    control: Values | None = None
    session: int | None = None
    """Which of the sessions that were merged it is of, from 0; `None` in a record of a single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPair:
    """One task, graded under the variant and under its control."""

    id: str
    treatment: Values
    control: Values | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Something that should have worked and did not."""

    arm: str
    round: int | None
    where: str
    """The stage, task or request that failed."""
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A provenance check: did the variant really run its named code path?"""

    name: str
    ok: bool
    observed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A bound that the declared hardware or the arithmetic sets, with what it was computed from."""

    name: str
    inputs: Mapping[str, float | str]
    value: float
    unit: str


@dataclass(slots=True, kw_only=True)
class Record:
    """The measurement of one variant. Mutable while it is being measured, plain JSON afterwards."""

    experiment: str
    variant: str
    control: str | None
    backend: str
    profile: str
    evidence: str = "measured"
    settings: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    tasks: list[TaskPair] = field(default_factory=list)
    sweep: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    complete: bool = False
    launch: str | None = None
    """"round" or "session": how often what is measured is launched; `None` where nobody said."""
    sessions: int = 1
    """How many sessions were merged into it."""
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read a stored record back, of this schema or of an earlier one.

        Raises
        ------
        RecordError: a newer schema, unknown or missing keys, or a value of the wrong kind.
        """
        if not isinstance(data, Mapping):
            raise RecordError(f"record: {type(data).__name__} is no JSON object")
        data = upgraded(data)
        unknown = data.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise RecordError(f"record of {data.get('variant')!r}: unknown keys {sorted(unknown)}")
        try:
            parts = {
                "metrics": {name: Metric(**m) for name, m in data["metrics"].items()},
                "rounds": [Round(**r) for r in data["rounds"]],
                "tasks": [TaskPair(**t) for t in data["tasks"]],
                "failures": [Failure(**f) for f in data["failures"]],
                "checks": [Check(**c) for c in data["checks"]],
                "floors": [Floor(**f) for f in data["floors"]],
            }
            found = cls(**{**data, **parts})
        except KeyError as exc:
            raise RecordError(f"record of {data.get('variant')!r}: it has no {exc}") from exc
        except (TypeError, AttributeError) as exc:
            raise RecordError(f"record of {data.get('variant')!r}: {exc}") from exc
        if wrong := next(_wrong(found), None):
            raise RecordError(f"record of {found.variant!r}: {wrong}; it was damaged, measure it again")
        return found

    def pairs(self, metric: str) -> list[tuple[float, float]]:
        """(treatment, control) of each round in which both arms measured `metric`, in round order."""
        return [
            (t, c)
            for r in self.rounds
            if r.treatment is not None and r.control is not None
            if (t := r.treatment.get(metric)) is not None and (c := r.control.get(metric)) is not None
        ]

    def values(self, metric: str, arm: str = "treatment") -> list[float]:
        """`metric` in one arm, over the rounds that measured it, in round order."""
        arms = (getattr(r, arm) for r in self.rounds)
        return [v for values in arms if values is not None and (v := values.get(metric)) is not None]

    def task_pairs(self, metric: str) -> list[tuple[float, float]]:
        """(treatment, control) of each task that both arms graded by `metric`."""
        return [
            (t, c)
            for task in self.tasks
            if task.control is not None
            if (t := task.treatment.get(metric)) is not None and (c := task.control.get(metric)) is not None
        ]


def _wrong(record: Record) -> Iterator[str]:
    """What a record holds that none does, in words."""
    if not isinstance(record.settings, dict) or not isinstance(record.models, dict):
        yield "settings or models are no table"
    for name, value in _texts(record):
        if not isinstance(value, str):
            yield f"{name} is {value!r:.40}, and must be text"
    if record.launch not in LAUNCHES:
        yield f"launch is {record.launch!r:.40}, and must be round, session or null"
    if not isinstance(record.sessions, int) or record.sessions < 1:
        yield f"sessions is {record.sessions!r:.40}, and counts from 1"
    if not isinstance(record.sweep, list) or not all(isinstance(point, dict) for point in record.sweep):
        yield "sweep is no list of points"
    elif not all(isinstance(point.get(key), int | NoneType) for point in record.sweep for key in COUNTED):
        yield f"a point of the sweep has a {' or '.join(COUNTED)} that is no number"
    for at, one in enumerate(record.rounds):
        if not (_is_of_values(one.treatment) and _is_of_values(one.control)):
            yield f"round {at} holds a value that is no number"
        if one.session is not None and one.session not in range(record.sessions):
            yield f"round {at} is of session {one.session!r:.40}, of {record.sessions} that count from 0"
    for task in record.tasks:
        if task.treatment is None or not (_is_of_values(task.treatment) and _is_of_values(task.control)):
            yield f"task {task.id!r:.40} holds a value that is no number"


def _texts(record: Record) -> Iterator[tuple[str, Any]]:
    """What must be text in a record, with its name."""
    yield from ((name, getattr(record, name)) for name in ("experiment", "variant", "backend", "profile"))
    yield "evidence", record.evidence
    yield "control", record.control or ""
    yield from ((f"the model {role!r:.40}", label) for role, label in record.models.items())
    parts: dict[str, Sequence[Any]] = {
        "metric": list(record.metrics.values()), "round": record.rounds, "task": record.tasks,
        "failure": record.failures, "check": record.checks, "floor": record.floors,
    }  # fmt: skip
    for kind, found in parts.items():
        yield from ((f"{name} of a {kind}", getattr(one, name)) for one in found for name in TEXTS[kind])


def _is_of_values(values: Any) -> bool:
    """Whether it is what an arm gave: numbers by metric, or nothing."""
    kinds = (int, float, NoneType)
    return values is None or (isinstance(values, dict) and all(isinstance(v, kinds) for v in values.values()))
