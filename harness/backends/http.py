"""What every client of an engine behind HTTP needs: connections, deadlines, one error for each failure.

The client must cost little beside the engine: a pocket model decodes a token in 0.1–0.3 ms, and the client's
work is inside every latency measured. So one thin layer over aiohttp (a third of httpx's CPU per token and
per request, `bench/test_overhead.py` measures it), and one `json.loads` per event.

Every request opens its own connection and closes it. Servers drop idle connections at moments of their
choosing (llama.cpp's after 5 s), and a request lost that way is either an error that the engine did not make
or a request sent twice. A connection costs one round trip, and is part of the latency.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from harness.backends.answer import Answer, MalformedAnswer
from harness.backends.base import Chunk, Completion, OnChunk, Request
from harness.backends.foreign import foreign_errors
from harness.backends.prometheus import parse_samples
from harness.backends.slowing import slowed
from harness.errors import BackendBroken, BackendError, BackendRejected, BackendTimeout, BackendUnreachable

__all__ = ["HttpBackend", "StreamParser"]

_DONE = b"[DONE]"
_READY_S = 10.0
_HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_NO_KEY = (401, 403)
_NOT_THERE = (404, 405, 501)


class StreamParser(Protocol):
    """Splits the bytes of a stream into its events, however the network cut them."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the events that they complete."""

    def close(self) -> list[bytes]:
        """Return the events that the end of the stream completes."""


