"""PyTorch in this process: a decode loop of our own over a model of the transformers library.

The engine answers one request at a time, in the order of the calls: more of them wait, and `engine.queue_s`
says how long. `sample` decodes several answers to one request as one batch.

Chunk times are those of the engine's thread, taken where the token was chosen. `on_chunk` is called on the
event loop, a thread switch later. `done_s` is when the event loop had the whole answer.

A JSON schema is not enforced; the answer is checked against it, and `schema_error` says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import perf_counter

from harness.backends.base import Batch, Chunk, Completion, EngineTimes, OnChunk, Request
from harness.backends.schema import schema_error, with_schema_errors
from harness.backends.slowing import slowed
from harness.clock import require_real_time
from harness.errors import BackendBroken, BackendError, BackendRejected, BackendTimeout, BackendUnreachable
from harness.models.torch_engine import Answered, EngineStopped, Job, Piece, Refusal, TorchEngine

__all__ = ["TransformersBackend"]


class TransformersBackend:
    """A client of an engine in this process; several may share one."""

    def __init__(
        self,
        engine: TorchEngine,
        *,
        name: str = "transformers",
        timeout_s: float = 600.0,
        slowdown: float = 0.0,
    ) -> None:
        """Take a started engine.

        Parameters
        ----------
        engine: what `TransformersLauncher` gives as `Server.held`.
        name: the role that errors call this backend by.
        timeout_s: deadline of a whole answer, its waiting in the engine's queue included.
        slowdown: keep the caller waiting this share of each answer's time longer.
        """
        if slowdown < 0:
            raise ValueError(f"{name}: slowdown is {slowdown}, and must not be negative")
        self.engine = engine
        self.name = name
        self.model = engine.model
        self.timeout_s = timeout_s
        self.slowdown = slowdown

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; see `Backend.generate`. Cancelling stops the engine within a token."""
        times_s: list[float] = []

        def on_piece(piece: Piece) -> None:
            times_s.append(piece.time_s)
            if on_chunk is not None:
                on_chunk(Chunk(piece.text, piece.time_s))

        sent_s = perf_counter()
        outcome, queue_s = await self._run(_job(self.name, request, pieces=request.stream), on_piece)
        done_s = perf_counter()
        [row] = outcome.rows
        completion = Completion(
            text=row.text,
            prompt_tokens=outcome.prompt_tokens,
            output_tokens=row.num_tokens,
            sent_s=sent_s,
            done_s=done_s,
            first_token_s=times_s[0] if times_s else None,
            chunk_times_s=tuple(times_s),
            cached_tokens=outcome.cached_tokens,
            finish_reason=row.finish_reason,
            model=self.model,
            token_logprobs=row.logprobs,
            schema_error=None
            if request.json_schema is None
            else schema_error(row.text, request.json_schema, finish_reason=row.finish_reason),
            engine=EngineTimes(queue_s=queue_s, prefill_s=outcome.prefill_s, decode_s=outcome.decode_s),
        )
        return await slowed(completion, self.slowdown) if self.slowdown else completion

    async def sample(self, request: Request, num: int) -> Batch:
        """Draw `num` answers in one batch: one prefill, and a row leaves when its answer ends.

        With a seed, answer i depends on the seed and on i alone, and answer 0 is `generate`'s; both up to
        the rounding of a larger batch.
        """
        if num < 1:
            raise ValueError(f"{self.name}: num is {num}, and must be at least 1")
        sent_s = perf_counter()
        outcome, _ = await self._run(_job(self.name, request, num=num), None)
        batch = Batch(
            texts=tuple(row.text for row in outcome.rows),
            finish_reasons=tuple(row.finish_reason for row in outcome.rows),
            prompt_tokens=outcome.prompt_tokens,
            output_tokens=sum(row.num_tokens for row in outcome.rows),
            sent_s=sent_s,
            done_s=perf_counter(),
            token_logprobs=tuple(row.logprobs for row in outcome.rows) if request.logprobs else (),
            answer_tokens=tuple(row.num_tokens for row in outcome.rows),
        )
        return batch if request.json_schema is None else with_schema_errors(batch, request.json_schema)

    async def flush_cache(self) -> None:
        """Drop the kept keys and values; raises `BackendRejected` while a request runs."""
        await self.ready()
        if self.engine.num_running:
            what = f"{self.engine.num_running} requests run, and would keep theirs"
            raise BackendRejected(f"{self.name}: {what}; flush when they are done")
        self.engine.forget()

    async def ready(self) -> None:
        """Return when the engine runs; raises `BackendUnreachable` when it was stopped."""
        if self.engine.is_stopped:
            raise self._stopped()

    async def aclose(self) -> None:
        """Release nothing: the engine belongs to its launcher."""

    async def _run(self, job: Job, on_piece: Callable[[Piece], None] | None) -> Answered:
        """Submit a job and wait for its end; however this is left, the engine stops working on it."""
        require_real_time(f"{self.name}: {self.model} in this process")
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Piece | Answered | BaseException] = asyncio.Queue()

        def deliver(event: Piece | Answered | BaseException) -> None:
            # A loop that is closed waits for nothing.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            ticket = self.engine.submit(job, deliver)
        except EngineStopped as exc:
            raise self._stopped() from exc
        deadline = asyncio.timeout(self.timeout_s)
        try:
            async with deadline:
                while not isinstance(event := await events.get(), Answered):
                    if isinstance(event, BaseException):
                        raise self._translated(event) from event
                    if on_piece is not None:
                        on_piece(event)
                return event
        except TimeoutError as exc:
            if not deadline.expired():
                raise  # the caller's own
            where = f"no whole answer from {self.model} in this process"
            raise BackendTimeout(
                f"{self.name}: {where} within {self.timeout_s:g} s; raise timeout_s"
            ) from exc
        finally:
            ticket.cancel()

    def _stopped(self) -> BackendUnreachable:
        return BackendUnreachable(f"{self.name}: the engine of {self.model} was stopped; launch it again")

    def _translated(self, exc: BaseException) -> BackendError:
        if isinstance(exc, Refusal):
            return BackendRejected(f"{self.name}: {exc}")
        if isinstance(exc, EngineStopped):
            return BackendBroken(f"{self.name}: the engine of {self.model} was stopped before it answered")
        said = str(exc).strip().partition("\n")[0]
        return BackendBroken(
            f"{self.name}: {self.model} broke in the middle ({type(exc).__name__}: {said}); "
            "lower max_tokens or num if memory ran out"
        )


def _job(name: str, request: Request, *, num: int = 1, pieces: bool = False) -> Job:
    top_p = 1.0 if request.top_p is None else request.top_p
    if not 0 < top_p <= 1:
        raise BackendRejected(f"{name}: top_p is {top_p:g}; give more than 0 and at most 1")
    return Job(
        turns=tuple((message.role, message.content) for message in request.messages),
        prompt=request.prompt,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=top_p,
        seed=request.seed,
        stop=request.stop,
        ignore_eos=request.ignore_eos,
        logprobs=request.logprobs,
        reuse_prefix=request.cache_prompt,
        num=num,
        pieces=pieces,
    )
