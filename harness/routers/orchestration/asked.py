"""A model that plans: asked in JSON under a schema, checked, corrected once, then replaced.

What it says is believed only as far as it was checked here. An answer that does not hold is met with one
complaint in the same conversation; when the second does not hold either, the feasible greedy plan stands in,
and the status says so. In the origin's showcase run 7 of 8 "LLM" plans were such stand-ins: scores are to be
reported by status.

Traps: a plan that is well formed may still need more memory than there is, as the origin's did
("can over-allocate"); by default that is an answer that does not hold. A model with a small context drops or
refuses a long question: the short form is asked where the long one would not fit, and where neither does,
nothing is asked at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

from harness.backends.base import Backend, Completion, Message, Request
from harness.clock import now_s
from harness.errors import BackendError, BackendUnreachable, ClientExhausted, UsageError
from harness.routers.orchestration.asked_answer import MAX_COMPLAINT_CHARS, over_budget, read_answer
from harness.routers.orchestration.asked_prompt import (
    answer_schema,
    check_question,
    compact_prompt,
    full_prompt,
    max_answer_bytes,
    max_answer_tokens,
    repair_prompt,
)
from harness.routers.orchestration.base import FALLBACK, REPAIRED, VALID, Decision
from harness.routers.planning.base import MICRO, Certificate, Plan, Problem, lazy_residents
from harness.routers.planning.controls import GreedyPlanner
from harness.workflow.jobs.graph import TaskNode

__all__ = ["LLMPlanner"]

_TEMPLATE_TOKENS = 32
"""Of three turns and the opening of a fourth."""


def _num_bytes(text: str) -> int:
    """What no tokenizer exceeds."""
    return len(text.encode(errors="replace"))


@dataclass(slots=True, kw_only=True)
class LLMPlanner:
    """Asks whatever backend it is given; one instance serves a run.

    Raises
    ------
    UsageError: the window or the context is below 1.
    """

    is_model: ClassVar[bool] = True

    name: str = "planner"
    window: int | None = 3
    """layers seen at once; None: all"""
    compact: bool = False
    """Ask in the short form even where the long one would fit."""
    context_tokens: int | None = None
    """of the planning model; the whole conversation with its repair is made to fit. None: not looked at"""
    count_tokens: Callable[[str], int] = _num_bytes
    """Tokens of a text, or no fewer."""
    allow_violations: bool = False
    """Keep a plan that does not fit, as the origin did; its certificate says so."""
    seed: int = 0
    _was_reached: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise UsageError(f"{self.name}: window {self.window}; it counts the ready layer, so give ≥ 1")
        if self.context_tokens is not None and self.context_tokens < 1:
            raise UsageError(f"{self.name}: context_tokens {self.context_tokens}; give ≥ 1, or None")

    async def decide(self, problem: Problem, tasks: Sequence[TaskNode], backend: Backend | None) -> Decision:
        """Ask, check, and ask once more if need be; see `Decider`.

        A server that fails after it was once reached gives the greedy plan. Cancelling passes through.

        Raises
        ------
        UsageError: no backend, tasks that are not the problem's, or a question longer than the context.
        BackendUnreachable: no server was ever reached by this planner.
        ClientExhausted: this process could not ask, which is no word on the planner.
        """
        if backend is None:
            raise UsageError(f"{self.name}: it asks a model and was given no backend; lease it one")
        began_s = now_s()
        request = self.request(problem, tasks)
        answers: list[Completion] = []
        complaint: str | None = None
        overran = False
        for num_requests, status in enumerate((VALID, REPAIRED), start=1):
            try:
                answer = await backend.generate(request)
            except BackendError as exc:
                if self._says_nothing(exc):
                    raise
                complaint = f"{complaint}; then {exc}" if complaint else str(exc)
                break
            self._was_reached = True
            answers.append(answer)
            plan, fault, over = self._read(answer, problem, tasks, solver=f"llm:{backend.model}")
            overran |= over
            if plan is not None:
                return _decision(plan, began_s, status, num_requests, answers, complaint, overran)
            complaint = fault
            request = _repair(request, answer.text, fault, max_answer_bytes(problem, tasks))
        plan = GreedyPlanner().plan(problem)
        return _decision(plan, began_s, FALLBACK, num_requests, answers, complaint, overran)

    def request(self, problem: Problem, tasks: Sequence[TaskNode]) -> Request:
        """The first request of a decision; the same for the same problem.

        Raises
        ------
        UsageError: tasks that are not the problem's, or a question longer than the context.
        """
        check_question(problem, tasks)
        return Request(
            messages=(Message("user", self._prompt(problem, tasks)),),
            max_tokens=max_answer_tokens(problem, tasks),
            temperature=0.0,
            seed=self.seed,
            json_schema=answer_schema(problem, tasks),
            stream=False,
        )

    def _prompt(self, problem: Problem, tasks: Sequence[TaskNode]) -> str:
        """The long form where a whole conversation about it fits, else the short one."""
        rest = _TEMPLATE_TOKENS + max_answer_bytes(problem, tasks) + max_answer_tokens(problem, tasks)
        rest += self.count_tokens(repair_prompt("x" * MAX_COMPLAINT_CHARS))
        for form in (compact_prompt,) if self.compact else (full_prompt, compact_prompt):
            prompt = form(problem, tasks)
            needed = self.count_tokens(prompt) + rest
            if self.context_tokens is None or needed <= self.context_tokens:
                return prompt
        raise UsageError(
            f"{self.name}: asking over {len(tasks)} tasks and {len(problem.fleet.models)} models takes up to "
            f"{needed} tokens, and its context holds {self.context_tokens}; raise the context, see fewer "
            "layers, or give the model's own count_tokens"
        )

    def _says_nothing(self, exc: BackendError) -> bool:
        """Whether an error is no word on the planner: a server never reached, or this process at fault."""
        if isinstance(exc, ClientExhausted):
            return True
        if not isinstance(exc, BackendUnreachable):
            self._was_reached = True
        return not self._was_reached

    def _read(
        self, answer: Completion, problem: Problem, tasks: Sequence[TaskNode], *, solver: str
    ) -> tuple[Plan | None, str, bool]:
        """The plan, or why there is none; and whether what was named does not fit."""
        assignment, fault = read_answer(answer.text, problem, tasks, finish_reason=answer.finish_reason)
        if assignment is None:
            return None, fault or "", False
        over = over_budget(problem, tasks, assignment)
        if over is not None and not self.allow_violations:
            return None, over, True
        residents = lazy_residents(problem, assignment)
        certificate = Certificate(solver, violates=over is not None)
        return (
            Plan(assignment, residents, _value(problem, assignment, residents), certificate),
            "",
            over is not None,
        )


def _value(problem: Problem, assignment: tuple[int, ...], residents: Sequence[frozenset[int]]) -> float:
    """Utilities less every load on the way; models may be swapped between layers, unlike in `value_of`."""
    gained = sum(float(problem.micro[task, model]) for task, model in enumerate(assignment))
    steps = pairwise((problem.resident, *residents))
    return (gained - sum(problem.load_micro[m] for old, new in steps for m in new - old)) / MICRO


def _repair(request: Request, said: str, fault: str, max_bytes: int) -> Request:
    """The same conversation, with the answer and what is wrong with it.

    max_bytes: no more is repeated of the answer; a server may ignore `max_tokens` too.
    """
    echo = said.encode(errors="replace")[:max_bytes].decode(errors="ignore")
    turns = (Message("assistant", echo or "(nothing)"), Message("user", repair_prompt(fault)))
    return replace(request, messages=request.messages + turns)


def _decision(
    plan: Plan,
    began_s: float,
    status: str,
    num_requests: int,
    answers: Sequence[Completion],
    complaint: str | None,
    overran: bool,
) -> Decision:
    is_whole = len(answers) == num_requests
    return Decision(
        plan=plan,
        plan_s=now_s() - began_s,
        status=status,
        num_requests=num_requests,
        prompt_tokens=_total([answer.prompt_tokens for answer in answers]) if is_whole else None,
        output_tokens=_total([answer.output_tokens for answer in answers]) if is_whole else None,
        overran=overran,
        complaint=complaint,
    )


def _total(counts: Sequence[int | None]) -> int | None:
    """None where one of them was not counted."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
