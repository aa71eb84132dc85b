"""Files of jobs: WorkflowBench's three jobs with their contents, and a user's own in the same schema.

`docs/jobs.md` is the schema. Reading is strict (`harness.reading`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import WorkloadError
from harness.reading import Reader, defined, label, read_json
from harness.workflow.jobs.graph import TASK_TYPES
from harness.workflow.jobs.job import (
    CodeKey,
    Job,
    JobFile,
    JobTask,
    JsonKey,
    Key,
    LabelKey,
    NumberKey,
    TextKey,
)

__all__ = ["load", "published"]

DOCS = "docs/jobs.md"
PUBLISHED = Path(__file__).with_name("workflowbench.json")


@cache
def published() -> JobFile:
    """WorkflowBench's three jobs."""
    return load(PUBLISHED)


def load(path: str | Path) -> JobFile:
    """Read and validate a file of jobs.

    Raises
    ------
    WorkloadError: the file cannot be read or breaks the schema; it names file, job, task, key and value.
    """
    path = Path(path)
    document = read_json(path, DOCS)
    top = Reader(str(path), document.value, DOCS)
    top.keys({"schema", "name", "source", "jobs"}, optional=set())
    top.schema()
    jobs: dict[str, Job] = {}
    for i, item in enumerate(top.objects("jobs")):
        reader = top.at(f"job {label(item, 'id', i)}", item)
        job = _job(reader)
        if job.id in jobs:
            reader.fail("id", "a job of this id exists; rename one")
        jobs[job.id] = job
    return JobFile(
        name=top.text("name"),
        source=top.text("source"),
        jobs=tuple(jobs.values()),
        sha256=document.sha256,
        path=path,
    )


def _job(reader: Reader) -> Job:
    reader.keys({"id", "shape", "source", "tasks", "edges"}, optional=set())
    tasks: dict[str, JobTask] = {}
    for i, item in enumerate(reader.objects("tasks")):
        inner = reader.at(f"task {label(item, 'id', i)}", item)
        task = _task(inner)
        if task.id in tasks:
            inner.fail("id", "a task of this id exists; rename one")
        tasks[task.id] = task
    where = reader.where.rpartition(": job ")[0]
    try:
        return Job(
            id=reader.text("id"),
            shape=reader.text("shape"),
            source=reader.text("source"),
            tasks=tuple(tasks.values()),
            edges=_edges(reader, tuple(tasks)),
        )
    except WorkloadError as exc:
        raise exc if str(exc).startswith(where) else WorkloadError(f"{where}: {exc}") from exc


def _edges(reader: Reader, ids: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    edges = reader.value["edges"]
    if not isinstance(edges, list):
        reader.fail("edges", 'write a list of ["before", "after"]')
    for i, edge in enumerate(edges):
        named = Reader(reader.where, {f"edges[{i}]": edge}, DOCS)
        is_pair = isinstance(edge, list) and len(edge) == 2 and all(isinstance(end, str) for end in edge)
        if not is_pair or not set(edge) <= set(ids):
            named.fail(f"edges[{i}]", f"write two of {', '.join(ids)}")
        if edge in edges[:i]:
            named.fail(f"edges[{i}]", "it stands there twice; remove one")
    return tuple((before, after) for before, after in edges)


def _task(reader: Reader) -> JobTask:
    required = {"id", "type", "difficulty", "num_tokens", "max_tokens", "prompt", "key"}
    reader.keys(required, optional={"table"})
    if not reader.text("id").isidentifier():
        reader.fail("id", "write an identifier: prompts name the task by it")
    if reader.text("type") not in TASK_TYPES:
        reader.fail("type", f"unknown task type; use {', '.join(TASK_TYPES)}")
    difficulty = reader.number("difficulty")
    if not 1 <= difficulty < 100:
        reader.fail("difficulty", "write a number from 1 (plain) to below 100")
    return JobTask(
        id=reader.text("id"),
        type=reader.text("type"),
        difficulty=difficulty,
        num_tokens=reader.count("num_tokens"),
        max_tokens=reader.count("max_tokens"),
        prompt=reader.text("prompt"),
        key=_key(reader.at("key", reader.value["key"])),
        table=_table(reader),
    )


def _table(reader: Reader) -> dict[str, str]:
    table = reader.value.get("table", {})
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        reader.fail("table", "write an object that maps answers to text")
    return table


def _key(reader: Reader) -> Key:
    if not isinstance(reader.value, dict) or reader.value.get("grade") not in _KEYS:
        reader.fail("grade", f"write one of {', '.join(_KEYS)}")
    return _KEYS[reader.value["grade"]](reader)


def _json_key(reader: Reader) -> Key:
    reader.keys({"grade", "value"}, optional=set())
    return JsonKey(value=reader.value["value"])


def _number_key(reader: Reader) -> Key:
    reader.keys({"grade", "value"}, optional={"relative_tolerance"})
    given: dict[str, Any] = {}
    if "relative_tolerance" in reader.value:
        given["relative_tolerance"] = reader.number("relative_tolerance")
        if not 0 <= given["relative_tolerance"] < 1:
            reader.fail("relative_tolerance", "write a share from 0 to below 1")
    return NumberKey(value=reader.number("value"), **given)


def _code_key(reader: Reader) -> Key:
    required = {"grade", "reference", "entry_point", "hidden_tests"}
    reader.keys(required, optional={"visible_tests", "buggy"})
    key = CodeKey(
        reference=reader.text("reference"),
        entry_point=reader.text("entry_point"),
        hidden_tests=reader.texts("hidden_tests", minimum=1),
        visible_tests=reader.texts("visible_tests") if "visible_tests" in reader.value else (),
        buggy=reader.text("buggy") if "buggy" in reader.value else None,
    )
    for name, tests in (("visible_tests", key.visible_tests), ("hidden_tests", key.hidden_tests)):
        for i, test in enumerate(tests):
            reader.python(f"{name}[{i}]", test)
    if key.entry_point not in defined(reader.python("reference", key.reference)):
        reader.fail("entry_point", "name a function that the reference defines at top level")
    return key


def _text_key(reader: Reader) -> Key:
    reader.keys({"grade", "reference", "facts"}, optional=set())
    facts = reader.texts("facts", minimum=1)
    if not all(part.strip() for fact in facts for part in fact.split("|")):
        reader.fail("facts", "an empty alternative is always found; remove the spare '|'")
    return TextKey(reference=reader.text("reference"), facts=facts)


def _label_key(reader: Reader) -> Key:
    reader.keys({"grade", "value", "labels"}, optional=set())
    labels = reader.texts("labels", minimum=2)
    if len({one.lower() for one in labels}) < len(labels):
        reader.fail("labels", "two labels are alike, since case does not count; rename one")
    if reader.text("value") not in labels:
        reader.fail("value", f"write one of the labels {', '.join(labels)}")
    return LabelKey(value=reader.text("value"), labels=labels)


_KEYS: dict[str, Callable[[Reader], Key]] = {
    "json": _json_key,
    "number": _number_key,
    "code": _code_key,
    "text": _text_key,
    "label": _label_key,
}
