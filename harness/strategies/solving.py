"""One question being solved: draws answers within the budget, scores them, and keeps account of it all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from harness.backends.base import Message, Request
from harness.clock import now_s
from harness.errors import BackendError, UsageError
from harness.strategies.base import (
    Budget,
    Call,
    Candidate,
    Failure,
    Outcome,
    Question,
    Reply,
    Sampler,
    Verifier,
    total,
)
from harness.strategies.choosing import RULES

__all__ = ["Solving", "check_sampled"]


class Solving:
    """The account of one question; a strategy draws through it and asks it for the outcome."""

    def __init__(
        self, question: Question, sampler: Sampler, budget: Budget, verifier: Verifier | None, seed: int
    ) -> None:
        self.question, self.budget, self.verifier, self.seed = question, budget, verifier, seed
        self._sampler = sampler
        self._candidates: list[Candidate] = []
        self._calls: list[Call] = []
        self._failures: list[Failure] = []
        self._num_asked = self._spent_tokens = 0
        self._prompt_tokens: int | None = None
        self._sample_s = self._verify_s = 0.0
        self._stopped: str | None = None
        self._began_s = now_s()

    @property
    def candidates(self) -> Sequence[Candidate]:
        """All answers so far, in the order in which they were asked for."""
        return self._candidates

    async def draw(
        self, num: int, temperature: float, *, prompt: str | None = None, sampler: Sampler | None = None
    ) -> list[int]:
        """Draw up to `num` answers, fewer where the budget or the server ends it; return their places.

        Arguments: `prompt`, in place of the question's; `sampler`, in place of the strategy's.
        """
        sampler = sampler or self._sampler
        wants_logprobs = self.verifier is not None and self.verifier.wants_logprobs
        request = Request(
            messages=(Message("user", prompt or self.question.prompt),),
            max_tokens=self.question.max_tokens,
            temperature=temperature,
            logprobs=wants_logprobs,
            stream=False,
        )
        before, left = len(self._candidates), num
        while left > 0 and (at_once := self._room(min(left, sampler.at_once), sampler.way)):
            await self._wave(request, at_once, sampler)
            left -= at_once
        return list(range(before, len(self._candidates)))

    def score(self, places: Sequence[int]) -> None:
        """Ask the verifier about these answers."""
        assert self.verifier is not None, "a strategy that scores asks for a verifier first"
        began_s = now_s()
        for place in places:
            candidate = self._candidates[place]
            value = self.verifier.score(self.question, candidate)
            self._candidates[place] = replace(candidate, score=value)
            if value is None:
                error = f"answer {place} has no score (no visible test, or no log-probability came with it)"
                self._failures.append(Failure(f"verifier {self.verifier.name}", error))
        self._verify_s += now_s() - began_s

    def choose(self, rule: str, places: Sequence[int] | None = None) -> int | None:
        """The place that a rule chooses among these answers, or among all."""
        among = range(len(self._candidates)) if places is None else places
        found = RULES[rule]([self._candidates[place] for place in among])
        return None if found is None else among[found]

    def outcome(self, strategy: str, rule: str, chosen: int | None) -> Outcome:
        """Close the account."""
        return Outcome(
            strategy=strategy,
            question=self.question.id,
            candidates=tuple(self._candidates),
            chosen=chosen,
            rule=rule,
            calls=tuple(self._calls),
            failures=tuple(self._failures),
            began_s=self._began_s,
            done_s=now_s(),
            sample_s=self._sample_s,
            verify_s=self._verify_s,
            stopped=self._stopped,
        )

    def _room(self, wanted: int, way: str) -> int:
        """Answers that may be drawn together now: 0 when the budget is spent, else at least 1."""
        if self.budget.seconds is not None and now_s() - self._began_s >= self.budget.seconds:
            self._stopped = "seconds"
            return 0
        if self.budget.tokens is None:
            return wanted
        left = self.budget.tokens - self._spent_tokens
        if left <= 0:
            self._stopped = "tokens"
            return 0
        cap, prompt = self.question.max_tokens, self._prompt_tokens
        if way == "batched":  # a prompt that nobody has counted yet is the one that may be in excess
            fit = (left - (prompt or 0)) // cap
        else:
            fit = 1 if prompt is None else left // (cap + prompt)
        return max(1, min(wanted, fit))

    async def _wave(self, request: Request, num: int, sampler: Sampler) -> None:
        """Draw `num` answers together: in one call, or in `num` calls at once."""
        nums = [num] if sampler.way == "batched" else [1] * num
        began_s = now_s()
        first = self.seed + self._num_asked
        self._num_asked += num
        requests = [replace(request, seed=first + place) for place in range(len(nums))]
        replies = await asyncio.gather(
            *(self._ask(sampler, one, count) for one, count in zip(requests, nums, strict=True))
        )
        self._sample_s += now_s() - began_s
        for one, (reply, call) in zip(requests, replies, strict=True):
            self._calls.append(call)
            if reply is None:
                self._failures.append(Failure(sampler.name, str(call.error)))
            else:
                self._candidates += self._read(reply, one, sampler.name)
            self._spent_tokens += call.charged_tokens(self.question.max_tokens)
            if call.prompt_tokens is not None:
                self._prompt_tokens = max(call.prompt_tokens, self._prompt_tokens or 0)

    async def _ask(self, sampler: Sampler, request: Request, num: int) -> tuple[Reply | None, Call]:
        began_s, reply, error = now_s(), None, None
        try:
            reply = await sampler.call(request, num)
        except BackendError as exc:
            error = f"{type(exc).__name__}: {exc}"
        counts = (None,) if reply is None else reply.output_tokens
        return reply, Call(
            sampler=sampler.name,
            num=num,
            temperature=request.temperature,
            began_s=began_s if reply is None else reply.sent_s,
            done_s=now_s() if reply is None else reply.done_s,
            prompt_tokens=None if reply is None else reply.prompt_tokens,
            output_tokens=total(counts),
            engine_s=None if reply is None else reply.engine_s,
            model=None if reply is None else reply.model,
            error=error,
        )

    def _read(self, reply: Reply, request: Request, sampler: str) -> list[Candidate]:
        seed = request.seed or 0
        return [
            Candidate(
                text=text,
                answer=self.question.read(text),
                sampler=sampler,
                temperature=request.temperature,
                seed=seed + place,
                call=len(self._calls) - 1,
                prompt_tokens=reply.prompt_tokens,
                output_tokens=tokens,
                seconds=reply.done_s - reply.sent_s,
                finish_reason=finish_reason,
                mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
                min_logprob=min(logprobs) if logprobs else None,
            )
            for place, (text, tokens, finish_reason, logprobs) in enumerate(
                zip(reply.texts, reply.output_tokens, reply.finish_reasons, reply.token_logprobs, strict=True)
            )
        ]


def check_sampled(name: str, num: int, temperature: float) -> None:
    """Check that a strategy draws answers that can differ.

    Raises
    ------
    UsageError: it draws none, or greedily.
    """
    if num < 1 or temperature <= 0:
        what = f"{num} answers at temperature {temperature}"
        raise UsageError(f"{name}: {what}; give 1 or more, and a temperature above 0")
