"""Jobs of WorkflowBench's three shapes for the pocket models, in the templates that these were trained on.

    wb1  extract a number from a record → subtract from it, or a word problem with it → rewrite a function by
         the report of that number, or write one with it as a constant
    wb2  repair a function → multiply by the constant that the repair wrote ‖ sum the change up from the
         lines that the repair changed
    wb3  extract a word from a record → find the defect in the function that belongs to the word → restate an
         issue whose constant is the number of the line

The models know nothing beyond their templates, so the shapes are the origin's and the contents are not. Nor
can they look anything up: the prompt's `table` does it, as a tool would. Whatever training would have to
leave out is held out: the prompts that a chain of right answers gives, and the skeletons of the programs.

Chance: reasoning names one of four lines, drawn evenly, so 1/4; an extracted word is one of 8; all else is
next to 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache

from harness.models.tasks import FAMILIES, words
from harness.models.tasks.flow import BRIEF_PROMPT, FIX_PROMPT, SUMMARY_PROMPT, Case
from harness.workflow.jobs.job import Job, JobTask, LabelKey, TextKey
from harness.workflow.jobs.pocket_steps import (
    CONSTANTS,
    Step,
    difference,
    drawn,
    function_to_write,
    held_out_record,
    pinned_case,
    product,
    repair_key,
    reported_repair,
    with_field,
)

__all__ = ["SHAPES", "pocket_job"]

SOURCE = "harness/workflow/jobs/pocket.py: templates of harness/models/tasks, held out from training"
LINES = ("line 2", "line 4", "line 5", "line 6")
WORDS: Mapping[str, tuple[str, ...]] = {"job": tuple(words.JOBS), "color": tuple(words.COLORS)}
FINDING = "if v > lim: should be if v < lim:"
"""As long as what the models write after the line."""
WRITTEN_SHARE = 0.25
POOL = 8
"""At least so many functions with a defect in each line, from which a wrong word is given one."""
FRAME_TOKENS = 14
"""Tokens of the chat template around a question and its answer."""
CHARS_PER_TOKEN: Mapping[str, float] = {
    "extract": 2.61,
    "math": 1.55,
    "repair": 3.53,
    "fix": 3.0,
    "summary": 2.83,
    "analyse": 3.46,
    "brief": 3.45,
    "code": 3.13,
}
"""By family; measured with the models' tokenizer over the jobs of seed 1."""


def pocket_job(name: str, shape: str, rng: random.Random) -> Job:
    """Draw a job of a shape; the same for the same state of the generator."""
    steps, edges = SHAPES[shape](rng)
    tasks = tuple(_task(f"s{place}", step) for place, step in enumerate(steps))
    return Job(id=name, shape=shape, tasks=tasks, edges=edges, source=SOURCE)


_Drawn = tuple[list[Step], tuple[tuple[str, str], ...]]
_CHAIN = (("s0", "s1"), ("s1", "s2"))
_FORK = (("s0", "s1"), ("s0", "s2"))


def _wb1(rng: random.Random) -> _Drawn:
    if rng.random() < WRITTEN_SHARE:
        code, constant = function_to_write(rng)
    else:
        constant = rng.choice(CONSTANTS)
        code = reported_repair(rng, constant)
    return [*difference(rng, constant), code], _CHAIN


def _wb2(rng: random.Random) -> _Drawn:
    case, constant = pinned_case(rng)
    code = Step(
        type="code",
        family="fix",
        prompt=FIX_PROMPT.format(analysis=case.brief, buggy=case.buggy),
        answer=case.reference,
        difficulty=3.0,
        key=repair_key(case),
    )
    summary = Step(
        type="summarize",
        family="summary",
        prompt=SUMMARY_PROMPT.format(analysis=case.brief, diff="{s0.diff}"),
        brought=case.diff,
        answer=case.summary,
        difficulty=2.0,
        key=TextKey(reference=case.summary, facts=(case.summary,)),
    )
    return [code, product(rng, constant), summary], _FORK


def _wb3(rng: random.Random) -> _Drawn:
    case, number = pinned_case(rng, [int(line[-1]) for line in LINES])
    field, line = rng.choice(list(WORDS)), f"line {number}"
    record = held_out_record(rng, field)
    table = {
        word: _defect(rng, line)
        if word == record.target
        else rng.choice(_pool()[rng.choice([other for other in LINES if other != line])])
        for word in WORDS[field]
    }
    extraction = Step(
        type="extraction",
        family="extract",
        prompt=record.prompt,
        answer=record.target,
        difficulty=1.5,
        key=LabelKey(value=record.target, labels=WORDS[field]),
    )
    reasoning = Step(
        type="reasoning",
        family="analyse",
        prompt="{s0.row}",
        brought=table[record.target],
        answer=f"{line}: {FINDING}",
        difficulty=2.5,
        key=LabelKey(value=line, labels=LINES),
        table=table,
    )
    return [extraction, reasoning, _issue(case, number)], _CHAIN


SHAPES: Mapping[str, Callable[[random.Random], _Drawn]] = {"wb1": _wb1, "wb2": _wb2, "wb3": _wb3}


def _issue(case: Case, number: int) -> Step:
    issue = case.issue.replace(case.phrase, with_field(case.phrase, number, "{s1.number}"))
    return Step(
        type="summarize",
        family="brief",
        prompt=BRIEF_PROMPT.format(issue=issue),
        answer=case.brief,
        difficulty=1.5,
        key=TextKey(reference=case.brief, facts=(case.brief,)),
    )


@cache
def _pool() -> Mapping[str, tuple[str, ...]]:
    rng = random.Random("pocket/analyse")
    pool: dict[str, list[str]] = {line: [] for line in LINES}
    while min(map(len, pool.values())) < POOL:
        example = FAMILIES["analyse"].sample(rng)
        if example.is_held_out:
            pool[example.target.partition(":")[0]].append(example.prompt)
    return {line: tuple(prompts) for line, prompts in pool.items()}


def _defect(rng: random.Random, line: str) -> str:
    """A held-out question about a function whose defect is in this line."""

    def draw() -> str | None:
        example = FAMILIES["analyse"].sample(rng)
        return example.prompt if example.is_held_out and example.target.startswith(f"{line}:") else None

    return drawn(draw)


def _task(name: str, step: Step) -> JobTask:
    num_chars = len(step.prompt) + len(step.brought) + len(step.answer)
    return JobTask(
        id=name,
        type=step.type,
        difficulty=step.difficulty,
        num_tokens=round(num_chars / CHARS_PER_TOKEN[step.family]) + FRAME_TOKENS,
        prompt=step.prompt,
        max_tokens=FAMILIES[step.family].max_tokens,
        key=step.key,
        table=step.table,
    )
