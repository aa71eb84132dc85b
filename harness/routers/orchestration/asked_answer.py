"""What a planning model answered, read strictly: either an assignment, or in words why there is none.

Servers ignore schemas in silence, so nothing is taken on trust: the text is one JSON object and nothing else,
with every task once, no other key, and a model of the fleet for each. Text around the object is a fault, not
mended here: the one repair is the model's, and the status says that it was needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.routers.orchestration.asked_prompt import memory
from harness.routers.planning.base import Problem, total_bytes
from harness.workflow.jobs.graph import TaskNode

__all__ = ["MAX_COMPLAINT_CHARS", "Reading", "over_budget", "read_answer"]

MAX_COMPLAINT_CHARS = 200
_SHOWN = 40
_MAX_FAULTS = 4


class Reading(NamedTuple):
    """One of the two is None."""

    assignment: tuple[int, ...] | None
    """model by task"""
    complaint: str | None


class _Doubled(ValueError):
    """A key stands twice in an object."""


def read_answer(
    text: str, problem: Problem, tasks: Sequence[TaskNode], *, finish_reason: str | None = None
) -> Reading:
    """Read an answer; whether its models fit is for `over_budget` to say.

    finish_reason: how the answer ended: "length" explains an object that is not whole.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except _Doubled as exc:
        return _fault(str(exc))
    except (ValueError, RecursionError) as exc:
        if finish_reason == "length":
            return _fault("the answer was cut off before the JSON object was whole")
        if not text.strip():
            return _fault("the answer is empty")
        return _fault(f"the answer is not one JSON object and nothing else ({exc})")
    if not isinstance(value, dict):
        return _fault(f"the answer is no object but {_short(value)}")
    faults = _faults(value, problem.fleet.models, [task.id for task in tasks])
    if faults:
        return _fault("; ".join(faults))
    return Reading(tuple(problem.fleet.models.index(value[task.id]) for task in tasks), None)


def over_budget(problem: Problem, tasks: Sequence[TaskNode], assignment: Sequence[int]) -> str | None:
    """Which layer's models do not fit together, in words; None when all do."""
    fleet = problem.fleet
    for number, layer in enumerate(problem.layers, start=1):
        used = sorted({assignment[i] for i in layer})
        num_bytes = total_bytes(fleet, used)
        if num_bytes > fleet.budget_bytes:
            names = " + ".join(fleet.models[m] for m in used)
            ids = ", ".join(tasks[i].id for i in layer)
            return _cut(
                f"layer {number} ({ids}) needs {names} = {memory(num_bytes, fleet)}, "
                f"over the budget of {memory(fleet.budget_bytes, fleet)}"
            )
    return None


def _faults(value: dict[str, Any], models: Sequence[str], ids: Sequence[str]) -> list[str]:
    faults = [
        f"{name}: {_short(value[name])} is no model"
        for name in ids
        if name in value and value[name] not in models
    ]
    if faults:
        faults = [*faults[:_MAX_FAULTS], f"use {', '.join(models)}"]
    missing = [name for name in ids if name not in value]
    if missing:
        faults.append(f"no model for {', '.join(missing)}")
    unknown = [key for key in value if key not in ids]
    if unknown:
        faults.append(f"no such task: {', '.join(map(_short, unknown[:_MAX_FAULTS]))}")
    return faults


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once each; json's own reader would keep the last in silence."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Doubled(f"{_short(key)} stands twice")
        found[key] = value
    return found


def _short(value: Any) -> str:
    """Part of what was answered, quoted and escaped; of what nests only the kind, as deep as it may be."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return ascii(value[:_SHOWN] if isinstance(value, str) else value)[:_SHOWN]


def _fault(complaint: str) -> Reading:
    return Reading(None, _cut(complaint))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_COMPLAINT_CHARS else f"{text[: MAX_COMPLAINT_CHARS - 1]}…"
