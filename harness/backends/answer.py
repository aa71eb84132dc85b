"""An answer of the OpenAI API, put together from its frames as they arrive."""

from __future__ import annotations

import json
from typing import Any

from harness.backends.base import Batch, Completion, EngineTimes

_FAILED = ("abort", "error")
"""Endings that vLLM and SGLang give to answers they gave up, by a 200 and in a form as good as any.
Source: `FinishReason` in vllm/v1/engine/__init__.py, `finish_reason` in sglang's protocol.py."""

__all__ = ["Answer", "MalformedAnswer", "malformed", "read_batch"]


class MalformedAnswer(ValueError):
    """What the server sent is not an answer."""


class Answer:
    """Collects text, times, counts and log-probabilities; `completion` reads them out."""

    __slots__ = ("_logprobs", "_model", "_texts", "_times_s", "_timings", "_usage", "finish_reason")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._times_s: list[float] = []
        self._logprobs: list[float] | None = None
        self._usage: dict[str, Any] | None = None
        self._timings: dict[str, Any] | None = None
        self._model: str | None = None
        self.finish_reason: str | None = None

    @property
    def num_chunks(self) -> int:
        """Pieces of the answer so far that bore text."""
        return len(self._times_s)

    @property
    def is_whole(self) -> bool:
        """Whether the server said that the answer has ended."""
        return self.finish_reason is not None

    def add_event(self, event: bytes, now_s: float) -> str | None:
        """Take one streamed event and return the text it bears, if any.

        Raises
        ------
        MalformedAnswer: it is no JSON object of the expected shape, or an error told in the stream.
        """
        try:
            frame = json.loads(event)
            choices = frame.get("choices")
            text: str | None = None
            if choices:
                choice = choices[0]
                delta = choice.get("delta")
                if delta is None:
                    text = choice.get("text")
                else:
                    # Reasoning is no part of the answer, but its tokens are tokens: the first ends the TTFT.
                    text = delta.get("content")
                    if not text and (delta.get("reasoning_content") or delta.get("reasoning")):
                        self._times_s.append(now_s)
                if text:
                    self._texts.append(text)
                    self._times_s.append(now_s)
                self._take_ending(choice)
            self._take_accounts(frame)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
            raise malformed(event, exc) from exc
        return text

    def add_whole(self, body: bytes) -> None:
        """Take an answer that came in one piece.

        Raises
        ------
        MalformedAnswer: it is no completion.
        """
        try:
            frame = json.loads(body)
            self._take_accounts(frame)
            choice = frame["choices"][0]
            message = choice.get("message")
            self._texts.append((choice["text"] if message is None else message["content"]) or "")
            self._take_ending(choice)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
            raise malformed(body, exc) from exc

    def completion(self, *, sent_s: float, done_s: float, written_s: float | None = None) -> Completion:
        """The whole answer; what the server did not say is `None`."""
        usage, timings = self._usage or {}, self._timings or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        return Completion(
            text="".join(self._texts),
            prompt_tokens=usage.get("prompt_tokens"),
            output_tokens=usage.get("completion_tokens"),
            sent_s=sent_s,
            written_s=written_s,
            done_s=done_s,
            first_token_s=self._times_s[0] if self._times_s else None,
            chunk_times_s=tuple(self._times_s),
            cached_tokens=timings.get("cache_n") if cached is None else cached,
            finish_reason=self.finish_reason,
            model=self._model,
            token_logprobs=None if self._logprobs is None else tuple(self._logprobs),
            engine=_engine_times(timings),
        )

    def _take_ending(self, choice: dict[str, Any]) -> None:
        finish_reason = choice.get("finish_reason")
        if finish_reason is not None:
            if finish_reason in _FAILED:
                raise MalformedAnswer(f"the server gave it up ({finish_reason})")
            self.finish_reason = finish_reason
        logprobs = _logprobs_of(choice)
        if logprobs is not None:
            self._logprobs = [*(self._logprobs or ()), *(v for v in logprobs if v is not None)]

    def _take_accounts(self, frame: dict[str, Any]) -> None:
        error = frame.get("error")
        if error:
            raise MalformedAnswer(f"error in the answer: {json.dumps(error)[:500]}")
        self._usage = frame.get("usage") or self._usage
        timings = frame.get("timings") or frame.get("metrics")
        self._timings = timings if isinstance(timings, dict) else self._timings
        self._model = frame.get("model") or self._model


