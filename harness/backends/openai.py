"""Any server that speaks the OpenAI API over HTTP: chat and plain completions, streamed or whole."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.backends.answer import Answer, read_batch
from harness.backends.base import Batch, Request
from harness.backends.foreign import foreign_errors
from harness.backends.http import HttpBackend
from harness.backends.slowing import wait_until
from harness.backends.sse import EventParser
from harness.errors import BackendRejected

__all__ = ["OpenAIBackend", "response_format", "untruncated"]


class OpenAIBackend(HttpBackend):
    """A client of one model at one OpenAI-compatible URL."""

    _stream_type = "text/event-stream"
    _parser = EventParser
    _answer = Answer
    _ready_path = "/v1/models"

    cached_tokens_need: str | None = None
    """What the server must be started with before it counts the prompt tokens that it reused; `None` when it
    does so on its own, or nothing is known of it."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        name: str = "openai",
        timeout_s: float = 600.0,
        connect_timeout_s: float = 5.0,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        slowdown: float = 0.0,
    ) -> None:
        """Describe the server; see `HttpBackend`. `extra_body` holds fields of this server's own, added to
        every request."""
        super().__init__(
            url,
            model=model,
            name=name,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            api_key=api_key,
            slowdown=slowdown,
        )
        self._extra_body = dict(extra_body)

    async def sample(self, request: Request, num: int) -> Batch:
        """Draw `num` answers in one batch; see `BatchSampler`.

        Raises
        ------
        ValueError: `num` is below 1.
        BackendRejected: the server drew another number of answers, so it does not know `n`.
        """
        if num < 1:
            raise ValueError(f"{self.name}: {num} samples, and must be at least 1")
        path = self._path(request)
        if request.json_schema is not None:
            # Imported before the clock starts: the first import takes 50 ms.
            from harness.backends.schema import with_schema_errors
        body = self._body(request) | {"n": num, "stream": False}
        body.pop("stream_options", None)
        with foreign_errors(self.name, self.url, self.timeout_s):
            sent_s = time.perf_counter()
            answer = await self._ask("POST", path, body)
            batch = read_batch(answer, sent_s=sent_s, done_s=time.perf_counter())
        if len(batch.texts) != num:
            what = f"{self.url} gave {len(batch.texts)} of {num} answers asked for with `n`"
            raise BackendRejected(f"{self.name}: {what}; send {num} requests instead")
        if request.json_schema is not None:
            batch = with_schema_errors(batch, request.json_schema)
        if self.slowdown:
            await wait_until(batch.done_s + self.slowdown * (batch.done_s - batch.sent_s))
            batch = dataclasses.replace(batch, done_s=time.perf_counter())
        return batch

    def _path(self, request: Request) -> str:
        if request.json_schema is not None and not self._takes_schema_with(request):
            what = "a raw prompt with a JSON schema, which the OpenAI API does not know"
            raise BackendRejected(f"{self.name}: {what}; send messages instead")
        return "/v1/chat/completions" if request.messages else "/v1/completions"

    def _takes_schema_with(self, request: Request) -> bool:
        """Whether a schema would be obeyed; servers drop what they do not know in silence."""
        return bool(request.messages)

    def _body(self, request: Request) -> dict[str, Any]:
        """The request in the API's words; what the request leaves open is left to the server."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": request.stream,
        }
        if request.messages:
            body["messages"] = [{"role": m.role, "content": m.content} for m in request.messages]
        else:
            body["prompt"] = request.prompt
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.ignore_eos:
            body["ignore_eos"] = True
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": 1} if request.messages else {"logprobs": 1}
        if request.json_schema is not None and request.messages:
            body["response_format"] = response_format(request.json_schema)
        return body | self._extra_body


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The API's way to ask for an instance of a schema."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
    }


def untruncated(request: Request, *, every_token: int) -> dict[str, Any]:
    """Fields by which a sampled answer comes from the whole distribution, or from the request's top-p of it.

    Arguments: `every_token`, the server's top-k for all of them. A greedy answer needs none.
    """
    if request.temperature == 0:
        return {}
    return {"top_k": every_token, "min_p": 0.0, "top_p": 1.0 if request.top_p is None else request.top_p}
