"""One client at the server: what each of its frames leads to.

Frames are handled in their order. When this client's requests wait for the engine, or it does not read what
it is sent, its frames wait and nothing more is read from it; the others do not notice. Frames that carry or
ask for large buffers are handled one at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from harness.errors import ProtocolError
from harness.sessions.codes import Code, refusal
from harness.sessions.contract import Engine
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import HELLO_LIMITS
from harness.sessions.messages import CLIENT_FRAMES, Failed, Hello, Message
from harness.sessions.protocol import Buffer, encode
from harness.sessions.registry import HeldSession
from harness.sessions.requests import greet, handle
from harness.sessions.transport import Transport

if TYPE_CHECKING:
    import socket

    from harness.sessions.server import SessionServer

__all__ = ["Connection"]

_MAX_PENDING = 64
_FRAMES_PER_TURN = 64
"""Of one client, before the loop looks at the others."""
_MAX_TEXT = 1000
_JOIN_BYTES = 2**15


class Connection:
    """A connected client. For the loop's thread."""

    def __init__(self, server: SessionServer, sock: socket.socket, number: int) -> None:
        self.name = f"connection {number}"
        self.sessions: dict[int, HeldSession] = {}
        self.server = server
        self.has_greeted = False
        self._inbox: deque[Frame | ProtocolError] = deque()
        self._outbox: list[Buffer] = []
        self._num_pending = self._num_numbers = self.num_opening = 0
        self._is_exclusive = self._is_held = self._goes_on = False
        self._reserved_bytes = 0
        self._began_s = monotonic()
        parser = FrameParser(CLIENT_FRAMES, HELLO_LIMITS, reserve=self._reserve)
        self.transport = Transport(
            sock,
            parser,
            on_frames=self._on_frames,
            on_drained=self._pump,
            on_end=self._on_end,
            lock=server.lock,
        )

    @property
    def is_busy(self) -> bool:
        """Whether a turn of one of its sessions runs."""
        return any(session.is_busy for session in self.sessions.values())

    def queue(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> int:
        """Have a frame sent at the next `flush`; its length in bytes."""
        parts = encode(message, buffers)
        self._outbox += parts
        return sum(map(len, parts))

    def flush(self) -> None:
        """Send what is queued, in one go; a client that has too much waiting is let go."""
        parts, self._outbox = self._outbox, []
        if parts or self.transport.unsent_bytes:
            self.transport.send(_joined(parts))
        unsent, limit = self.transport.unsent_bytes, self.server.limits.max_unsent_bytes
        if unsent > limit and not self.transport.is_over:
            self.fail(Code.TIMEOUT, f"{unsent} bytes wait for you; the limit is {limit}: read what comes")

    def flush_at_once(self) -> bool:
        """As `flush`, from the engine's thread; False when the loop is to `flush` the rest."""
        parts, self._outbox = self._outbox, []
        return not parts or self.transport.send_at_once(_joined(parts))

    def reply(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        """Send a frame now."""
        self.queue(message, buffers)
        self.flush()

    def refuse(self, request: int, code: Code, text: str) -> None:
        """Say no to a request; the connection lives."""
        self.server.count("refused")
        self.reply(Failed(request, code, text[:_MAX_TEXT]))

    def queue_refusal(self, request: int, error: Exception) -> None:
        """As `refuse`, in the engine's words, at the next `flush`."""
        self.server.count("refused")
        code, text = refusal(error)
        self.queue(Failed(request, code, text[:_MAX_TEXT]))

    def fail(self, code: Code, text: str) -> None:
        """End the connection, with the reason."""
        self.server.count(f"ended_{code.name.lower()}")
        last_words = [*self._outbox, *encode(Failed(0, code, text[:_MAX_TEXT]))]
        self._outbox = []
        self.transport.finish(text, last_words)

    def sweep(self, now_s: float) -> None:
        """End the connection if its client takes too long."""
        limits = self.server.limits
        overdue = self.transport.overdue(now_s, limits)
        if overdue is None and not self.transport.is_over:
            quiet_s = now_s - self.transport.read_s
            if not self.has_greeted and now_s - self._began_s > limits.hello_timeout_s:
                overdue = f"no hello for {limits.hello_timeout_s:g} s; say hello first"
            elif quiet_s > limits.idle_timeout_s and not self.is_busy and not self._num_pending:
                overdue = f"nothing for {limits.idle_timeout_s:g} s; ping now and then"
        if overdue is not None:
            self.fail(Code.TIMEOUT, overdue)

    def _on_frames(self, found: list[Frame | ProtocolError]) -> None:
        self._inbox.extend(found)
        self._pump()

    def _pump(self) -> None:
        """Handle frames until there is none, something is to be waited for, or others are to have a turn."""
        for _ in range(_FRAMES_PER_TURN):
            if not self._inbox or self._is_blocked or self.transport.is_over:
                break
            one = self._inbox.popleft()
            if isinstance(one, ProtocolError):
                self.fail(Code(one.code), str(one))
            elif isinstance(one.message, Hello) or not self.has_greeted:
                greet(self, one.message)
            else:
                handle(self, one)
        if self.transport.is_over:
            return
        if self._inbox or self._is_blocked:
            self.transport.pause()
        else:
            self.transport.resume()
        if self._inbox and not self._is_blocked and not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        with self.server.lock:
            self._goes_on = False
            self._pump()

    def hold(self) -> None:
        """Handle no more frames; for a server that stops."""
        self._is_held = True
        self.transport.pause()

    @property
    def _is_blocked(self) -> bool:
        is_full = self.transport.unsent_bytes > self.server.limits.high_water_bytes
        return self._is_held or self._is_exclusive or is_full or self._num_pending >= _MAX_PENDING

    def _on_end(self, reason: str) -> None:
        self._inbox.clear()
        self.server.received(-self._reserved_bytes)
        self._reserved_bytes = 0
        self.server.disconnected(self, reason)

    def _reserve(self, num_bytes: int) -> None:
        self.server.received(num_bytes)
        self._reserved_bytes += num_bytes

    def release(self, frame: Frame) -> None:
        """The buffers of a frame are handed over or thrown away: they are no longer being received."""
        if not self.transport.is_over:
            num_bytes = sum(len(buffer) for buffer in frame.buffers)
            self.server.received(-num_bytes)
            self._reserved_bytes -= num_bytes

    def call(
        self,
        request: int,
        operation: Callable[[Engine], Any],
        then: Callable[[Any], None],
        *,
        otherwise: Callable[[], None] | None = None,
        session: HeldSession | None = None,
    ) -> None:
        """Have the engine do something, then do the rest here, or refuse the request.

        Arguments: `session`, whose owner by then is told of a refusal, in the place of this client.
        """
        self._num_pending += 1

        def done(result: Any, error: Exception | None) -> None:
            self._num_pending -= 1
            if error is None:
                then(result)
            else:
                if otherwise is not None:
                    otherwise()
                teller = self if session is None else session.owner
                if teller is not None:
                    teller.refuse(request, *refusal(error))
            self._pump()

        self.server.engine.call(operation, done)

    def call_alone(
        self, request: int, frame: Frame, operation: Callable[[Engine], Any], then: Callable[[Any], None]
    ) -> None:
        """As `call`, and nothing else of this client until it is done."""
        self._is_exclusive = True

        def over() -> None:
            self._is_exclusive = False
            self.release(frame)

        def rest(result: Any) -> None:
            over()
            then(result)

        self.call(request, operation, rest, otherwise=over)

    def adopt(self, session: HeldSession) -> None:
        """Have a session from now on, under a number of its own."""
        self._num_numbers += 1
        session.owner, session.number, session.ends_s = self, self._num_numbers, None
        self.sessions[session.number] = session

    def lose(self, session: HeldSession) -> None:
        """Another connection has resumed it."""
        del self.sessions[session.number]
        turn = session.turn.number if session.turn is not None and session.is_busy else 0
        text = f"session {session.number} was resumed by another connection"
        self.refuse(turn, Code.TAKEN, text)

    def runs(self, number: int) -> bool:
        """Whether a running turn of this connection has that number."""
        turns = [session.turn for session in self.sessions.values() if session.is_busy]
        return any(turn is not None and turn.number == number for turn in turns)

    def session(self, request: int, number: int) -> HeldSession | None:
        """The session with that number, or None, which is then said."""
        session = self.sessions.get(number)
        if session is None:
            self.refuse(
                request, Code.NO_SESSION, f"no session {number} on this connection; open or resume it"
            )
        return session

    def idle_session(self, request: int, number: int) -> HeldSession | None:
        """As `session`, and no turn of it runs."""
        session = self.session(request, number)
        if session is not None and session.is_busy:
            self.refuse(request, Code.BUSY, f"a turn of session {number} runs; wait for its end or cancel it")
            return None
        return session


def _joined(parts: list[Buffer]) -> list[Buffer]:
    # One part costs the kernel less than many; large ones are not worth a copy.
    return [b"".join(parts)] if len(parts) > 1 and sum(map(len, parts)) <= _JOIN_BYTES else parts
