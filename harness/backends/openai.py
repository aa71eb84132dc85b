"""Any server that speaks the OpenAI API over HTTP: chat and plain completions, streamed or whole.

The client must cost little beside the engine: a pocket model decodes a token in 0.1–0.3 ms, and the client's
work is inside every latency measured. So one thin layer over aiohttp (a third of httpx's CPU per token and
per request, `bench/test_overhead.py` measures it), and one `json.loads` per event.

Every request opens its own connection and closes it. Servers drop idle connections at moments of their
choosing (llama.cpp's after 5 s), and a request lost that way is either an error that the engine did not make
or a request sent twice. A connection costs one round trip, and is part of the latency.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import aiohttp

from harness.backends.answer import Answer, MalformedAnswer
from harness.backends.base import Chunk, Completion, OnChunk, Request
from harness.backends.slowing import slowed
from harness.backends.sse import EventParser
from harness.errors import BackendBroken, BackendError, BackendRejected, BackendTimeout, BackendUnreachable

__all__ = ["OpenAIBackend"]

_DONE = b"[DONE]"
_READY_S = 10.0
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class OpenAIBackend:
    """A client of one model at one OpenAI-compatible URL."""

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
        """Describe the server; nothing is sent yet.

        Parameters
        ----------
        url: the server's root, without `/v1`.
        model: the model's name as the server knows it.
        name: the role that errors call this backend by.
        timeout_s: deadline of a whole answer, from sending to its last byte.
        connect_timeout_s: deadline of the connection alone.
        extra_body: fields of this server's own, added to every request.
        slowdown: keep the caller waiting this share of each answer's time longer.
        """
        if slowdown < 0:
            raise ValueError(f"{name}: slowdown is {slowdown}, and must not be negative")
        self.url = url.rstrip("/")
        self.name = name
        self.model = model
        self.timeout_s = timeout_s
        self.slowdown = slowdown
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        self._headers = dict(_HEADERS)
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._extra_body = dict(extra_body)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; see `Backend.generate`."""
        if request.json_schema is not None and not self._takes_schema_with(request):
            what = "a raw prompt with a JSON schema, which the OpenAI API does not know"
            raise BackendRejected(f"{self.name}: {what}; send messages instead")
        path = "/v1/chat/completions" if request.messages else "/v1/completions"
        payload = json.dumps(self._body(request), ensure_ascii=False).encode()
        session = self._session_of_this_loop()
        answer = Answer()
        with self._foreign_errors(self.timeout_s):
            sent_s = time.perf_counter()
            async with session.post(self.url + path, data=payload, headers=self._headers) as response:
                if response.status >= 400:
                    raise await self._refusal(response)
                if response.content_type == "text/event-stream":
                    done_s = await self._read_stream(response, answer, on_chunk)
                else:
                    answer.add_whole(await response.read())
                    done_s = time.perf_counter()
        completion = answer.completion(sent_s=sent_s, done_s=done_s)
        return await slowed(completion, self.slowdown) if self.slowdown else completion

    async def ready(self) -> None:
        """Return when the server answers.

        Raises
        ------
        BackendUnreachable: it does not, or is still loading.
        BackendRejected: it wants a key.
        """
        session = self._session_of_this_loop()
        limit_s = min(self.timeout_s, _READY_S)
        try:
            with self._foreign_errors(limit_s):
                timeout = aiohttp.ClientTimeout(total=limit_s)
                url = f"{self.url}/v1/models"
                async with session.get(url, headers=self._headers, timeout=timeout) as response:
                    if response.status >= 500 or response.status in (401, 403):
                        raise await self._refusal(response)
        except (BackendBroken, BackendTimeout) as exc:
            raise BackendUnreachable(f"{exc}; wait until it has loaded, or start it again") from exc

    async def aclose(self) -> None:
        """Release connections; the server runs on."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._loop is asyncio.get_running_loop():
            await session.close()
        else:
            session.detach()

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
            schema = {"name": "answer", "strict": True, "schema": dict(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | self._extra_body

    async def _read_stream(
        self, response: aiohttp.ClientResponse, answer: Answer, on_chunk: OnChunk | None
    ) -> float:
        """Feed the answer from the stream; return the time of its end."""
        parser = EventParser()
        async for data in response.content.iter_any():
            now_s = time.perf_counter()
            for event in parser.feed(data):
                if event == _DONE:
                    return now_s
                text = answer.add_event(event, now_s)
                if text and on_chunk is not None:
                    on_chunk(Chunk(text, now_s))
        done_s = time.perf_counter()
        for event in parser.close():
            if event != _DONE:
                answer.add_event(event, done_s)
        if answer.finish_reason is None:
            raise MalformedAnswer(f"the stream broke off after {answer.num_chunks} chunks")
        return done_s

    async def _refusal(self, response: aiohttp.ClientResponse) -> BackendError:
        text = (await response.text(errors="replace"))[:500].strip()
        said = f"{self.name}: {self.url} answered {response.status}: {text or response.reason}"
        if response.status >= 500:
            return BackendBroken(said)
        if response.status in (401, 403):
            return BackendRejected(f"{said}; pass a key with ?key_env=VARIABLE")
        return BackendRejected(said)

    @contextmanager
    def _foreign_errors(self, limit_s: float) -> Iterator[None]:
        """Translate every error of the client library and of the answer's form, with its cause."""
        at = f"{self.name}: "
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as exc:
            remedy = f"start the server or pass --backend {self.name}=URL"
            raise BackendUnreachable(f"{at}no connection to {self.url} ({_reason(exc)}); {remedy}") from exc
        except TimeoutError as exc:
            limit = f"{limit_s:g} s"
            raise BackendTimeout(
                f"{at}no whole answer from {self.url} within {limit}; raise timeout_s"
            ) from exc
        except MalformedAnswer as exc:
            raise BackendBroken(f"{at}{self.url} gave no valid answer: {exc}; see the server's log") from exc
        except (aiohttp.ClientError, OSError) as exc:
            why = f"{self.url} broke the connection off ({_reason(exc)}); see the server's log"
            raise BackendBroken(f"{at}{why}") from exc

    def _session_of_this_loop(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            if self._session is not None:
                # Bound to a loop that has ended; it holds no connection, as none outlives its request.
                self._session.detach()
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
            )
        return self._session


def _reason(exc: BaseException) -> str:
    """What the system says of a failed connection, in its own words."""
    cause = getattr(exc, "os_error", None) or exc
    errno = getattr(cause, "errno", None)
    if errno is not None and errno > 0:
        return os.strerror(errno)
    return str(getattr(cause, "strerror", None) or exc or type(exc).__name__)
