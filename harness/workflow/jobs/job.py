"""Jobs with contents: what each task is asked, what travels to the next one, and what is right.

A prompt holds `{s0}` where the answer of task s0 belongs. What travels is the answer (`answer_of`), not the
words around it: the last number, the code inside a fence, the JSON value, the label. Views of it serve models
that were trained on exactly that form:

    {s0.number}  the last digits of the answer, also inside of a word; of what changed where s0 has `buggy`
    {s0.diff}    the lines that the code of s0 changes in its `buggy` function, as `- old` and `+ new`
    {s0.row}     what the task's own `table` holds for the answer

A view of an answer that has none is empty: a wrong answer leaves its mark on every prompt after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError, WorkloadError
from harness.grading.exact import NOTHING, first_json, labels_in
from harness.grading.numeric import last_number_text
from harness.workflow.jobs.graph import TaskGraph, TaskNode
from harness.workflow.prompts import diff, extract_code

__all__ = [
    "CodeKey",
    "Field",
    "Job",
    "JobFile",
    "JobTask",
    "JsonKey",
    "Key",
    "LabelKey",
    "NumberKey",
    "TextKey",
    "answer_of",
    "fields_of",
    "render",
    "right_answer",
]

VIEWS = ("diff", "number", "row")
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:\.([A-Za-z_]+))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonKey:
    """Right is the first JSON value of the answer, when it equals `value`."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberKey:
    """Right is the last number of the answer, within a relative tolerance."""

    value: float
    relative_tolerance: float = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeKey:
    """Right is code that passes every hidden test; the score is the share that it passes."""

    reference: str
    entry_point: str
    hidden_tests: tuple[str, ...]
    visible_tests: tuple[str, ...] = ()
    """What a router may run."""
    buggy: str | None = None
    """The function that is to be changed; None where one is written from nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextKey:
    """Right is a text with every fact (`a|b`: either); the score is ROUGE-L against the reference."""

    reference: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelKey:
    """Right is an answer that names this one of the labels, and no other."""

    value: str
    labels: tuple[str, ...]


Key = JsonKey | NumberKey | CodeKey | TextKey | LabelKey


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTask:
    """One task of a job.

    Raises
    ------
    WorkloadError: an unknown type, a difficulty below 1, or no tokens.
    """

    id: str
    type: str
    """one of `TASK_TYPES`"""
    difficulty: float
    """1 is plain"""
    num_tokens: int
    """estimate of prompt and output together"""
    prompt: str
    """one user message with `{fields}`"""
    max_tokens: int
    """output cap"""
    key: Key
    table: Mapping[str, str] = field(default_factory=dict)
    """What the prompt looks an earlier answer up in."""

    def __post_init__(self) -> None:
        _ = self.node  # the node checks what planning sees

    @property
    def node(self) -> TaskNode:
        """The task as planning sees it."""
        return TaskNode(id=self.id, type=self.type, difficulty=self.difficulty, num_tokens=self.num_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Tasks and the edges along which their answers travel.

    Raises
    ------
    WorkloadError: what `TaskGraph` refuses, an edge whose answer no prompt uses, a field without an edge.
    """

    id: str
    shape: str
    """which kind of job it is: wb1, wb2, wb3, or a name of your own"""
    tasks: tuple[JobTask, ...]
    edges: tuple[tuple[str, str], ...]
    """(before, after)"""
    source: str
    """where the job comes from"""

    def __post_init__(self) -> None:
        _ = self.graph  # the graph checks itself
        for task in self.tasks:
            _check_fields(self, task)

    @property
    def graph(self) -> TaskGraph:
        """The job as planning sees it."""
        return TaskGraph(id=self.id, tasks=tuple(task.node for task in self.tasks), edges=self.edges)

    def task(self, name: str) -> JobTask:
        """The task of that id; raises `UsageError` when there is none."""
        for task in self.tasks:
            if task.id == name:
                return task
        raise UsageError(f"job {self.id}: no task {name!r}; it has {', '.join(t.id for t in self.tasks)}")

    def needs(self, name: str) -> tuple[str, ...]:
        """The tasks whose answers a task waits for."""
        return tuple(before for before, after in self.edges if after == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """The jobs of one file, or of one generator."""

    name: str
    source: str
    jobs: tuple[Job, ...]
    sha256: str
    """of the file's bytes, or of what was generated"""
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One `{task}` or `{task.view}` of a prompt."""

    task: str
    view: str | None


def fields_of(prompt: str) -> tuple[Field, ...]:
    """The fields of a prompt, each once, in order of appearance; every other brace is text."""
    return tuple(dict.fromkeys(Field(match[1], match[2]) for match in _FIELD.finditer(prompt)))


def answer_of(task: JobTask, text: str) -> str:
    """What travels along the edges: the answer without the words around it, or all of it where there is none.

    A number: in plain digits. Code: what the first fence holds. JSON: the value on one line. A label: as it
    is declared. Else the text, stripped.
    """
    match task.key:
        case NumberKey():
            return last_number_text(text) or text.strip()
        case CodeKey():
            return extract_code(text).strip("\n")
        case JsonKey(value=value):
            found = first_json(text)
            is_part = isinstance(value, dict | list) and not isinstance(found, dict | list)
            return text.strip() if found is NOTHING or is_part else json.dumps(found, ensure_ascii=False)
        case LabelKey(labels=labels):
            named = labels_in(text, labels)
            return named[0] if len(named) == 1 else text.strip()
        case _:
            return text.strip()


def right_answer(task: JobTask) -> str:
    """A right answer, from the key."""
    match task.key:
        case NumberKey(value=value):
            return f"{value:.15g}"
        case JsonKey(value=value):
            return json.dumps(value, ensure_ascii=False)
        case LabelKey(value=label):
            return label
        case CodeKey(reference=reference) | TextKey(reference=reference):
            return reference


def render(job: Job, task: JobTask, answers: Mapping[str, str]) -> str:
    """A task's prompt with earlier answers put in.

    answers: task id → what `answer_of` gave. What is put in is never scanned again.

    Raises
    ------
    UsageError: an answer that the prompt needs is missing.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in answers:
            raise UsageError(f"job {job.id}: task {task.id}: no answer for {{{name}}}; run task {name} first")
        if match[2] == "row":
            return task.table.get(answers[name], "")
        return _view(job.task(name), answers[name], match[2])

    return _FIELD.sub(value, task.prompt)


def _view(task: JobTask, answer: str, view: str | None) -> str:
    buggy = task.key.buggy if isinstance(task.key, CodeKey) else None
    change = answer if buggy is None else diff(buggy, answer)
    match view:
        case None:
            return answer
        case "diff":
            return change
        case _:
            return str((_DIGITS.findall(change) or [""])[-1])


def _check_fields(job: Job, task: JobTask) -> None:
    needs, fields = job.needs(task.id), fields_of(task.prompt)
    where = f"job {job.id}: task {task.id}: prompt"
    for each in fields:
        if each.task not in needs:
            remedy = f"add the edge [{each.task!r}, {task.id!r}] or take the field out"
            raise WorkloadError(f"{where}: {{{each.task}}} is no edge that ends here; {remedy}")
        if each.view not in (None, *VIEWS):
            remedy = f"no such view, use {', '.join(VIEWS)}"
            raise WorkloadError(f"{where}: {{{each.task}.{each.view}}}: {remedy}")
        key = job.task(each.task).key
        if each.view == "diff" and not (isinstance(key, CodeKey) and key.buggy is not None):
            raise WorkloadError(f"{where}: {{{each.task}.diff}}: {each.task} has no buggy function; add it")
    if bool(task.table) != any(each.view == "row" for each in fields):
        raise WorkloadError(f"{where}: a table and {{task.row}} belong together; add one or drop the other")
    for need in needs:
        if need not in {each.task for each in fields}:
            remedy = f"put {{{need}}} into the prompt, or drop the edge"
            raise WorkloadError(f"{where}: the answer of {need} is never used; {remedy}")
