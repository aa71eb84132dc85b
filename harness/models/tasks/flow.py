"""The three stages of the workload `swe-mini`: brief an issue, fix the function, sum up the change.

The function is a pipeline with one wrong step. What the step should do stands in the issue only
(so in the brief, and nowhere in the function): without it the fix cannot be known, and a fix stage
that ignores its input scores next to nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.models.tasks import pipelines, words
from harness.models.tasks.base import Example
from harness.models.tasks.program import behaviour

__all__ = [
    "BRIEF_PROMPT",
    "FIX_PROMPT",
    "SUMMARY_PROMPT",
    "Brief",
    "Case",
    "Fix",
    "Summary",
    "draw_case",
    "line_diff",
]

BRIEF_PROMPT = "Brief the issue.\nIssue: {issue}"
FIX_PROMPT = "Repair.\n{analysis}\n{buggy}"
SUMMARY_PROMPT = "Summarize the change.\n{analysis}\n{diff}"

_REQUIREMENTS = (
    "Step {k} of {f} should {t}.",
    "{f} must {t} in step {k}.",
    "We expect step {k} of {f} to {t}.",
)
_MAX_DIFF_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One issue with the function it is about, and what every stage should say."""

    function: str
    issue: str
    buggy: str
    reference: str
    brief: str
    summary: str
    phrase: str
    """What the wrong step should do."""
    step: int
    """The wrong step, counted from 1."""
    inputs: tuple[tuple[object, ...], ...]
    """Arguments on which the buggy function and the reference differ at least once."""

    @property
    def diff(self) -> str:
        """The change, as the summary stage is shown it."""
        return line_diff(self.buggy, self.reference)

    @property
    def sources(self) -> tuple[str, str]:
        """Both programs, the reference first."""
        return self.reference, self.buggy


def draw_case(rng: random.Random) -> Case:
    """Draw a function of two or three steps with one of them wrong, and its issue."""
    while True:
        dialect, function = pipelines.draw_dialect(rng), rng.choice(words.FUNCTION_NAMES)
        variable = rng.choice(dialect.variables)
        operations = rng.sample(dialect.operations, rng.randint(2, 3))
        steps = [
            pipelines.draw_step(rng, operation, variable)
            for operation in (*operations, rng.choice(dialect.ends))
        ]
        place = rng.randrange(len(operations))
        is_constant_wrong = operations[place].has_constant and rng.random() < 0.6
        other = operations[place] if is_constant_wrong else rng.choice(dialect.operations)
        wrong = pipelines.draw_step(rng, other, variable)
        reference = pipelines.function_source(function, variable, steps)
        buggy = pipelines.function_source(function, variable, [*steps[:place], wrong, *steps[place + 1 :]])
        if behaviour(reference, function, dialect.inputs) != behaviour(buggy, function, dialect.inputs):
            break
    values = {"f": function, "k": place + 1, "t": steps[place].phrase}
    return Case(
        function=function,
        issue=_issue(rng, rng.choice(_REQUIREMENTS).format(**values)),
        buggy=buggy,
        reference=reference,
        brief="Step {k} of {f}: {t}".format(**values),
        summary="Fix step {k} of {f} to {t}: ".format(**values) + f"{variable} = {steps[place].expression}",
        phrase=steps[place].phrase,
        step=place + 1,
        inputs=dialect.inputs,
    )


def line_diff(old: str, new: str) -> str:
    """The lines that differ, place by place: `- old` and `+ new`, stripped, at most four lines."""
    olds, news = old.split("\n"), new.split("\n")
    height = max(len(olds), len(news))
    lines: list[str] = []
    for before, after in zip(_padded(olds, height), _padded(news, height), strict=True):
        if before.strip() != after.strip():
            lines += [f"- {before.strip()}", f"+ {after.strip()}"]
    return "\n".join(lines[:_MAX_DIFF_LINES])


class _Stage:
    """What the three stages share: one case, one prompt, one answer."""

    chance = 0.0

    def _example(self, case: Case, prompt: str, target: str) -> Example:
        return Example(prompt=prompt, target=target, sources=case.sources, facts={"case": case})

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        return answer.strip() == example.target


class Brief(_Stage):
    """Find the requirement in a noisy issue and restate it."""

    name = "brief"
    max_tokens = 32
    baseline = "the first sentence of the issue"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        case = draw_case(rng)
        return self._example(case, BRIEF_PROMPT.format(issue=case.issue), case.brief)

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return str(example.facts["case"].issue.split(". ")[0])


class Fix(_Stage):
    """Repair the function so that it does what the brief says."""

    name = "fix"
    max_tokens = 90
    baseline = "the function as it is"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        case = draw_case(rng)
        return self._example(case, FIX_PROMPT.format(analysis=case.brief, buggy=case.buggy), case.reference)

    def is_correct(self, example: Example, answer: str) -> bool:
        """Grade one answer."""
        case: Case = example.facts["case"]
        return behaviour(answer, case.function, case.inputs) == behaviour(
            case.reference, case.function, case.inputs
        )

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return str(example.facts["case"].buggy)


class Summary(_Stage):
    """Say in one sentence what was changed and to what."""

    name = "summary"
    max_tokens = 56
    baseline = "the brief"

    def sample(self, rng: random.Random) -> Example:
        """Draw one example."""
        case = draw_case(rng)
        return self._example(case, SUMMARY_PROMPT.format(analysis=case.brief, diff=case.diff), case.summary)

    def trivial(self, example: Example) -> str:
        """Answer without having learnt anything."""
        return str(example.facts["case"].brief)


def _issue(rng: random.Random, requirement: str) -> str:
    noise = (
        f"{rng.choice(words.NAMES)} saw this on {rng.choice(words.DAYS)}.",
        f"It broke the {rng.choice(words.CITIES)} report {rng.randint(2, 9)} times.",
        f"Version {rng.randint(1, 9)}.{rng.randint(0, 9)} was fine.",
        f"The run took {rng.randint(2, 99)} seconds.",
        f"{rng.choice(words.NAMES)} asked twice.",
    )
    sentences = [requirement, *rng.sample(noise, rng.randint(1, 3))]
    rng.shuffle(sentences)
    return " ".join(sentences)


def _padded(lines: list[str], height: int) -> list[str]:
    return lines + [""] * (height - len(lines))
