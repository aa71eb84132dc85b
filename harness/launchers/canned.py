"""A server that speaks OpenAI's protocol, or Ollama's, and computes nothing: to test and to measure clients.

In a thread of this process it records what it received and behaves as told: well, slowly, or badly. As a
program (`python harness/launchers/canned.py --port 8000 --token-s 0.002`) its work is on nobody's clock but
its own. It needs the standard library alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

__all__ = [
    "Behaviour",
    "CannedServer",
    "Exchange",
    "answering",
    "breaking_off",
    "hanging",
    "hanging_up",
    "refusing",
    "replaying",
    "routing",
]

_MODEL = "canned"
_TOKEN = " token"
_FIRST_REQUEST_S = 5.0


@dataclass(slots=True)
class Exchange:
    """One request as received, and the way to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter = field(repr=False)
    is_abandoned: bool = False
    """Whether the client closed the connection before the answer was whole."""

    def start(self, status: int = 200, content_type: str = "text/event-stream") -> None:
        """Send the head of a chunked answer. It promises to keep the connection, as most servers do."""
        head = (
            f"HTTP/1.1 {status} Canned\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self.writer.write(head.encode())

    def send(self, data: bytes) -> None:
        """Send a piece of the body, in a write of its own."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """Send the end of the body."""
        self.writer.write(b"0\r\n\r\n")


Behaviour = Callable[[Exchange], Awaitable[None]]


def answering(*, token_s: float = 0.0, prompt_tokens: int = 7, **extra: Any) -> Behaviour:
    """Answer with `max_tokens` tokens, `token_s` apart, a chunk each; `extra` joins the last frame."""

    async def behave(exchange: Exchange) -> None:
        if exchange.path.startswith("/api/"):
            await _answer_as_ollama(exchange, token_s, prompt_tokens)
            return
        num_tokens = exchange.body["max_tokens"]
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": num_tokens}
        if not exchange.body.get("stream"):
            await asyncio.sleep(token_s * num_tokens)
            choice = {"index": 0, "finish_reason": "length", "message": {"content": _TOKEN * num_tokens}}
            exchange.start(content_type="application/json")
            exchange.send(
                json.dumps({"model": _MODEL, "choices": [choice], "usage": usage, **extra}).encode()
            )
            exchange.end()
            return
        frame = _frame({"content": _TOKEN}, None)
        exchange.start()
        for _ in range(num_tokens):
            exchange.send(frame)
            await asyncio.sleep(token_s)
        exchange.send(_frame({}, "length"))
        last = {"model": _MODEL, "choices": [], "usage": usage, **extra}
        exchange.send(b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(last).encode())
        exchange.end()

    return behave


async def _answer_as_ollama(exchange: Exchange, token_s: float, prompt_tokens: int) -> None:
    num_tokens = exchange.body["options"]["num_predict"]
    counts = {"prompt_eval_count": prompt_tokens, "eval_count": num_tokens}
    end = {"done": True, "done_reason": "length", **counts}
    if exchange.body.get("stream") is False:
        await asyncio.sleep(token_s * num_tokens)
        exchange.start(content_type="application/json")
        exchange.send(_ollama_frame(exchange, _TOKEN * num_tokens, **end))
    else:
        frame = _ollama_frame(exchange, _TOKEN, done=False)
        exchange.start(content_type="application/x-ndjson")
        for _ in range(num_tokens):
            exchange.send(frame)
            await asyncio.sleep(token_s)
        exchange.send(_ollama_frame(exchange, "", **end))
    exchange.end()


def replaying(
    *pieces: bytes, pause_s: float = 0.0, content_type: str = "text/event-stream", status: int = 200
) -> Behaviour:
    """Answer with exactly these bytes, cut as given."""

    async def behave(exchange: Exchange) -> None:
        exchange.start(status, content_type)
        for piece in pieces:
            exchange.send(piece)
            await exchange.writer.drain()
            await asyncio.sleep(pause_s)
        exchange.end()

    return behave


def routing(**behaviours: Behaviour) -> Behaviour:
    """Behave by the path's last part (`tags=` at `/api/tags`); what is not named is not found."""

    async def behave(exchange: Exchange) -> None:
        name = exchange.path.partition("?")[0].rpartition("/")[2]
        await behaviours.get(name, refusing(404, "File Not Found"))(exchange)

    return behave


def breaking_off(num_tokens: int) -> Behaviour:
    """Send some tokens, then cut the connection."""

    async def behave(exchange: Exchange) -> None:
        exchange.start()
        for _ in range(num_tokens):
            exchange.send(_frame({"content": _TOKEN}, None))
        await exchange.writer.drain()
        exchange.writer.close()

    return behave


def refusing(status: int, message: str) -> Behaviour:
    """Answer with an error status."""

    async def behave(exchange: Exchange) -> None:
        exchange.start(status, "application/json")
        exchange.send(json.dumps({"error": {"message": message}}).encode())
        exchange.end()

    return behave


async def hanging(exchange: Exchange) -> None:
    """Accept the request and never answer."""
    await asyncio.sleep(3600)


async def hanging_up(exchange: Exchange) -> None:
    """Accept the request and close the connection."""
    exchange.writer.close()


class CannedServer:
    """Serves one behaviour on a port of the kernel's choosing while its `with` block lasts."""

    def __init__(self, behave: Behaviour | None = None, *, idle_s: float = 5.0) -> None:
        """Behave as told (well, if not told); close a connection that is idle for `idle_s`."""
        self.behave = behave or answering()
        models = json.dumps({"data": [{"id": _MODEL}], "models": [{"name": _MODEL}]}).encode()
        self.behave_at_models = replaying(models, content_type="application/json")
        """The answer to a GET, which asks for the list of models or how the server does."""
        self.exchanges: list[Exchange] = []
        """Every completion request received, in order."""
        self.url = ""
        self._idle_s = idle_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="canned-server", daemon=True)

    async def serve(self, port: int = 0) -> asyncio.Server:
        """Listen on this loop; `url` says where."""
        while True:
            server = await asyncio.start_server(self._connection, "127.0.0.1", port)
            bound: int = server.sockets[0].getsockname()[1]
            if port or _is_reached(bound):
                self.url = f"http://127.0.0.1:{bound}"
                return server
            server.close()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self.serve(), self._loop).result(5)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _shut(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broken = (ConnectionError, TimeoutError, asyncio.IncompleteReadError)
        with contextlib.suppress(*broken, asyncio.CancelledError):
            # Idle is a connection that has been answered; a new one's request may be on its way.
            wait_s = _FIRST_REQUEST_S
            while not writer.is_closing():
                exchange = await asyncio.wait_for(_receive(reader, writer), wait_s)
                wait_s = self._idle_s
                if exchange.method == "GET":
                    await self.behave_at_models(exchange)
                else:
                    self.exchanges.append(exchange)
                    await self._answer(exchange, reader)
        writer.close()
        with contextlib.suppress(*broken, asyncio.CancelledError):
            await writer.wait_closed()

    async def _answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        """Behave until done or until the client goes away."""
        task = asyncio.ensure_future(self.behave(exchange))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            exchange.is_abandoned = not task.done()
            if task.done():
                await task
                await exchange.writer.drain()
            else:
                exchange.writer.close()
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)


def _is_reached(port: int) -> bool:
    """Whether a listening port is found by who connects to it.

    Linux 6.18 gives, once in some thousand times that several processes bind and close at once, a port whose
    listener no connection ever finds.
    """
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(method, path, headers, json.loads(body) if body else {}, writer)


def _frame(delta: dict[str, str], finish_reason: str | None) -> bytes:
    """A frame as long as real servers make them."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    answer_id = "chatcmpl-KWlWDAukqX5ItZlsqm5dKap49ETcmScZ"
    names = {"id": answer_id, "object": "chat.completion.chunk", "created": 1795229480, "model": _MODEL}
    return b"data: %s\n\n" % json.dumps({**names, "choices": [choice]}).encode()


def _ollama_frame(exchange: Exchange, text: str, **more: Any) -> bytes:
    chat = exchange.path == "/api/chat"
    told = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    frame = {"model": _MODEL, "created_at": "2026-11-21T06:15:24.097767Z", **told, **more}
    return json.dumps(frame).encode() + b"\n"


async def _main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server that computes nothing.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-s", type=float, default=0.0, help="seconds between tokens")
    given = parser.parse_args()
    server = await CannedServer(answering(token_s=given.token_s)).serve(given.port)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
