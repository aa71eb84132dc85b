"""What every engine looks like from here: one request in, one completion out, on one clock.

Times are seconds of `time.perf_counter()` in this process. Token counts are the server's own, never
estimated from chunks: one chunk may hold no token, half a character or several tokens. A count or a
time that the server did not give is `None`, never 0.

Formulas, since engines differ:

    ttft_s = first_token_s - sent_s
    tpot_s = (done_s - first_token_s) / (output_tokens - 1)     the first token excluded
    e2e_latency_s = done_s - sent_s
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "Backend",
    "Batch",
    "BatchSampler",
    "CacheFlusher",
    "Chunk",
    "Completion",
    "EngineTimes",
    "Message",
    "Metered",
    "OnChunk",
    "Request",
    "Sleeper",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of an engine.

    Exactly one of `messages` (a chat, rendered by the server's template) and `prompt` (raw text) is given.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    logprobs: bool = False
    """Ask for the log-probability of each output token."""
    ignore_eos: bool = False
    """Decode exactly `max_tokens`, for timing."""
    stream: bool = True
    """Streamed answers carry `first_token_s` and `chunk_times_s`; whole ones cannot."""
    cache_prompt: bool = False
    """Let the server reuse an earlier request's prefix. Off, so that a round never profits from the last."""

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("a request has either messages or a prompt")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, and must be at least 1")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}, and must not be negative")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text as it arrived."""

    text: str
    time_s: float


OnChunk = Callable[[Chunk], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTimes:
    """The server's own account of one request, where it gives one."""

    queue_s: float | None = None
    load_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An engine's answer, with the server's counts and this process's timestamps."""

    text: str
    prompt_tokens: int | None
    output_tokens: int | None
    sent_s: float
    done_s: float
    written_s: float | None = None
    """When a client over a network began to write the request: connected, and its event loop had come to it.
    From `sent_s` until then lie the connection and the client's own wait; `None` inside one process."""
    first_token_s: float | None = None
    chunk_times_s: tuple[float, ...] = ()
    cached_tokens: int | None = None
    """Prompt tokens that the server took from its prefix cache."""
    finish_reason: str | None = None
    model: str | None = None
    """The model's name as the server reported it."""
    token_logprobs: tuple[float, ...] | None = None
    schema_error: str | None = None
    """Why the text is no instance of the schema asked for, checked here since servers ignore schemas in
    silence; `None` when it is one, or none was asked for."""
    engine: EngineTimes = field(default_factory=EngineTimes)

    @property
    def e2e_latency_s(self) -> float:
        """From sending the request to the last byte of its answer."""
        return self.done_s - self.sent_s

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token; `None` when the answer came whole."""
        return None if self.first_token_s is None else self.first_token_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; `None` below two tokens or without a count."""
        if self.first_token_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.done_s - self.first_token_s) / (self.output_tokens - 1)


@runtime_checkable
class Backend(Protocol):
    """An engine that answers requests. Safe for concurrent `generate` calls on one event loop."""

    name: str
    """The role's name in this run ("small", "large"): what errors call it."""
    model: str
    """The model asked for."""

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; `on_chunk` sees each piece of a streamed answer as it arrives.

        Cancelling the call closes its connection, and with it the server's work.

        Raises
        ------
        BackendError: unreachable, timed out, rejected or broken, with the foreign error as its cause.
        """

    async def ready(self) -> None:
        """Return when the server answers; raise `BackendUnreachable` when it does not."""

    async def aclose(self) -> None:
        """Release connections. The server itself belongs to its launcher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Several answers to one request, computed together by the engine."""

    texts: tuple[str, ...]
    finish_reasons: tuple[str | None, ...]
    prompt_tokens: int | None
    output_tokens: int | None
    """Of all answers together, as the server counted them."""
    sent_s: float
    done_s: float
    schema_errors: tuple[str | None, ...] = ()
    """For each answer what `Completion.schema_error` says; empty when no schema was asked for."""
    token_logprobs: tuple[tuple[float, ...] | None, ...] = ()
    """For each answer what `Completion.token_logprobs` says; empty when none were asked for."""
    answer_tokens: tuple[int, ...] = ()
    """Tokens of each answer, by the server's count or by its list of them; empty where it gives neither."""


@runtime_checkable
class BatchSampler(Protocol):
    """A backend that answers one request several times in one batch."""

    async def sample(self, request: Request, num: int) -> Batch:
        """Draw `num` answers; errors are those of `Backend.generate`."""


@runtime_checkable
class CacheFlusher(Protocol):
    """A backend whose server empties its prefix cache when told to."""

    async def flush_cache(self) -> None:
        """Empty it; raises `BackendRejected` when the server was started without this."""


@runtime_checkable
class Metered(Protocol):
    """A backend whose server publishes counters."""

    async def metrics(self) -> Mapping[str, float]:
        """Prometheus samples, `name{labels}` → value."""


@runtime_checkable
class Sleeper(Protocol):
    """A backend whose server gives its device memory back and takes it again."""

    async def sleep(self) -> None:
        """Free the device memory; requests are not answered until `wake`."""

    async def wake(self) -> None:
        """Take the memory back."""
