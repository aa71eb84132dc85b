"""A scripted backend for tests: it answers what it was told to, and remembers what it was asked.

It keeps the contract of `Backend` in everything that a caller can observe (counts, times, stop strings,
lengths, errors), on a clock that a test may inject. A token is a word with the blanks before it. It reads no
schema: `json_schema` is remembered and otherwise ignored.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from harness.backends.base import Chunk, Completion, EngineTimes, OnChunk, Request
from harness.clock import now_s
from harness.errors import BackendError, BackendTimeout, BackendUnreachable

__all__ = ["Answers", "FakeBackend", "babble", "prompt_of"]

Answers = Mapping[str, str] | Sequence[str] | Callable[[Request], str]
"""By prompt (or last message), in order of calls (around again at the end), or computed from the request."""

_VOCABULARY = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "inlet", "larch")


def prompt_of(request: Request) -> str:
    """The raw prompt, or the content of the last message."""
    return request.messages[-1].content if request.prompt is None else request.prompt


def babble(request: Request) -> str:
    """Answer with words drawn from the prompt alone when greedy, else from prompt, temperature and seed."""
    parts = (
        (prompt_of(request), request.temperature, request.seed)
        if request.temperature
        else (prompt_of(request),)
    )
    draw = random.Random(repr(parts))
    return " ".join(draw.choice(_VOCABULARY) for _ in range(draw.randint(4, 12)))


class FakeBackend:
    """Answers by script, with a delay per token and failures at chosen calls."""

    def __init__(
        self,
        answers: Answers = babble,
        *,
        name: str = "fake",
        model: str = "fake",
        prefill_s: float = 0.0,
        token_s: float = 0.0,
        fail: Mapping[int, BackendError] = MappingProxyType({}),
        reachable: bool = True,
        counts_tokens: bool = True,
        logprob: Callable[[str], float] = lambda token: -0.01 * len(token),
        timeout_s: float | None = None,
        clock: Callable[[], float] = now_s,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Write the script.

        Parameters
        ----------
        prefill_s: seconds before the first token.
        token_s: seconds before each later token.
        fail: errors by the index of the call that raises them, counted from 0.
        reachable: whether `ready` returns.
        counts_tokens: false for a server that reports no usage.
        logprob: the log-probability of a token.
        timeout_s: deadline of an answer, on `clock`.
        clock, sleep: where time comes from; give both or neither.
        """
        self.name = name
        self.model = model
        self.requests: list[Request] = []
        """Every request so far, in the order of the calls."""
        self.num_running = 0
        """Calls in flight."""
        self.max_running = 0
        """The most calls ever in flight together."""
        self.num_cancelled = 0
        self.is_closed = False
        self._answers = answers
        self._prefill_s, self._token_s = prefill_s, token_s
        self._fail = dict(fail)
        self._reachable, self._counts_tokens = reachable, counts_tokens
        self._logprob = logprob
        self._timeout_s = timeout_s
        self._clock, self._sleep = clock, sleep
        self._cached: list[str] = []

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; see `Backend.generate`."""
        call = len(self.requests)
        self.requests.append(request)
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            return await self._answer(call, request, on_chunk)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1

    async def ready(self) -> None:
        """Return when the script says that the server answers."""
        if not self._reachable:
            raise BackendUnreachable(f"{self.name}: the script says unreachable; pass reachable=True")

    async def aclose(self) -> None:
        """Remember that the backend was closed."""
        self.is_closed = True

    async def _answer(self, call: int, request: Request, on_chunk: OnChunk | None) -> Completion:
        sent_s = self._clock()
        if call in self._fail:
            await self._sleep(self._prefill_s)
            raise self._fail[call]
        tokens, finish_reason = self._decode(call, request)
        times_s = []
        for i, token in enumerate(tokens or [""]):
            await self._sleep(self._token_s if i else self._prefill_s)
            now_s = self._clock()
            if self._timeout_s is not None and now_s - sent_s > self._timeout_s:
                raise BackendTimeout(
                    f"{self.name}: no whole answer within {self._timeout_s:g} s; raise timeout_s"
                )
            if token:
                times_s.append(now_s)
            if token and request.stream and on_chunk is not None:
                on_chunk(Chunk(token, now_s))
        done_s = self._clock()
        prompt = _tokens(prompt_of(request))
        return Completion(
            text="".join(tokens),
            prompt_tokens=len(prompt) if self._counts_tokens else None,
            output_tokens=len(tokens) if self._counts_tokens else None,
            sent_s=sent_s,
            done_s=done_s,
            first_token_s=times_s[0] if times_s and request.stream else None,
            chunk_times_s=tuple(times_s) if request.stream else (),
            cached_tokens=self._reuse(prompt, request.cache_prompt) if self._counts_tokens else None,
            finish_reason=finish_reason,
            model=self.model,
            token_logprobs=tuple(map(self._logprob, tokens)) if request.logprobs else None,
            engine=EngineTimes(prefill_s=self._prefill_s, decode_s=self._token_s * max(0, len(tokens) - 1)),
        )

    def _decode(self, call: int, request: Request) -> tuple[list[str], str]:
        text = self._script(call, request)
        ends = [at for at in map(text.find, request.stop) if at >= 0]
        if ends:
            text = text[: min(ends)]
        tokens = _tokens(text)
        if request.ignore_eos and not ends:
            tokens = (tokens or [" …"]) * (request.max_tokens // max(1, len(tokens)) + 1)
        if len(tokens) > request.max_tokens or (request.ignore_eos and not ends):
            return tokens[: request.max_tokens], "length"
        return tokens, "stop"

    def _script(self, call: int, request: Request) -> str:
        if callable(self._answers):
            return self._answers(request)
        if isinstance(self._answers, Mapping):
            return self._answers[prompt_of(request)]
        return self._answers[call % len(self._answers)]

    def _reuse(self, prompt: list[str], wanted: bool) -> int:
        shared = _shared_prefix_len(prompt, self._cached) if wanted else 0
        self._cached = prompt
        return min(shared, max(0, len(prompt) - 1))


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _shared_prefix_len(one: Iterable[str], other: Iterable[str]) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
