"""What a stage is asked, and what is taken from its answer.

Only `{name}` is a field of a prompt. Every other brace is text, and what is filled in is never scanned
again, so code with braces passes through unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.workflow.workload import StageSpec, Task

__all__ = ["TASK_FIELDS", "diff", "extract_code", "fields_of", "render"]

TASK_FIELDS = ("issue", "buggy", "entry_point")
"""The fields that come from the task; the others are `diff` and the names of stages."""

MAX_DIFF_LINES = 4
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def fields_of(prompt: str) -> tuple[str, ...]:
    """Return the names of the fields in a prompt, each once, in order of appearance."""
    return tuple(dict.fromkeys(_FIELD.findall(prompt)))


def render(stage: StageSpec, task: Task, outputs: Mapping[str, str]) -> str:
    """Fill in the prompt of `stage` for `task`.

    `outputs` maps the names of finished stages to their text. Raises `UsageError` when the prompt needs
    an output that is not there.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in TASK_FIELDS:
            return str(getattr(task, name))
        source = stage.diff_of if name == "diff" else name
        if source is None or source not in outputs:
            raise UsageError(
                f"stage {stage.name}: task {task.id}: no output for {{{name}}}; run stage {source} first"
            )
        return diff(task.buggy, extract_code(outputs[source])) if name == "diff" else outputs[source]

    return _FIELD.sub(value, stage.prompt)


def diff(buggy: str, fixed: str) -> str:
    """Return the lines that differ, compared position by position and stripped: `- old`, `+ new`.

    At most four lines, so that the first two changed positions are shown. The pocket models are trained
    on exactly these bytes.
    """
    before, after = buggy.split("\n"), fixed.split("\n")
    lines: list[str] = []
    for i in range(max(len(before), len(after))):
        old = before[i].strip() if i < len(before) else ""
        new = after[i].strip() if i < len(after) else ""
        if old != new:
            lines += ["- " + old, "+ " + new]
    return "\n".join(lines[:MAX_DIFF_LINES])


def extract_code(text: str) -> str:
    """Return what the first Markdown fence of `text` holds, up to its end if it is not closed.

    Text without a fence comes back unchanged.
    """
    match = _FENCE.search(text)
    return match[1] if match else text
