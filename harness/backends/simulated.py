"""An engine that is only simulated: its times come from published constants or from a roofline.

Everything it shows is evidence of kind `simulated`, and confirms nothing measured. It runs in virtual time
(`harness.clock.run_virtual`) or, sleeping as long as it would take, on an ordinary event loop.

A token is four characters: prompts are counted by that rule (a chat's template is not counted), and answers
are made of pieces of that length. The text is filler that begins with "[simulated] "; it depends on the
prompt, and above temperature 0 on the seed. An answer is as long as `max_tokens` allows, or drawn from the
engine's distribution of lengths, then also by prompt and seed. Prefixes are never reused, no schema is read,
and there are no log-probabilities.
"""

from __future__ import annotations

import asyncio
import math
import random

from harness.backends.base import Chunk, Completion, EngineTimes, OnChunk, Request
from harness.backends.schema import schema_error
from harness.clock import now_s
from harness.errors import BackendBroken, BackendRejected, BackendTimeout, BackendUnreachable
from harness.models.simulated_engine import EngineGone, Sequence, SimulatedEngine

__all__ = ["CHARS_PER_TOKEN", "SimulatedBackend", "count_tokens"]

CHARS_PER_TOKEN = 4
"""Source: OpenAI's rule of thumb for English, https://platform.openai.com/tokenizer."""

_HEAD = "[simulated] "
_WORDS = ("one ", "two ", "six ", "ten ", "red ", "sea ", "sky ", "sun ", "ice ", "oak ", "elm ", "fir ")


def count_tokens(text: str) -> int:
    """Tokens of a text: one per four characters begun, and at least one."""
    return max(1, -(-len(text) // CHARS_PER_TOKEN))


class SimulatedBackend:
    """A client of a simulated engine; several may share one."""

    def __init__(
        self,
        engine: SimulatedEngine,
        *,
        name: str = "simulated",
        timeout_s: float = 600.0,
        slowdown: float = 0.0,
    ) -> None:
        """Take an engine.

        Parameters
        ----------
        engine: what `SimulatedLauncher` gives as `Server.held`.
        name: the role that errors call this backend by.
        timeout_s: deadline of a whole answer, on the clock of the loop that asks.
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
        """Answer one request; see `Backend.generate`."""
        await self.ready()
        prompt = _prompt_of(request)
        prompt_tokens = count_tokens(prompt)
        self._check_len(prompt_tokens, request)
        text, num_tokens, finish_reason = self._script(prompt, request)
        times_s: list[float] = []
        pieces = (text[at : at + CHARS_PER_TOKEN] for at in range(0, len(text), CHARS_PER_TOKEN))

        def on_token(time_s: float) -> None:
            piece = next(pieces, None)
            if piece is not None:
                times_s.append(time_s)
                if on_chunk is not None:
                    on_chunk(Chunk(piece, time_s))

        sent_s = now_s()
        done = await self._wait(
            self.engine.submit(prompt_tokens, num_tokens, on_token if request.stream else None)
        )
        if self.slowdown:
            await asyncio.sleep(self.slowdown * (now_s() - sent_s))
        return Completion(
            text=text,
            prompt_tokens=prompt_tokens,
            output_tokens=num_tokens,
            sent_s=sent_s,
            done_s=now_s(),
            first_token_s=times_s[0] if times_s else None,
            chunk_times_s=tuple(times_s),
            cached_tokens=0,
            finish_reason=finish_reason,
            model=self.model,
            schema_error=None
            if request.json_schema is None
            else schema_error(text, request.json_schema, finish_reason=finish_reason),
            engine=EngineTimes(
                queue_s=done.begun_s - done.arrived_s,
                prefill_s=done.prefilled_s - done.begun_s,
                decode_s=done.last_s - done.prefilled_s,
            ),
        )

    async def ready(self) -> None:
        """Return when the engine was not stopped; raises `BackendUnreachable` when it was."""
        if self.engine.is_stopped:
            raise BackendUnreachable(
                f"{self.name}: the simulated engine of {self.model} was stopped; launch it again"
            )

    async def aclose(self) -> None:
        """Release nothing: the engine belongs to its launcher."""

    async def _wait(self, sequence: Sequence) -> Sequence:
        deadline = asyncio.timeout(self.timeout_s)
        try:
            async with deadline:
                await sequence.done
        except TimeoutError as exc:
            if not deadline.expired():
                raise  # the caller's own
            raise BackendTimeout(
                f"{self.name}: no whole answer from the simulated {self.model} within "
                f"{self.timeout_s:g} s; raise timeout_s"
            ) from exc
        except EngineGone as exc:
            raise BackendBroken(
                f"{self.name}: the simulated engine of {exc} was stopped before it answered"
            ) from exc
        finally:
            self.engine.cancel(sequence)
        return sequence

    def _script(self, prompt: str, request: Request) -> tuple[str, int, str]:
        """The text, how many tokens it takes, and why it ends."""
        drawn = random.Random(repr((prompt, request.temperature and (request.temperature, request.seed))))
        num_tokens, finish_reason = request.max_tokens, "length"
        if self.engine.mean_tokens is not None and not request.ignore_eos:
            length = _geometric(drawn, self.engine.mean_tokens)
            if length < num_tokens:
                num_tokens, finish_reason = length, "stop"
        num_words = max(0, num_tokens - len(_HEAD) // CHARS_PER_TOKEN)
        text = (_HEAD + "".join(drawn.choices(_WORDS, k=num_words)))[: num_tokens * CHARS_PER_TOKEN]
        ends = [(at, at + len(stop)) for stop in request.stop if (at := text.find(stop)) >= 0]
        if ends:
            begin, end = min(ends)
            return text[:begin], count_tokens(text[:end]), "stop"
        return text, num_tokens, finish_reason

    def _check_len(self, prompt_tokens: int, request: Request) -> None:
        limit = self.engine.context_tokens
        if prompt_tokens + request.max_tokens > limit:
            what = f"a prompt of {prompt_tokens} tokens and an answer of {request.max_tokens}"
            remedy = "shorten the prompt or lower max_tokens"
            raise BackendRejected(f"{self.name}: {what} exceed the simulated context of {limit}; {remedy}")


def _geometric(draw: random.Random, mean: float) -> int:
    """A length of 1 or more with this mean, by inversion."""
    if mean <= 1:
        return 1
    return 1 + int(math.log(1 - draw.random()) / math.log1p(-1 / mean))


def _prompt_of(request: Request) -> str:
    if request.prompt is not None:
        return request.prompt
    return "\n".join(message.content for message in request.messages)
