"""Draws answers from a backend: several in one request where it offers that, else at once or in turn.

A batch reads its prompt once and decodes its answers together, so that each step reads the weights once for
all of them. llama.cpp draws at most as many as it has slots, answer i with the request's seed + i: the same
texts as one by one, in less time. It counts the tokens of the first answer alone, so that a batch asks for
log-probabilities, whose lists count the others (`Batch.answer_tokens`). That costs a tenth to a third of the
time of a pocket model's batch: `counted=False` leaves it out where time is all that is asked.
"""

from __future__ import annotations

from dataclasses import replace

from harness.backends.base import Backend, BatchSampler, Completion, Request
from harness.errors import UsageError
from harness.strategies.base import Reply

__all__ = ["WAYS", "BackendSampler"]

WAYS = ("batched", "concurrent", "sequential")


class BackendSampler:
    """Answers of one backend, drawn in one of three ways."""

    def __init__(
        self, backend: Backend, *, way: str = "sequential", at_once: int = 1, counted: bool = True
    ) -> None:
        """Take a backend.

        Parameters
        ----------
        backend: who answers.
        way: `batched`, `concurrent` or `sequential`.
        at_once: answers drawn together, at most the server's slots; 1 for `sequential`.
        counted: whether each answer of a batch is to be counted, at the cost of its log-probabilities.

        Raises
        ------
        UsageError: the way is unknown, does not go with `at_once`, or is not offered by the backend.
        """
        if way not in WAYS:
            raise UsageError(f"{backend.name}: way is {way!r}; use {', '.join(WAYS)}")
        if at_once < 1 or (way == "sequential" and at_once > 1):
            raise UsageError(f"{backend.name}: {at_once} answers at once, {way}; give 1, or another way")
        if way == "batched" and not isinstance(backend, BatchSampler):
            raise UsageError(f"{backend.name}: draws no batches; use concurrent or sequential")
        self.backend = backend
        self.name = backend.name
        self.way, self.at_once, self.counted = way, at_once, counted

    async def call(self, request: Request, num: int) -> Reply:
        """Send one request; see `Sampler.call`.

        Raises
        ------
        UsageError: several greedy answers, which are all one, or several from a sampler without batches.
        """
        if num == 1:
            return _reply(await self.backend.generate(replace(request, stream=False)))
        if request.temperature == 0:
            raise UsageError(f"{self.name}: {num} greedy answers are one answer; raise the temperature")
        if not isinstance(self.backend, BatchSampler):
            raise UsageError(f"{self.name}: draws no batches; ask for one answer at a time")
        logprobs = request.logprobs or self.counted
        batch = await self.backend.sample(replace(request, stream=False, logprobs=logprobs), num)
        return Reply(
            texts=batch.texts,
            prompt_tokens=batch.prompt_tokens,
            output_tokens=batch.answer_tokens or (None,) * num,
            token_logprobs=batch.token_logprobs or (None,) * num,
            finish_reasons=batch.finish_reasons,
            sent_s=batch.sent_s,
            done_s=batch.done_s,
        )


def _reply(answer: Completion) -> Reply:
    prefill_s, decode_s = answer.engine.prefill_s, answer.engine.decode_s
    return Reply(
        texts=(answer.text,),
        prompt_tokens=answer.prompt_tokens,
        output_tokens=(answer.output_tokens,),
        token_logprobs=(answer.token_logprobs,),
        finish_reasons=(answer.finish_reason,),
        sent_s=answer.sent_s,
        done_s=answer.done_s,
        model=answer.model,
        engine_s=None if prefill_s is None or decode_s is None else prefill_s + decode_s,
    )
