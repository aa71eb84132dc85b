"""The client for asyncio: many sessions at once over one connection, in one event loop.

    async with await AsyncSessionClient.connect(address) as client:
        session = await client.open(256)
        async for token in session.turn([1, 5, 9], max_new_tokens=50):
            print(token.token_id)

It has what agents need: sessions and turns. It is not paced: a server that declares a link is refused unless
the caller says that it is not to matter. What crosses in the other modes is the blocking client's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from time import perf_counter
from typing import Self, TypeVar, cast

from harness.errors import BackendBroken, BackendTimeout, HarnessError, ProtocolError, UsageError
from harness.sessions.address import Address, dial
from harness.sessions.channel import Arrived
from harness.sessions.codes import Code
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import FrameLimits
from harness.sessions.messages import (
    SERVER_FRAMES,
    VERSION,
    Cancel,
    Close,
    Done,
    Failed,
    Hello,
    Message,
    Ok,
    Open,
    Opened,
    Resume,
    Stats,
    StatsReply,
    Turn,
    Welcome,
)
from harness.sessions.protocol import encode
from harness.sessions.replies import Generated, StreamedToken, answers, check_model, refused, token_of
from harness.sessions.sampling import Sampling
from harness.sessions.transport import Transport

__all__ = ["AsyncClientSession", "AsyncSessionClient", "AsyncTurnStream"]

M = TypeVar("M", bound=Message)
_WELCOME = 0
"""The number that Welcome answers: it has none."""


class AsyncSessionClient:
    """A connection to a session server; an async context manager. For one event loop."""

    welcome: Welcome

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        """Connect, which blocks for a moment; `connect` says hello too."""
        self.address = address
        self._timeout_s = timeout_s
        self._last_request = 0
        self._waiting: dict[int, asyncio.Queue[Arrived | HarnessError]] = {}
        self._trouble: HarnessError | None = None
        self._transport = Transport(
            dial(address, timeout_s=timeout_s),
            FrameParser(SERVER_FRAMES, FrameLimits()),
            on_frames=self._on_frames,
            on_drained=lambda: None,
            on_end=lambda reason: self._on_end(BackendBroken(f"{address}: the connection ended ({reason})")),
        )

    @classmethod
    async def connect(cls, address: Address, *, timeout_s: float = 60.0, ignore_link: bool = False) -> Self:
        """Connect and say hello.

        Arguments: `timeout_s`, that any one frame may take to come; `ignore_link`, whether to be as fast as
        it goes where the server declares a link.

        Raises
        ------
        UsageError: the server declares a link. And what `SessionClient.connect` raises.
        """
        client = cls(address, timeout_s=timeout_s)
        try:
            client.welcome = await client._ask(Welcome, Hello(), _WELCOME)
            link_bps = client.welcome.link_bps
            if client.welcome.version != VERSION or (link_bps and not ignore_link):
                what = f"version {client.welcome.version}, a link of {link_bps} bps"
                raise UsageError(f"{address}: {what}; use SessionClient, which is paced, or ignore_link")
        except BaseException:
            client.close()
            raise
        return client

    @property
    def bytes_sent(self) -> int:
        """Taken by the kernel so far."""
        return self._transport.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Given by the kernel so far."""
        return self._transport.bytes_received

    async def open(self, max_tokens: int, *, linger_s: int = 0, model: str = "") -> AsyncClientSession:
        """As `SessionClient.open`."""
        check_model(self.address, self.welcome, model)
        request = self._next()
        message = Open(request, max_tokens, linger_s, model)
        asking = asyncio.ensure_future(self._ask(Opened, message, request))
        try:
            return AsyncClientSession(self, await asyncio.shield(asking))
        except asyncio.CancelledError:
            # The session may be made all the same, and nobody would ever close it.
            asking.add_done_callback(self._close_unwanted)
            raise

    async def resume(self, secret: bytes, *, turn: int = 0, received: int = 0) -> AsyncClientSession:
        """As `SessionClient.resume`."""
        request = self._next()
        opened = await self._ask(Opened, Resume(request, secret, turn, received), request)
        self._last_request = max(self._last_request, opened.last_turn)
        return AsyncClientSession(self, opened)

    async def stats(self) -> dict[str, int | float | str | None]:
        """The server's counters."""
        request = self._next()
        return (await self._ask(StatsReply, Stats(request), request)).stats

    def close(self) -> None:
        """Leave; sessions that linger wait to be resumed. A second call does nothing."""
        if not self._transport.is_closed:
            self._transport.abort("closed here")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def _close_unwanted(self, asking: asyncio.Future[Opened]) -> None:
        if asking.cancelled() or asking.exception() is not None:
            return
        with contextlib.suppress(HarnessError):
            self._send(Close(self._next(), asking.result().session))

    def _next(self) -> int:
        self._last_request += 1
        return self._last_request

    def _send(self, message: Message) -> int:
        if self._trouble is not None:
            raise self._trouble
        parts = encode(message)
        self._transport.send(parts)
        return sum(map(len, parts))

    async def _ask(self, kind: type[M], message: Message, request: int) -> M:
        self._waiting[request] = asyncio.Queue()
        try:
            self._send(message)
            answer = (await self._wait(request)).frame.message
        finally:
            self._waiting.pop(request, None)
        if not isinstance(answer, kind):
            raise BackendBroken(f"{self.address}: {type(answer).__name__} instead of {kind.__name__}")
        return answer

    async def _wait(self, number: int) -> Arrived:
        """The next frame of a request or turn."""
        try:
            async with asyncio.timeout(self._timeout_s):
                one = await self._waiting[number].get()
        except TimeoutError as exc:
            text = f"{self.address}: nothing within {self._timeout_s:g} s; raise timeout_s"
            raise BackendTimeout(text) from exc
        if isinstance(one, HarnessError):
            raise one
        if isinstance(one.frame.message, Failed):
            raise refused(str(self.address), one.frame.message)
        return one

    def _on_frames(self, found: list[Frame | ProtocolError]) -> None:
        came_s = perf_counter()
        for one in found:
            if isinstance(one, ProtocolError):
                self._on_end(BackendBroken(f"{self.address}: {one}"))
                self.close()
            elif isinstance(one.message, Failed) and one.message.code >= Code.MALFORMED:
                self._on_end(refused(str(self.address), one.message))
            else:
                self._deliver(Arrived(one, came_s))

    def _deliver(self, arrived: Arrived) -> None:
        message = arrived.frame.message
        if isinstance(message, Opened) and message.last_turn:
            # Its tokens may be right behind, before whoever resumed the session comes to ask for them.
            self._waiting.setdefault(message.last_turn, asyncio.Queue())
        if (queue := self._waiting.get(answers(message))) is not None:
            queue.put_nowait(arrived)

    def _on_end(self, trouble: HarnessError) -> None:
        # The first is the reason, what follows are its consequences.
        if self._trouble is None:
            self._trouble = trouble
            for queue in self._waiting.values():
                queue.put_nowait(trouble)


