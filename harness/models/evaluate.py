"""Grade the pocket models on held-out tasks, through llama.cpp, greedily, on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from harness.models import engine, registry
from harness.models.tasks import FAMILIES, Example, Family, flow
from harness.models.workload import Task

__all__ = ["ASSIGNMENTS", "GRADING_SEED", "Flow", "Grades", "decode_latency", "grade"]

GRADING_SEED = 20
"""Seed of the held-out tasks that the card is about."""
ASSIGNMENTS = tuple("".join(letters) for letters in product("LS", repeat=3))
"""Which model runs brief, fix and summary: L the large one, S the nano."""

_LETTERS = {"L": "large", "S": "nano"}
_LATENCY_TOKENS = 48
_LATENCY_PROMPT = (
    "Repair.\nStep 1 of run: sort the items\ndef run(xs):\n    xs = xs[::-1]\n    return sum(xs)"
)


class Grades(NamedTuple):
    """One model on one family."""

    is_correct: list[bool]
    confidence: list[float]
    """Least token log-probability of each answer."""

    @property
    def share(self) -> float:
        """Share of right answers."""
        return sum(self.is_correct) / len(self.is_correct)


def grade(model: engine.Engine, family: Family, tasks: Sequence[Example]) -> Grades:
    """Grade one model on the tasks of one family."""
    answers = model.answers(
        [task.prompt for task in tasks], max_tokens=family.max_tokens, with_confidence=True
    )
    is_correct = [family.is_correct(task, answer.text) for task, answer in zip(tasks, answers, strict=True)]
    return Grades(is_correct, [answer.confidence for answer in answers])


def decode_latency(num_rounds: int) -> dict[str, list[float]]:
    """Decode time per token in ms, f16, one thread: both models in turns, `num_rounds` each."""
    with _engine("nano") as nano, _engine("large") as large:
        both = {"nano": nano, "large": large}
        times: dict[str, list[float]] = {name: [] for name in both}
        for number in range(-1, num_rounds):
            for name in sorted(both, reverse=bool(number % 2)):
                reply = both[name].answer(_LATENCY_PROMPT, max_tokens=_LATENCY_TOKENS, ignore_eos=True)
                if number >= 0:
                    times[name].append(reply.decode_ms)
    return times


class Flow:
    """The three-stage workflow over the tasks of `swe-mini`; the same prompt is never answered twice."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.cases = [task.case for task in tasks]
        self._known: dict[tuple[str, str], engine.Answer] = {}
        self._engines: dict[str, engine.Engine] = {}

    def __enter__(self) -> Flow:
        self._engines = {letter: _engine(name) for letter, name in _LETTERS.items()}
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._engines = {}

    def solved(self, letters: str) -> list[bool]:
        """Whether each case is solved when these models run brief and fix."""
        return self.fixed(letters[1], self.briefs(letters[0]))

    def briefs(self, letter: str) -> list[str]:
        """The briefs that a model writes."""
        prompts = [flow.BRIEF_PROMPT.format(issue=case.issue) for case in self.cases]
        return self._texts(letter, prompts, FAMILIES["brief"].max_tokens)

    def fixed(self, letter: str, briefs: Sequence[str]) -> list[bool]:
        """Whether each case is solved when a model is given these briefs; an empty one is left out."""
        answers = self._texts(letter, self._fix_prompts(briefs), FAMILIES["fix"].max_tokens)
        return [task.is_solved_by(answer) for task, answer in zip(self.tasks, answers, strict=True)]

    def summed_up(self, letters: str) -> list[bool]:
        """Whether each summary is the expected one, given what came before it."""
        briefs = self.briefs(letters[0])
        fixes = self._texts(letters[1], self._fix_prompts(briefs), FAMILIES["fix"].max_tokens)
        prompts = [
            flow.SUMMARY_PROMPT.format(analysis=brief, diff=flow.line_diff(case.buggy, fix))
            for case, brief, fix in zip(self.cases, briefs, fixes, strict=True)
        ]
        answers = self._texts(letters[2], prompts, FAMILIES["summary"].max_tokens)
        return [answer.strip() == case.summary for case, answer in zip(self.cases, answers, strict=True)]

    def _fix_prompts(self, briefs: Sequence[str]) -> list[str]:
        # A brief that is withheld leaves no blank line behind: the models never saw one.
        pairs = zip(self.cases, briefs, strict=True)
        prompts = [flow.FIX_PROMPT.format(analysis=brief, buggy=case.buggy) for case, brief in pairs]
        return [prompt.replace("\n\n", "\n", 1) for prompt in prompts]

    def _texts(self, letter: str, prompts: Sequence[str], max_tokens: int) -> list[str]:
        for prompt in prompts:
            if (letter, prompt) not in self._known:
                self._known[letter, prompt] = self._engines[letter].answer(prompt, max_tokens=max_tokens)
        return [self._known[letter, prompt].text for prompt in prompts]


def _engine(name: str) -> engine.Engine:
    return engine.Engine(registry.gguf_path(name))
