"""`transformers serve`, over HTTP: the OpenAI API, with what that server leaves out put back.

Four habits of its own would change what is asked (transformers 5.23):

- `ignore_eos` is refused with status 422, so the end is forbidden by `min_new_tokens` instead.
- A temperature alone samples nothing unless the model's own configuration says `do_sample`, so every sampled
  request says it, and lifts the truncation to the 50 likeliest tokens.
- A stop string is the end of the text and part of it; it is cut off here, also while streaming.
- It answers to the path or hub id it was started with and to no other name, while `/v1/models` lists the
  hub's cache and fails without one: `ready` asks `/health`.

Log-probabilities and schemas are ignored in silence: `token_logprobs` is `None`, and the text is free.
Source: huggingface/transformers, src/transformers/cli/serving/{utils,completion,chat_completion,server}.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from harness.backends.base import Chunk, Completion, OnChunk, Request
from harness.backends.openai import OpenAIBackend

__all__ = ["TransformersServeBackend"]


class TransformersServeBackend(OpenAIBackend):
    """A client of one model at `transformers serve`."""

    _ready_path = "/health"

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; see `Backend.generate`."""
        if not request.stop:
            return await super().generate(request, on_chunk)
        cutter = _Cutter(request.stop, on_chunk)
        answer = await super().generate(request, cutter.take)
        text = _before(answer.text, request.stop)
        if not answer.chunk_times_s:
            return replace(answer, text=text)
        cutter.flush(len(text))
        times_s = tuple(cutter.times_s)
        return replace(answer, text=text, chunk_times_s=times_s)

    def _body(self, request: Request) -> dict[str, Any]:
        body = super()._body(request)
        body.pop("ignore_eos", None)
        # What stands here replaces the model's own configuration; what is left open is filled in from it.
        config: dict[str, Any] = {}
        if request.temperature > 0:
            config |= {"do_sample": True, "top_k": 0}
        if request.ignore_eos:
            config["min_new_tokens"] = request.max_tokens
        if config:
            body["generation_config"] = json.dumps(config)
        return body


class _Cutter:
    """Passes on what streams in, and keeps back what may be the beginning of a stop string."""

    def __init__(self, stops: tuple[str, ...], on_chunk: OnChunk | None) -> None:
        self._stops, self._on_chunk = stops, on_chunk
        self._text, self._shown = "", 0
        self._now_s = 0.0
        self.times_s: list[float] = []
        """When each piece was passed on."""

    def take(self, chunk: Chunk) -> None:
        self._text += chunk.text
        self._now_s = chunk.time_s
        whole = _before(self._text, self._stops)
        self.flush(len(whole) if len(whole) < len(self._text) else self._num_certain())

    def flush(self, end: int) -> None:
        """Pass on the text up to `end`."""
        piece = self._text[self._shown : end]
        if not piece:
            return
        self._shown = end
        self.times_s.append(self._now_s)
        if self._on_chunk is not None:
            self._on_chunk(Chunk(piece, self._now_s))

    def _num_certain(self) -> int:
        """The characters that no stop string, once whole, can take back."""
        most = min(len(self._text), max(map(len, self._stops)) - 1)
        for kept in range(most, 0, -1):
            if any(stop.startswith(self._text[-kept:]) for stop in self._stops):
                return len(self._text) - kept
        return len(self._text)


def _before(text: str, stops: tuple[str, ...]) -> str:
    """The text before the first stop string."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
