"""What every test-time strategy is: a question in, one chosen answer out, with all that it took.

A strategy spends calls on one question and chooses among the answers by a rule. It sees the question and what
a verifier makes of an answer; the judge's tests are no part of either, so no strategy can reach them.

    single            one greedy answer: the baseline
    reread            one answer to the question given twice
    diverse           one answer per temperature of a ladder
    best_of_n         n answers, the one that the verifier scores highest
    self_consistency  n answers, the one that most of them give
    escalate          the cheap strategy first, the next where its answer scores too low

Everything that an `Outcome` says of tokens is the server's count. Its rule can be applied again to its
candidates (`choosing.RULES`), which is how a run is checked to have chosen as it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from harness.backends.base import Request
from harness.errors import UsageError

__all__ = [
    "Budget",
    "Call",
    "Candidate",
    "Failure",
    "Outcome",
    "Question",
    "Reply",
    "Sampler",
    "StepChoice",
    "Strategy",
    "Verifier",
    "total",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task as a strategy may see it; the judge's tests are elsewhere (`tasks.base.Task`)."""

    id: str
    prompt: str
    max_tokens: int
    """Output cap of one answer."""
    read: Callable[[str], str | None]
    """The answer that a text gives, in one form for all texts that give it; `None` when it gives none."""
    visible: tuple[str, ...] = ()
    """Tests that a verifier may run; empty where the task has none."""
    language: str = "text"
    """`python`, `rust`, or `text` where nothing is run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one question may cost. A call is begun while something is left, and sized so that its caps fit,
    but it asks for one answer at least: a budget is exceeded by one prompt and one answer's cap at most."""

    tokens: int | None = None
    """Prompt and output tokens of all calls, as the server counted them; `None` sets no bound. A call whose
    tokens the server did not count is charged its caps."""
    seconds: float | None = None
    """Seconds since the strategy began; no call is begun later. `None` sets no bound."""

    def __post_init__(self) -> None:
        for name in ("tokens", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"budget: {name} is {value}; give more than 0, or None for no bound")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answers of one call."""

    texts: tuple[str, ...]
    prompt_tokens: int | None
    """Of the prompt, which a batch reads once."""
    output_tokens: tuple[int | None, ...]
    """Of each answer, as the server counted it."""
    token_logprobs: tuple[tuple[float, ...] | None, ...]
    finish_reasons: tuple[str | None, ...]
    sent_s: float
    done_s: float
    model: str | None = None
    """The model's name as the server reported it; `None` for a batch."""
    engine_s: float | None = None
    """Prefill and decode by the engine's own clock, where it says so."""


class Sampler(Protocol):
    """Draws answers from one model."""

    name: str
    """The role that it draws from."""
    way: str
    """`batched`: one request for several answers; `concurrent`: several requests at once; `sequential`."""
    at_once: int
    """Answers drawn together."""

    async def call(self, request: Request, num: int) -> Reply:
        """Send one request for `num` answers; raises `BackendError` when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One answer, and everything known about it."""

    text: str
    answer: str | None
    """What it says, by the question's reader."""
    sampler: str
    temperature: float
    """As sent in the request."""
    seed: int
    """Sent in the request; in a batch, the request's plus the answer's place, as llama.cpp seeds it."""
    call: int
    """Its call's place in `Outcome.calls`."""
    prompt_tokens: int | None
    """Of its call's prompt; shared by the answers of a batch."""
    output_tokens: int | None
    seconds: float
    """Its call's; shared by the answers of a batch."""
    finish_reason: str | None
    mean_logprob: float | None
    min_logprob: float | None
    score: float | None = None
    """The verifier's; `None` when it was not asked or cannot say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, answered or not."""

    sampler: str
    num: int
    """Answers asked for."""
    temperature: float
    began_s: float
    done_s: float
    prompt_tokens: int | None
    output_tokens: int | None
    engine_s: float | None
    model: str | None = None
    error: str | None = None

    def charged_tokens(self, max_tokens: int) -> int:
        """What it costs a budget: its tokens; for answers that nobody counted, their caps."""
        counted = self.num * max_tokens if self.output_tokens is None else self.output_tokens
        return (self.prompt_tokens or 0) + counted

    @property
    def seconds(self) -> float:
        """From sending it to its last byte."""
        return self.done_s - self.began_s


class StepChoice(NamedTuple):
    """What one step of an escalation chose among the candidates that it drew."""

    strategy: str
    rule: str
    first: int
    end: int
    """Its candidates are those from `first` to before `end`."""
    chosen: int | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that should have worked and did not."""

    where: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a strategy made of one question."""

    strategy: str
    question: str
    candidates: tuple[Candidate, ...]
    chosen: int | None
    """The chosen candidate's place; `None` when there is none to choose."""
    rule: str
    """The rule that chose it, by its name in `choosing.RULES`, or `escalation`."""
    calls: tuple[Call, ...]
    failures: tuple[Failure, ...]
    began_s: float
    done_s: float
    sample_s: float
    """Waiting for answers."""
    verify_s: float
    """Scoring them."""
    stopped: str | None = None
    """The budget that ended it before all was drawn: `tokens` or `seconds`."""
    steps: tuple[StepChoice, ...] = ()
    """Of an escalation, in the order in which they were taken; empty for every other strategy."""
    accept: float | None = None
    """Of an escalation: the least score that ended it."""

    @property
    def text(self) -> str | None:
        """The chosen answer; `None` when there is none."""
        return None if self.chosen is None else self.candidates[self.chosen].text

    @property
    def wall_s(self) -> float:
        """From the question to the choice."""
        return self.done_s - self.began_s

    @property
    def prompt_tokens(self) -> int | None:
        """Read in all calls that were answered; `None` when one of them was not counted."""
        return total(call.prompt_tokens for call in self.calls if call.error is None)

    @property
    def output_tokens(self) -> int | None:
        """Written in all calls that were answered; `None` when one of them was not counted."""
        return total(call.output_tokens for call in self.calls if call.error is None)

    @property
    def tokens(self) -> int | None:
        """Read and written."""
        return total((self.prompt_tokens, self.output_tokens))


class Verifier(Protocol):
    """Scores an answer by what a strategy may know: higher is better."""

    name: str
    wants_logprobs: bool

    def score(self, question: Question, candidate: Candidate) -> float | None:
        """The answer's score; `None` when this verifier cannot say, as without tests or log-probabilities."""


class Strategy(Protocol):
    """A way to spend calls on one question."""

    @property
    def name(self) -> str:
        """What tables call it."""

    async def solve(
        self,
        question: Question,
        sampler: Sampler,
        budget: Budget,
        verifier: Verifier | None = None,
        *,
        seed: int = 0,
    ) -> Outcome:
        """Answer one question. A call that fails is part of the outcome, and never an exception.

        Arguments: `seed`, of the first answer; the i-th one drawn is sent `seed` + i.

        Raises
        ------
        UsageError: the strategy needs a verifier and has none.
        GradingError: the verifier's own machinery broke.
        """


def total(values: Iterable[int | None]) -> int | None:
    """The sum of counts, or `None` when one is unknown: a sum that leaves something out is no sum."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)
