"""Workload files: the stages of a workflow and the tasks that run through it.

`docs/workloads.md` is the schema. Reading is strict (`harness.reading`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness.errors import UsageError, WorkloadError
from harness.reading import Reader, defined, label, read_json
from harness.workflow.prompts import TASK_FIELDS, diff, extract_code, fields_of, render

__all__ = ["GRADES", "StageSpec", "Task", "Workload", "diff", "extract_code", "load", "render"]

DOCS = "docs/workloads.md"
GRADES = ("code", "text", "exact", "none")
"""How the output of a stage may be graded."""

_RESERVED = (*TASK_FIELDS, "diff")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """One stage of a workflow."""

    name: str
    needs: tuple[str, ...]
    """The stages whose output the prompt uses: the edges that end here."""
    max_tokens: int
    """The output cap, in tokens."""
    grade: str
    """One of `GRADES`."""
    prompt: str
    """One user message with `{fields}`."""
    diff_of: str | None = None
    """The code stage whose output `{diff}` compares with the buggy function; derived when a file is read."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields in the prompt, in order of appearance."""
        return fields_of(self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One defect to be repaired, and what decides that it was."""

    id: str
    issue: str
    buggy: str
    reference: str
    entry_point: str
    visible_tests: tuple[str, ...]
    """Python statements that a router may run."""
    hidden_tests: tuple[str, ...]
    """Python statements that decide *solved*; no router sees them."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Per stage, the reference text."""
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Per stage, the patterns that must all occur (`a|b`: either)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The stages and tasks of one file."""

    name: str
    source: str
    stages: tuple[StageSpec, ...]
    """In an order in which every stage follows the stages it needs."""
    tasks: tuple[Task, ...]
    sha256: str
    """Of the file's bytes; a subset keeps that of its file."""
    path: Path | None = None

    @property
    def code_stage(self) -> StageSpec:
        """The one stage that is graded as code."""
        return next(stage for stage in self.stages if stage.grade == "code")

    def stage(self, name: str) -> StageSpec:
        """Return the stage of that name; raise `UsageError` when there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise UsageError(f"workload {self.name}: no stage {name!r}; it has {known}")

    def subset(self, n: int) -> Workload:
        """Return the workload with its first `n` tasks; raise `UsageError` unless 1 ≤ n ≤ their number."""
        if not 1 <= n <= len(self.tasks):
            raise UsageError(f"workload {self.name}: {n} tasks asked for; ask for 1 to {len(self.tasks)}")
        return replace(self, tasks=self.tasks[:n])


def load(path_or_name: str | Path, folder: Path | None = None) -> Workload:
    """Read and validate a workload file.

    `path_or_name` is a path, or the bare name of a file `folder/NAME.json`. Raises `WorkloadError` when
    the file cannot be read or breaks the schema.
    """
    path = _locate(path_or_name, folder)
    document = read_json(path, DOCS)
    top = Reader(str(path), document.value)
    top.keys({"schema", "name", "source", "stages", "tasks"}, optional=set())
    top.schema()
    stages = _stages(top)
    return Workload(
        name=top.text("name"),
        source=top.text("source"),
        stages=stages,
        tasks=_tasks(top, stages),
        sha256=document.sha256,
        path=path,
    )


def _locate(path_or_name: str | Path, folder: Path | None) -> Path:
    path = Path(path_or_name)
    if path.suffix == ".json" or len(path.parts) != 1 or path.is_file():
        return path
    if folder is None:
        raise WorkloadError(f"workload {path_or_name!r}: not a file; name a path that ends in .json")
    found = folder / f"{path_or_name}.json"
    if not found.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
        raise WorkloadError(f"workload {path_or_name!r}: unknown; known are {names}; or name a file")
    return found


def _stages(top: Reader) -> tuple[StageSpec, ...]:
    stages: dict[str, StageSpec] = {}
    for i, item in enumerate(top.objects("stages")):
        reader = Reader(f"{top.where}: stage {label(item, 'name', i)}", item)
        stage = _stage(reader)
        if stage.name in stages:
            reader.fail("name", "a stage of this name exists; rename one")
        stages[stage.name] = stage
    code = [name for name, stage in stages.items() if stage.grade == "code"]
    if len(code) != 1:
        raise WorkloadError(f"{top.where}: stages: {len(code)} have grade 'code'; give it to exactly one")
    for stage in stages.values():
        _check_edges(Reader(f"{top.where}: stage {stage.name}", asdict(stage)), stage, stages, code[0])
    ordered = _topological(top, stages)
    return tuple(replace(s, diff_of=code[0]) if "diff" in s.fields else s for s in ordered)


def _stage(reader: Reader) -> StageSpec:
    reader.keys({"name", "needs", "max_tokens", "grade", "prompt"}, optional=set())
    name, max_tokens, grade = reader.text("name"), reader.value["max_tokens"], reader.text("grade")
    if not name.isidentifier() or name in _RESERVED:
        reader.fail("name", f"write an identifier other than {', '.join(_RESERVED)}")
    if type(max_tokens) is not int or max_tokens < 1:
        reader.fail("max_tokens", "write a whole number of tokens, at least 1")
    if grade not in GRADES:
        reader.fail("grade", f"write one of {', '.join(GRADES)}")
    needs = reader.texts("needs")
    if len(set(needs)) != len(needs):
        reader.fail("needs", "name each stage once")
    return StageSpec(name=name, needs=needs, max_tokens=max_tokens, grade=grade, prompt=reader.text("prompt"))


def _check_edges(reader: Reader, stage: StageSpec, stages: Mapping[str, StageSpec], code: str) -> None:
    for need in stage.needs:
        if need not in stages:
            reader.fail("needs", f"there is no stage {need!r}; the stages are {', '.join(stages)}")
    for name in stage.fields:
        if name in TASK_FIELDS:
            continue
        source = code if name == "diff" else name
        if source not in stages:
            reader.fail("prompt", f"there is no field {{{name}}}; use {', '.join(_RESERVED)} or a stage")
        if source not in stage.needs:
            reader.fail("prompt", f"{{{name}}} uses stage {source!r}; add it to needs")


def _topological(top: Reader, stages: Mapping[str, StageSpec]) -> list[StageSpec]:
    ordered: dict[str, StageSpec] = {}
    while len(ordered) < len(stages):
        ready = [s for s in stages.values() if s.name not in ordered and all(n in ordered for n in s.needs)]
        if not ready:
            rest = ", ".join(name for name in stages if name not in ordered)
            raise WorkloadError(f"{top.where}: stages: {rest} need each other in a cycle; drop one of needs")
        ordered[ready[0].name] = ready[0]
    return list(ordered.values())


def _tasks(top: Reader, stages: tuple[StageSpec, ...]) -> tuple[Task, ...]:
    tasks: dict[str, Task] = {}
    for i, item in enumerate(top.objects("tasks")):
        reader = Reader(f"{top.where}: task {label(item, 'id', i)}", item)
        task = _task(reader, {stage.name: stage for stage in stages})
        if task.id in tasks:
            reader.fail("id", "a task of this id exists; rename one")
        tasks[task.id] = task
    return tuple(tasks.values())


def _task(reader: Reader, stages: Mapping[str, StageSpec]) -> Task:
    required = {"id", "issue", "buggy", "reference", "entry_point", "visible_tests", "hidden_tests"}
    reader.keys(required, optional={"references", "facts"})
    task = Task(
        id=reader.text("id"),
        issue=reader.text("issue"),
        buggy=reader.text("buggy"),
        reference=reader.text("reference"),
        entry_point=reader.text("entry_point"),
        visible_tests=reader.texts("visible_tests"),
        hidden_tests=reader.texts("hidden_tests", minimum=1),
        references=_references(reader, stages),
        facts=_facts(reader, stages),
    )
    for key, tests in (("visible_tests", task.visible_tests), ("hidden_tests", task.hidden_tests)):
        for i, test in enumerate(tests):
            reader.python(f"{key}[{i}]", test)
    if task.entry_point not in defined(reader.python("reference", task.reference)):
        reader.fail("entry_point", "name a function that the reference defines at top level")
    return task


def _references(reader: Reader, stages: Mapping[str, StageSpec]) -> dict[str, str]:
    inner = Reader(f"{reader.where}: references", reader.value.get("references", {}))
    graded = {name for name, stage in stages.items() if stage.grade in ("text", "exact")}
    inner.keys(graded, optional=set(stages) - graded)
    return {name: inner.text(name) for name in inner.value}


def _facts(reader: Reader, stages: Mapping[str, StageSpec]) -> dict[str, tuple[str, ...]]:
    inner = Reader(f"{reader.where}: facts", reader.value.get("facts", {}))
    inner.keys(set(), optional={n for n, stage in stages.items() if stage.grade in ("text", "exact")})
    facts = {name: inner.texts(name) for name in inner.value}
    for name, patterns in facts.items():
        if not all(part.strip() for pattern in patterns for part in pattern.split("|")):
            inner.fail(name, "an empty alternative is always found; remove the spare '|'")
    return facts