def read_batch(body: bytes, *, sent_s: float, done_s: float) -> Batch:
    """Several answers that came in one piece.

    Raises
    ------
    MalformedAnswer: it is no completion.
    """
    try:
        frame = json.loads(body)
        if frame.get("error"):
            raise MalformedAnswer(f"error in the answer: {json.dumps(frame['error'])[:500]}")
        choices = sorted(frame["choices"], key=lambda choice: choice.get("index", 0))
        usage = frame.get("usage") or {}
        if given_up := [reason for c in choices if (reason := c.get("finish_reason")) in _FAILED]:
            raise MalformedAnswer(f"the server gave up {len(given_up)} of {len(choices)} ({given_up[0]})")
        # llama.cpp, known by its timings, counts the first answer alone.
        is_first_alone = len(choices) > 1 and frame.get("timings") is not None
        logprobs = [_logprobs_of(choice) for choice in choices]
        counts = _listed_tokens(logprobs, usage.get("completion_tokens"), is_first_alone=is_first_alone)
        counted = (sum(counts) if counts else None) if is_first_alone else usage.get("completion_tokens")
        return Batch(
            texts=tuple(
                (c["text"] if c.get("message") is None else c["message"]["content"]) or "" for c in choices
            ),
            finish_reasons=tuple(choice.get("finish_reason") for choice in choices),
            prompt_tokens=usage.get("prompt_tokens"),
            output_tokens=counted,
            sent_s=sent_s,
            done_s=done_s,
            token_logprobs=tuple(
                None if values is None else tuple(v for v in values if v is not None) for values in logprobs
            )
            if any(values is not None for values in logprobs)
            else (),
            answer_tokens=counts,
        )
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as exc:
        raise malformed(body, exc) from exc


def _logprobs_of(choice: dict[str, Any]) -> list[float | None] | None:
    """The log-probabilities that came with an answer or a piece of it; `None` where there are none.

    Chat lists one record per token; plain completions a list of numbers, except llama.cpp's. A frame without
    a token may say so by null: `content` is nullable in the API's schema.
    """
    logprobs = choice.get("logprobs")
    if not logprobs:
        return None
    records = logprobs.get("content")
    if records is not None:
        return [record["logprob"] for record in records]
    if "token_logprobs" in logprobs or "content" not in logprobs:
        return list(logprobs["token_logprobs"] or [])
    return None


def _listed_tokens(
    logprobs: list[list[float | None] | None], counted: int | None, *, is_first_alone: bool
) -> tuple[int, ...]:
    """The tokens of each answer by its list of them, where the server's own count agrees with it.

    Arguments: `counted`, the server's number, of the first answer alone or of all. A list may leave out the
    token that ends an answer, and is no count then.
    """
    if len(logprobs) == 1 and counted is not None:
        return (counted,)
    lengths = tuple(len(values) for values in logprobs if values is not None)
    if len(lengths) < len(logprobs):
        return ()
    return lengths if counted == (lengths[0] if is_first_alone else sum(lengths)) else ()


def malformed(data: bytes, exc: Exception) -> MalformedAnswer:
    """The error for what could not be read, with its beginning."""
    if isinstance(exc, MalformedAnswer):
        return exc
    return MalformedAnswer(f"{type(exc).__name__}: {exc}, in {data[:200]!r}")


def _engine_times(timings: dict[str, Any]) -> EngineTimes:
    """llama.cpp's `timings`, or vLLM's `metrics` (`--enable-per-request-metrics`).

    vLLM counts the first token from when the request was scheduled: its prefill.
    Source: `PerRequestMetrics` in vllm/entrypoints/generate/base/protocol.py.
    """
    return EngineTimes(
        queue_s=_seconds(timings.get("queue_time_ms")),
        prefill_s=_seconds(timings.get("prompt_ms", timings.get("time_to_first_token_ms"))),
        decode_s=_seconds(timings.get("predicted_ms", timings.get("generation_time_ms"))),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3
