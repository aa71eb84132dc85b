"""What Ollama says: answers, line by line, and accounts of its models.

Durations are nanoseconds. A count that is absent is `None`: Go leaves out what is 0, and older versions leave
out the prompt's count when they reused all of it.

Source: `ChatResponse`, `GenerateResponse`, `Metrics`, `ListModelResponse`, `ProcessModelResponse` and
`ShowResponse` in api/types.go of ollama/ollama.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from harness.backends.answer import Answer, MalformedAnswer, malformed
from harness.backends.base import Completion, EngineTimes

__all__ = [
    "ModelCard",
    "OllamaAnswer",
    "PulledModel",
    "RunningModel",
    "full_name",
    "read_card",
    "read_models",
    "read_running",
]

T = TypeVar("T")

_WRONG_FORM = (AttributeError, KeyError, IndexError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledModel:
    """A model on the server's disk."""

    name: str
    size_bytes: int | None
    digest: str | None
    parameter_size: str | None
    """As Ollama writes it ("8.0B")."""
    quantization: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningModel:
    """A model that is loaded."""

    name: str
    size_bytes: int | None
    """Of memory, weights and cache together."""
    size_vram_bytes: int | None
    """Of these, on the GPU; less than `size_bytes` means that the CPU computes a part."""
    num_ctx: int | None
    expires_at: datetime | None
    """When it will be unloaded unless asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a model is."""

    family: str | None
    parameter_size: str | None
    quantization: str | None
    context_len: int | None
    """Tokens that the model was trained for, which is not what it is served with."""
    num_parameters: int | None
    capabilities: tuple[str, ...]
    """Such as "completion", "tools" and "thinking"; empty from older versions."""
    parameters: str
    """The Modelfile's sampling defaults, as text."""


class OllamaAnswer(Answer):
    """Collects text, times, counts and log-probabilities of one answer."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the line that ends every answer has come."""
        return self._last is not None

    def add_event(self, event: bytes, now_s: float) -> str | None:
        """Take one line and return the text it bears, if any; see `Answer.add_event`."""
        try:
            frame = json.loads(event)
            text, thinking = self._take(frame)
        except _WRONG_FORM as exc:
            raise malformed(event, exc) from exc
        if text:
            self._texts.append(text)
            self._times_s.append(now_s)
        elif thinking:
            # Thinking is no part of the answer, but its tokens are tokens: the first ends the TTFT.
            self._times_s.append(now_s)
        return text

    def add_whole(self, body: bytes) -> None:
        """Take an answer that came in one piece; see `Answer.add_whole`."""
        try:
            frame = json.loads(body)
            text, _ = self._take(frame)
            if self._last is None:
                raise MalformedAnswer(f"an answer without an end, in {body[:200]!r}")
        except _WRONG_FORM as exc:
            raise malformed(body, exc) from exc
        self._texts.append(text or "")

    def completion(self, *, sent_s: float, done_s: float, written_s: float | None = None) -> Completion:
        """The whole answer; what the server did not say is `None`."""
        last = self._last or {}
        return Completion(
            text="".join(self._texts),
            prompt_tokens=last.get("prompt_eval_count"),
            output_tokens=last.get("eval_count"),
            sent_s=sent_s,
            written_s=written_s,
            done_s=done_s,
            first_token_s=self._times_s[0] if self._times_s else None,
            chunk_times_s=tuple(self._times_s),
            cached_tokens=last.get("prompt_eval_cached_count"),
            finish_reason=self.finish_reason,
            model=last.get("model"),
            token_logprobs=None if self._logprobs is None else tuple(self._logprobs),
            engine=EngineTimes(
                load_s=_seconds(last.get("load_duration")),
                prefill_s=_seconds(last.get("prompt_eval_duration")),
                decode_s=_seconds(last.get("eval_duration")),
            ),
        )

    def _take(self, frame: dict[str, Any]) -> tuple[str | None, str | None]:
        """Note what the frame says; return its text and its thinking, from the message in a chat."""
        message = frame.get("message")
        if message is None:
            text, thinking = frame.get("response"), frame.get("thinking")
        else:
            text, thinking = message.get("content"), message.get("thinking")
        if text is None and not frame.get("done"):
            error = frame.get("error")
            if error:
                raise MalformedAnswer(f"error in the answer: {json.dumps(error, ensure_ascii=False)[:500]}")
            if thinking is None:
                raise ValueError("neither text nor an end")
        logprobs = frame.get("logprobs")
        if logprobs:
            if self._logprobs is None:
                self._logprobs = []
            self._logprobs.extend(record["logprob"] for record in logprobs)
        if frame.get("done"):
            self._last = frame
            self.finish_reason = frame.get("done_reason")
        return text, thinking


def full_name(model: str) -> str:
    """The name with its tag, as Ollama compares names: `latest` where none is given, in small letters."""
    name = model.lower()
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def read_models(answer: Mapping[str, Any]) -> tuple[PulledModel, ...]:
    """Read `/api/tags`; raises `ValueError` when it has another form."""
    return _each(answer, _read_pulled)


def read_running(answer: Mapping[str, Any]) -> tuple[RunningModel, ...]:
    """Read `/api/ps`; raises `ValueError` when it has another form."""
    return _each(answer, _read_loaded)


def read_card(answer: Mapping[str, Any]) -> ModelCard:
    """Read `/api/show`; raises `ValueError` when it has another form."""
    try:
        details, info = answer["details"], answer.get("model_info") or {}
        architecture = info.get("general.architecture")
        return ModelCard(
            family=details.get("family"),
            parameter_size=details.get("parameter_size"),
            quantization=details.get("quantization_level"),
            context_len=info.get(f"{architecture}.context_length"),
            num_parameters=info.get("general.parameter_count"),
            capabilities=tuple(answer.get("capabilities") or ()),
            parameters=answer.get("parameters") or "",
        )
    except _WRONG_FORM as exc:
        raise _no_list("/api/show", exc) from exc


def _each(answer: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
    try:
        return tuple(read(model) for model in answer["models"] or ())
    except _WRONG_FORM as exc:
        raise _no_list("a list of models", exc) from exc


def _no_list(what: str, exc: Exception) -> ValueError:
    return ValueError(f"no {what}: {type(exc).__name__} {exc}")


def _read_pulled(model: Mapping[str, Any]) -> PulledModel:
    details = model.get("details") or {}
    return PulledModel(
        name=model["name"],
        size_bytes=model.get("size"),
        digest=model.get("digest"),
        parameter_size=details.get("parameter_size"),
        quantization=details.get("quantization_level"),
    )


def _read_loaded(model: Mapping[str, Any]) -> RunningModel:
    expires_at = model.get("expires_at")
    return RunningModel(
        name=model["name"],
        size_bytes=model.get("size"),
        # Go leaves a 0 in, so a model on the CPU says so; what is absent is an older version.
        size_vram_bytes=model.get("size_vram"),
        num_ctx=model.get("context_length"),
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
