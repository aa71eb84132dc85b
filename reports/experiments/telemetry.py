"""What the jobs of a run did, step by step, as `telemetry.jsonl` tells it.

One JSON object per line, in the order in which things happened:

    dag_structure     a job begins: its tasks and layers
    plan_step         one layer: what was planned, evicted, loaded and answered, and when
    job_dag_summary   the job is done: scores, times, memory

`variant` names the router that ran. A job may run many times under one variant; each run of it is a `Trace`,
of one of three phases: a warm-up, a round, or the grading. Only rounds are timed: a grading keeps its engines
and its times are null. Only gradings have scores. What a writer leaves out is absent here, never 0.

Trap: a plan that does not fit is refused and another runs in its place. So memory in use never exceeds the
budget, and `over_bytes` is what the refused plan would have needed beyond it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from reports.errors import JournalError

__all__ = ["GRADED", "ROUND", "TELEMETRY", "Answer", "Step", "Trace", "read"]

TELEMETRY = "telemetry.jsonl"
ROUND, GRADED = "round", "graded"
REMEDY = "remove the line, or move the file away to go without"


class Answer(NamedTuple):
    """A task that ran on a model, in seconds since its job began."""

    task: str
    model: str
    began_s: float
    done_s: float


class Step(NamedTuple):
    """One layer of a job, in seconds since the job began."""

    began_s: float
    done_s: float
    plan_s: float | None
    """How long deciding took, a model's requests among it."""
    planner: str | None
    """The model that planned; None where an algorithm did, or where it was not written."""
    status: str
    """"computed", "valid", "repaired" or "fallback"; empty where it was not written."""
    assignment: Mapping[str, str]
    """Task → model, of the tasks that were planned."""
    evicted: tuple[str, ...]
    loaded: tuple[str, ...]
    load_s: Mapping[str, float | None]
    resident: tuple[str, ...]
    before_bytes: int | None
    """Resident when the step began; None where it was not written."""
    planning_bytes: int | None
    """Resident while a model planned; None where an algorithm did, or where it was not written."""
    resident_bytes: int | None
    budget_bytes: int | None
    violates: bool
    over_bytes: int
    """How far beyond the budget the plan was; 0 where it fits."""
    replaced: bool
    """Whether another plan ran in place of one that did not fit."""
    answers: tuple[Answer, ...]
    planning_began_s: float | None

    @property
    def planning_s(self) -> tuple[float, float]:
        """When deciding began and ended; a model that plans was loaded before."""
        wait_s = self.load_s.get(self.planner) or 0.0 if self.planner is not None else 0.0
        began_s = self.planning_began_s if self.planning_began_s is not None else self.began_s + wait_s
        return began_s, began_s + (self.plan_s or 0.0)


class Trace(NamedTuple):
    """One run of a job under a variant."""

    variant: str
    job: str
    shape: str
    types: Mapping[str, str]
    """Task → its type, in the order of the job."""
    steps: tuple[Step, ...]
    summary: Mapping[str, Any] | None
    """The event `job_dag_summary`; None where the job was cut short."""
    phase: str = ROUND
    """"warm-up", "round" or "graded"; a round where it was not written."""
    round: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the job came to its end."""
        return bool(self.steps) and self.summary is not None and self.summary.get("error") is None


def read(run: Path) -> list[Trace]:
    """Every run of every job, in the order they began; none without a file. A torn last line is left out.

    Raises
    ------
    JournalError: the file cannot be read, or a whole line of it is no event.
    """
    traces: list[Trace] = []
    open_at: dict[tuple[str, str], int] = {}
    for where, event in _events(run / TELEMETRY):
        try:
            _take(event, traces, open_at)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise JournalError(
                f"{where}: {event.get('event')!r} is malformed ({type(exc).__name__}: {exc}); {REMEDY}"
            ) from exc
    return traces


def _events(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        *whole, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as exc:
        raise JournalError(f"{path}: cannot be read ({exc.strerror}); check its permissions") from exc
    for number, line in enumerate(whole, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            event = json.loads(line)
        except ValueError as exc:
            raise JournalError(f"{where}: not JSON ({exc}); {REMEDY}") from exc
        if not isinstance(event, dict):
            raise JournalError(f"{where}: not an event (no JSON object); {REMEDY}")
        yield where, event


def _take(event: Mapping[str, Any], traces: list[Trace], open_at: dict[tuple[str, str], int]) -> None:
    """Add an event to the run of the job that it belongs to; events of other kinds are not for us."""
    kind = event.get("event")
    if kind not in ("dag_structure", "plan_step", "job_dag_summary"):
        return
    phase = str(event.get("phase") or ROUND)
    key = (str(event.get("variant", "")), str(event["job"]))
    if kind == "dag_structure":
        types = {str(node["id"]): str(node["type"]) for node in event["nodes"]}
        open_at[key] = len(traces)
        traces.append(Trace(*key, str(event.get("shape", "")), types, (), None, phase, event.get("round")))
    elif key not in open_at:
        return  # its beginning was cut off
    elif kind == "plan_step" and event["began_s"] is not None:
        trace = traces[open_at[key]]
        traces[open_at[key]] = trace._replace(steps=(*trace.steps, _step(event)))
    elif kind == "job_dag_summary":
        at = open_at.pop(key)
        traces[at] = traces[at]._replace(summary=dict(event))


def _step(event: Mapping[str, Any]) -> Step:
    return Step(
        began_s=float(event["began_s"]),
        done_s=float(event["done_s"]),
        plan_s=event.get("plan_s"),
        planner=event.get("planner"),
        status=str(event.get("planner_status") or ""),
        assignment=dict(event.get("assignment") or {}),
        evicted=tuple(event.get("evicted") or ()),
        loaded=tuple(event.get("loaded") or ()),
        load_s=dict(event.get("load_s") or {}),
        resident=tuple(event.get("resident") or ()),
        before_bytes=event.get("resident_before_bytes"),
        planning_bytes=event.get("planning_resident_bytes"),
        resident_bytes=event.get("resident_bytes"),
        budget_bytes=event.get("budget_bytes"),
        violates=bool(event.get("violates")),
        over_bytes=int(event.get("over_bytes") or 0),
        replaced=bool(event.get("replaced")),
        answers=tuple(
            Answer(task, str(run["model"]), float(run["began_s"]), float(run["done_s"]))
            for task, run in (event.get("exec") or {}).items()
        ),
        planning_began_s=event.get("planning_began_s"),
    )