class _Body(BytesPayload):
    """A request's body that notes when it was written: connected, and the loop had come to it."""

    written_s: float | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write head and body; the time is taken before, since a server may be slow in reading them."""
        self.written_s = time.perf_counter()
        await super().write_with_length(writer, content_length)


class HttpBackend:
    """A client of one model at one URL; a subclass says what is sent and how answers are read."""

    _stream_type: ClassVar[str]
    """The content type by which a streamed answer is known."""
    _parser: ClassVar[type[StreamParser]]
    _answer: ClassVar[type[Answer]]
    _ready_path: ClassVar[str]
    """Asked by `ready`: answered by every server of the kind, and cheaply."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        name: str,
        timeout_s: float = 600.0,
        connect_timeout_s: float = 5.0,
        api_key: str | None = None,
        slowdown: float = 0.0,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Parameters
        ----------
        url: the server's root, without `/v1` or `/api`.
        model: the model's name as the server knows it.
        name: the role that errors call this backend by.
        timeout_s: deadline of a whole answer, from sending to its last byte.
        connect_timeout_s: deadline of the connection alone.
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
            # A key read from a file ends in a line feed, which no header may hold.
            self._headers["Authorization"] = f"Bearer {api_key.strip()}"
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; see `Backend.generate`."""
        path = self._path(request)
        if request.json_schema is not None:
            # Imported before the clock starts: the first import takes 50 ms.
            from harness.backends.schema import schema_error
        body = _Body(json.dumps(self._body(request), ensure_ascii=False).encode())
        session = self._session_of_this_loop()
        answer = self._answer()
        own: list[Exception] = []
        with foreign_errors(self.name, self.url, self.timeout_s, own):
            sent_s = time.perf_counter()
            async with session.post(self.url + path, data=body, headers=self._headers) as response:
                if response.status >= 400:
                    raise await self._refusal(response)
                if response.content_type == self._stream_type:
                    done_s = await self._read_stream(response, answer, on_chunk, own)
                else:
                    answer.add_whole(await response.read())
                    done_s = time.perf_counter()
        completion = answer.completion(sent_s=sent_s, done_s=done_s, written_s=body.written_s)
        if request.json_schema is not None:
            error = schema_error(completion.text, request.json_schema, finish_reason=completion.finish_reason)
            completion = dataclasses.replace(completion, schema_error=error)
        completion = self._account(request, completion)
        return await slowed(completion, self.slowdown) if self.slowdown else completion

    async def ready(self) -> None:
        """Return when the server answers.

        Raises
        ------
        BackendUnreachable: it does not, or is still loading.
        BackendRejected: it wants a key.
        """
        await self._ask_ready(self._ready_path)

    async def aclose(self) -> None:
        """Release connections; the server runs on."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._loop is asyncio.get_running_loop():
            await session.close()
        else:
            session.detach()

    def _path(self, request: Request) -> str:
        """Where the request goes; raises `BackendRejected` when this server would not do what it asks."""
        raise NotImplementedError

    def _body(self, request: Request) -> dict[str, Any]:
        """The request in the API's words."""
        raise NotImplementedError

    def _account(self, request: Request, completion: Completion) -> Completion:
        """Complete or refuse what the server said of an answer that came whole."""
        return completion

    def _remedy(self, status: int, text: str) -> str | None:
        """What the user can do about this refusal."""
        return "pass a key with ?key_env=VARIABLE" if status in _NO_KEY else None

    async def _samples(self, missing: str) -> Mapping[str, float]:
        """The counters at `/metrics`; `missing` is the remedy where there are none."""
        text = await self._ask("GET", "/metrics", missing=missing)
        try:
            return parse_samples(text.decode())
        except ValueError as exc:
            raise BackendBroken(f"{self.name}: {self.url}/metrics is no Prometheus text ({exc})") from exc

    async def _ask_ready(self, path: str) -> bytes:
        limit_s = min(self.timeout_s, _READY_S)
        try:
            return await self._ask("GET", path, limit_s=limit_s, tolerated=_NOT_THERE)
        except (BackendBroken, BackendTimeout) as exc:
            raise BackendUnreachable(f"{exc}; wait until it has loaded, or start it again") from exc

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        limit_s: float | None = None,
        missing: str | None = None,
        tolerated: tuple[int, ...] = (),
    ) -> bytes:
        """Ask something that is no completion, and return the answer's body.

        Parameters
        ----------
        limit_s: deadline of the whole answer; `None` is the backend's.
        missing: the remedy when the server does not know the path.
        tolerated: refusals that are as good as an answer.
        """
        limit_s = self.timeout_s if limit_s is None else limit_s
        timeout = aiohttp.ClientTimeout(total=limit_s, sock_connect=self._timeout.sock_connect)
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        session = self._session_of_this_loop()
        with foreign_errors(self.name, self.url, limit_s):
            async with session.request(
                method, self.url + path, data=data, headers=self._headers, timeout=timeout
            ) as response:
                if missing is not None and response.status in _NOT_THERE:
                    said = f"{self.name}: {self.url}{path} is not offered ({response.status})"
                    raise BackendRejected(f"{said}; {missing}")
                if response.status >= 400 and response.status not in tolerated:
                    raise await self._refusal(response)
                return await response.read()

    async def _ask_json(self, method: str, path: str, *args: Any, **options: Any) -> dict[str, Any]:
        """The same, for an answer that is a JSON object."""
        data = await self._ask(method, path, *args, **options)
        try:
            answer = json.loads(data)
            if not isinstance(answer, dict):
                raise ValueError("no object")
        except ValueError as exc:
            what = f"{self.url}{path} answered {data[:100]!r}"
            raise BackendBroken(
                f"{self.name}: {what}, which is no JSON object; see the server's log"
            ) from exc
        return answer

    async def _read_stream(
        self, response: aiohttp.ClientResponse, answer: Answer, on_chunk: OnChunk | None,
        own: list[Exception],
    ) -> float:  # fmt: skip
        """Feed the answer from the stream; return the time of its end.

        Arguments: `own`, where what `on_chunk` raises is noted, before it is raised again.
        """
        parser = self._parser()
        async for data in response.content.iter_any():
            now_s = time.perf_counter()
            if _feed(answer, parser.feed(data), now_s, on_chunk, own):
                return now_s
        done_s = time.perf_counter()
        if not _feed(answer, parser.close(), done_s, on_chunk, own) and not answer.is_whole:
            raise MalformedAnswer(f"the stream broke off after {answer.num_chunks} chunks")
        return done_s

    async def _refusal(self, response: aiohttp.ClientResponse) -> BackendError:
        text = " ".join((await response.text(errors="replace"))[:500].split())
        said = f"{self.name}: {self.url} answered {response.status}: {text or response.reason}"
        remedy = self._remedy(response.status, text)
        kind = BackendBroken if response.status >= 500 else BackendRejected
        return kind(said if remedy is None else f"{said}; {remedy}")

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


def _feed(
    answer: Answer, events: list[bytes], now_s: float, on_chunk: OnChunk | None, own: list[Exception]
) -> bool:
    """Feed the answer with these events; return whether the last of its stream was among them."""
    for event in events:
        if event == _DONE:
            if not answer.is_whole:
                raise MalformedAnswer(f"the stream ended after {answer.num_chunks} chunks, not the answer")
            return True
        text = answer.add_event(event, now_s)
        if text and on_chunk is not None:
            try:
                on_chunk(Chunk(text, now_s))
            except Exception as exc:
                own.append(exc)
                raise
    return False
