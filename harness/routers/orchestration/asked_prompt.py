"""What a planning model is asked: the same numbers as a planner that computes is given.

Two wordings of one question. The long one explains itself; the short one is for models whose context is
small. Both hold every number of the problem to the millionth and the byte: a rounded utility would be another
problem, and the comparison of planners no longer one.

All is in the user's turn: some chat templates (Gemma's) refuse a system turn. The same problem gives the same
text to the byte, and so, greedy and seeded, the same request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.errors import UsageError
from harness.routers.planning.base import Fleet, Problem
from harness.workflow.jobs.graph import TaskNode

__all__ = [
    "answer_schema",
    "check_question",
    "compact_prompt",
    "full_prompt",
    "max_answer_bytes",
    "max_answer_tokens",
    "memory",
    "repair_prompt",
]

_UNITS = (("GB", 9), ("MB", 6), ("bytes", 0))
"""name and power of ten"""
_MICRO_PLACES = 6
_BLANKS = 32
_RULES = """\
Rules:
1. Every task gets exactly one model.
2. Layers run one after another. The tasks of one layer run at once, so the different models of one \
layer must fit into {budget} together; exactly {budget} still fits.
3. A model that is not loaded must be loaded before it answers, at its loading cost. It then stays \
loaded until its memory is needed; loading it again costs again.
Goal: the largest sum of utilities less loading costs."""


def check_question(problem: Problem, tasks: Sequence[TaskNode]) -> None:
    """Refuse what cannot be asked.

    Raises
    ------
    UsageError: not one task for each row of the problem, or two tasks of one id.
    """
    ids = [task.id for task in tasks]
    if len(ids) != problem.num_tasks:
        raise UsageError(f"{len(ids)} tasks for a problem of {problem.num_tasks}; give one for each row")
    if len(set(ids)) < len(ids):
        raise UsageError(f"two tasks have one id in {', '.join(ids)}; give each an id of its own")


def full_prompt(problem: Problem, tasks: Sequence[TaskNode]) -> str:
    """The question in sentences."""
    fleet = problem.fleet
    models = "\n".join(
        f"- {name}: {memory(size, fleet)}, {'loaded' if m in problem.resident else 'not loaded'}, "
        f"loading cost {_number(problem.load_micro[m])}"
        for m, (name, size) in enumerate(zip(fleet.models, fleet.size_bytes, strict=True))
    )
    rows = "\n".join(
        f"- {task.id}: {task.type}, difficulty {task.difficulty:g}, {task.num_tokens} tokens, layer {layer}. "
        f"Utility: {', '.join(f'{n} {u}' for n, u in zip(fleet.models, utilities, strict=True))}"
        for task, layer, utilities in _rows(problem, tasks)
    )
    rules = _RULES.format(budget=memory(fleet.budget_bytes, fleet))
    if problem.has_more:
        rules += "\nMore tasks follow these; they may use what is loaded then."
    form = json.dumps({task.id: "<model>" for task in tasks}, ensure_ascii=False)
    return (
        "Assign the tasks of a job to language models that share the memory of one device.\n\n"
        f"Models:\n{models}\n\nTasks, with the utility of each model on each:\n{rows}\n\n{rules}\n\n"
        f"Answer with one JSON object of this form and nothing else:\n{form}"
    )


def compact_prompt(problem: Problem, tasks: Sequence[TaskNode]) -> str:
    """The question in as few words as hold it."""
    fleet = problem.fleet
    models = "\n".join(
        f"{name} {_size(size, fleet)} {_number(problem.load_micro[m])}{' loaded' * (m in problem.resident)}"
        for m, (name, size) in enumerate(zip(fleet.models, fleet.size_bytes, strict=True))
    )
    rows = "\n".join(
        f"{task.id} {layer} {task.type} {task.difficulty:g} {task.num_tokens} {' '.join(utilities)}"
        for task, layer, utilities in _rows(problem, tasks)
    )
    return (
        f"models: {_unit(fleet)[0]}, load cost\n{models}\n"
        f"tasks: layer, type, difficulty, tokens, utility by model\n{rows}\n"
        f"max utility - load cost; models of a layer fit {_size(fleet.budget_bytes, fleet)}"
        f"{'; more tasks follow' * problem.has_more}\n"
        "JSON {task: model}:"
    )


def repair_prompt(complaint: str) -> str:
    """What is said to an answer that does not hold."""
    return f"This does not hold: {complaint}. Answer again with the JSON object alone."


def answer_schema(problem: Problem, tasks: Sequence[TaskNode]) -> dict[str, Any]:
    """One required key per task, each one of the fleet's models, and no other key."""
    models = list(problem.fleet.models)
    return {
        "type": "object",
        "properties": {task.id: {"type": "string", "enum": models} for task in tasks},
        "required": [task.id for task in tasks],
        "additionalProperties": False,
    }


def max_answer_bytes(problem: Problem, tasks: Sequence[TaskNode]) -> int:
    """Of the longest right answer, indented; no tokenizer makes more tokens of it."""
    longest = max(problem.fleet.models, key=len)
    return len(json.dumps({task.id: longest for task in tasks}, indent=4).encode())


def max_answer_tokens(problem: Problem, tasks: Sequence[TaskNode]) -> int:
    """Room for a right answer and as much again for blanks, of which small models write many.

    llama.cpp's grammar allows some twenty blanks in a row, and newlines, before the object and in it. Those
    before it are decoded and counted, then trimmed: pocket nano spends 72 tokens on 47 characters.
    """
    return 2 * max_answer_bytes(problem, tasks) + _BLANKS


def memory(num_bytes: int, fleet: Fleet) -> str:
    """Bytes as the prompt says them, exactly."""
    return f"{_size(num_bytes, fleet)} {_unit(fleet)[0]}"


def _rows(problem: Problem, tasks: Sequence[TaskNode]) -> list[tuple[TaskNode, int, list[str]]]:
    """Each task with its layer, counted from 1, and its utilities by model."""
    layer_of = {task: at for at, layer in enumerate(problem.layers, start=1) for task in layer}
    rows = problem.micro.tolist()
    return [(task, layer_of[i], [_number(u) for u in rows[i]]) for i, task in enumerate(tasks)]


def _unit(fleet: Fleet) -> tuple[str, int]:
    """The largest unit that the budget is at least one of."""
    return next(unit for unit in _UNITS if fleet.budget_bytes >= 10 ** unit[1])


def _size(num_bytes: int, fleet: Fleet) -> str:
    return _decimal(num_bytes, _unit(fleet)[1])


def _number(micro: float) -> str:
    return _decimal(round(micro), _MICRO_PLACES)


def _decimal(whole: int, places: int) -> str:
    """`whole` / 10^places in the digits that it has."""
    digits = str(abs(whole)).rjust(places + 1, "0")
    head, tail = digits[: len(digits) - places], digits[len(digits) - places :].rstrip("0")
    return f"{'-' * (whole < 0)}{head}{'.' * bool(tail)}{tail}"