class AsyncClientSession:
    """A session on the server."""

    def __init__(self, client: AsyncSessionClient, opened: Opened) -> None:
        self.secret = opened.secret
        self.num_tokens_at_start = opened.num_tokens
        self.last_turn = opened.last_turn
        self._client = client
        self._number = opened.session

    def turn(
        self,
        token_ids: Sequence[int],
        *,
        max_new_tokens: int,
        want_logits: bool = False,
        stop_ids: Sequence[int] = (),
        sampling: Sampling | None = None,
    ) -> AsyncTurnStream:
        """Send new tokens; what comes of them, as it comes."""
        client = self._client
        number = self.last_turn = client._next()
        message = Turn(
            number, self._number, list(token_ids), max_new_tokens, want_logits, list(stop_ids), sampling
        )
        client._waiting[number] = asyncio.Queue()
        sent_s = perf_counter()
        return AsyncTurnStream(client, number, sent_s, client._send(message))

    def rest_of_turn(self) -> AsyncTurnStream:
        """What a resumed session's latest turn still gives."""
        return AsyncTurnStream(self._client, self.last_turn, perf_counter(), 0)

    async def close(self) -> None:
        """End the session."""
        request = self._client._next()
        await self._client._ask(Ok, Close(request, self._number), request)


class AsyncTurnStream:
    """The tokens of a turn; iterate, or take the `whole`."""

    def __init__(self, client: AsyncSessionClient, number: int, sent_s: float, bytes_up: int) -> None:
        self.number = number
        self.done: Done | None = None
        self.bytes_up = bytes_up
        self.bytes_down = 0
        self._client = client
        self._sent_s = sent_s

    async def __aiter__(self) -> AsyncIterator[StreamedToken]:
        while (token := await self.next()) is not None:
            yield token

    async def next(self) -> StreamedToken | None:
        """The next token, or None at the end."""
        if self.done is not None:
            return None
        try:
            arrived = await self._client._wait(self.number)
        except HarnessError:
            self._client._waiting.pop(self.number, None)
            raise
        self.bytes_down += arrived.frame.num_bytes
        if isinstance(arrived.frame.message, Done):
            self.done = arrived.frame.message
            self._client._waiting.pop(self.number, None)
            return None
        return token_of(arrived)

    async def whole(self) -> Generated:
        """All that is still to come, and the end."""
        tokens = tuple([token async for token in self])
        done = cast(Done, self.done)
        return Generated(tokens, done, self._sent_s, perf_counter(), self.bytes_up, self.bytes_down)

    def cancel(self) -> None:
        """Ask for an early end; the tokens that came before it are still to be read."""
        self._client._send(Cancel(self.number))
