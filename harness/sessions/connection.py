"""One client at the server: what each of its frames leads to.

Frames are handled in their order. When this client's requests wait for the engine, or it does not read what
it is sent, its frames wait and nothing more is read from it; the others do not notice. Frames that carry or
ask for large buffers are handled one at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from harness.errors import BudgetError, HarnessError, ProtocolError, UnavailableError, UsageError
from harness.sessions.contract import Engine, KvRows
from harness.sessions.contract import Turn as EngineTurn
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import HELLO_LIMITS
from harness.sessions.messages import (
    CLIENT_FRAMES,
    VERSION,
    Cancel,
    Close,
    Code,
    Done,
    Failed,
    GetKv,
    Hello,
    Kv,
    Message,
    Ok,
    Open,
    Opened,
    Ping,
    PutKv,
    PutWeights,
    Resume,
    Stats,
    StatsReply,
    Token,
    Turn,
    Welcome,
)
from harness.sessions.protocol import Buffer, encode
from harness.sessions.registry import HeldSession, RunningTurn
from harness.sessions.transport import Transport

if TYPE_CHECKING:
    import socket

    from harness.sessions.server import SessionServer

__all__ = ["Connection"]

_MAX_PENDING = 64
_MAX_TEXT = 1000


class Connection:
    """A connected client. For the loop's thread."""

    def __init__(self, server: SessionServer, sock: socket.socket, number: int) -> None:
        self.name = f"connection {number}"
        self.sessions: dict[int, HeldSession] = {}
        self._server = server
        self._has_greeted = False
        self._inbox: deque[Frame | ProtocolError] = deque()
        self._outbox: list[Buffer] = []
        self._num_pending = self._num_numbers = self._num_opening = 0
        self._is_exclusive = False
        self._reserved_bytes = 0
        self._began_s = monotonic()
        parser = FrameParser(CLIENT_FRAMES, HELLO_LIMITS, reserve=self._reserve)
        self.transport = Transport(
            sock, parser, on_frames=self._on_frames, on_drained=self._pump, on_end=self._on_end
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
        if parts:
            self.transport.send(parts if len(parts) == 1 else _joined(parts))
        unsent, limit = self.transport.unsent_bytes, self._server.limits.max_unsent_bytes
        if unsent > limit and not self.transport.is_over:
            self.fail(Code.TIMEOUT, f"{unsent} bytes wait for you; the limit is {limit}: read what comes")

    def reply(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> None:
        """Send a frame now."""
        self.queue(message, buffers)
        self.flush()

    def refuse(self, request: int, code: Code, text: str) -> None:
        """Say no to a request; the connection lives."""
        self._server.count("refused")
        self.reply(Failed(request, code, text[:_MAX_TEXT]))

    def fail(self, code: Code, text: str) -> None:
        """End the connection, with the reason."""
        self._server.count(f"ended_{code.name.lower()}")
        last_words = [*self._outbox, *encode(Failed(0, code, text[:_MAX_TEXT]))]
        self._outbox = []
        self.transport.finish(text, last_words)

    def sweep(self, now_s: float) -> None:
        """End the connection if its client takes too long."""
        limits = self._server.limits
        overdue = self.transport.overdue(now_s, limits)
        if overdue is None and not self.transport.is_over:
            quiet_s = now_s - self.transport.read_s
            if not self._has_greeted and now_s - self._began_s > limits.hello_timeout_s:
                overdue = f"no hello for {limits.hello_timeout_s:g} s; say hello first"
            elif quiet_s > limits.idle_timeout_s and not self.is_busy and not self._num_pending:
                overdue = f"nothing for {limits.idle_timeout_s:g} s; ping now and then"
        if overdue is not None:
            self.fail(Code.TIMEOUT, overdue)

    def _on_frames(self, found: list[Frame | ProtocolError]) -> None:
        self._inbox.extend(found)
        self._pump()

    def _pump(self) -> None:
        """Handle frames until there is none, or something is to be waited for."""
        while self._inbox and not self._is_blocked and not self.transport.is_over:
            one = self._inbox.popleft()
            if isinstance(one, ProtocolError):
                self.fail(Code(one.code), str(one))
            elif isinstance(one.message, Hello) or not self._has_greeted:
                self._greet(one.message)
            else:
                _HANDLERS[type(one.message)](self, one)
        if self._inbox or self._is_blocked:
            self.transport.pause()
        else:
            self.transport.resume()

    @property
    def _is_blocked(self) -> bool:
        is_full = self.transport.unsent_bytes > self._server.limits.high_water_bytes
        return self._is_exclusive or is_full or self._num_pending >= _MAX_PENDING

    def _on_end(self, reason: str) -> None:
        self._inbox.clear()
        self._server.received(-self._reserved_bytes)
        self._reserved_bytes = 0
        self._server.disconnected(self, reason)

    def _reserve(self, num_bytes: int) -> None:
        self._server.received(num_bytes)
        self._reserved_bytes += num_bytes

    def _release(self, frame: Frame) -> None:
        if not self.transport.is_over:
            num_bytes = sum(len(buffer) for buffer in frame.buffers)
            self._server.received(-num_bytes)
            self._reserved_bytes -= num_bytes

    def _call(
        self,
        request: int,
        operation: Callable[[Engine], Any],
        then: Callable[[Any], None],
        *,
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """Have the engine do something, then do the rest here, or refuse the request."""
        self._num_pending += 1

        def done(result: Any, error: Exception | None) -> None:
            self._num_pending -= 1
            if error is None:
                then(result)
            else:
                if otherwise is not None:
                    otherwise()
                self.refuse(request, *_refusal(error))
            self._pump()

        self._server.engine.call(operation, done)

    def _call_alone(
        self, request: int, frame: Frame, operation: Callable[[Engine], Any], then: Callable[[Any], None]
    ) -> None:
        """As `_call`, and nothing else of this client until it is done."""
        self._is_exclusive = True

        def over() -> None:
            self._is_exclusive = False
            self._release(frame)

        def rest(result: Any) -> None:
            over()
            then(result)

        self._call(request, operation, rest, otherwise=over)

    def _greet(self, hello: Message) -> None:
        if not isinstance(hello, Hello) or self._has_greeted:
            order = "hello comes once" if self._has_greeted else "hello comes first"
            self.fail(Code.UNEXPECTED, f"{type(hello).__name__}: {order}")
        elif not hello.min_version <= VERSION <= hello.max_version:
            spoken = f"versions {hello.min_version} to {hello.max_version}"
            self.fail(Code.VERSION, f"{spoken} are spoken there, {VERSION} here; use a client for it")
        else:
            self._has_greeted = True
            self.transport.parser.limits = self._server.limits.frame
            info = self._server.info
            self.reply(
                Welcome(
                    VERSION,
                    info.model,
                    info.vocab_size,
                    info.max_session_tokens,
                    info.kv_token_bytes,
                    info.kv_dtype,
                    info.takes_weights,
                    self._server.link_bps,
                )
            )

    def _open(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, Open)
        limit = self._server.limits.max_sessions_per_connection
        if len(self.sessions) + self._num_opening >= limit:
            text = f"{limit} sessions on this connection; close one, or open another connection"
            self.refuse(message.request, Code.TOO_MANY, text)
            return
        session_id = self._server.registry.new_id()
        self._num_opening += 1

        def opened(_: Any) -> None:
            self._num_opening -= 1
            if self.transport.is_over:
                # Nobody knows its secret.
                self._server.engine.call(lambda engine: engine.close(session_id), lambda *_: None)
                return
            self._num_numbers += 1
            linger_s = min(message.linger_s, self._server.limits.max_linger_s)
            session = self._server.registry.add(session_id, self, self._num_numbers, linger_s)
            self.sessions[session.number] = session
            self.reply(Opened(message.request, session.number, session.secret, 0))

        def refused() -> None:
            self._num_opening -= 1

        self._call(
            message.request,
            lambda engine: engine.open(session_id, message.max_tokens),
            opened,
            otherwise=refused,
        )

    def _resume(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, Resume)
        session = self._server.registry.find(message.secret)
        if session is None or session.owner is self:
            text = "no session has that secret; it has ended, or this connection has it"
            self.refuse(message.request, Code.NO_SESSION, text)
            return
        if len(self.sessions) >= self._server.limits.max_sessions_per_connection:
            self.refuse(message.request, Code.TOO_MANY, "too many sessions on this connection; close one")
            return
        if session.turn is not None and self._runs(session.turn.number):
            text = f"turn {session.turn.number} runs here; resume on another connection"
            self.refuse(message.request, Code.BAD_REQUEST, text)
            return
        if session.owner is not None:
            session.owner.lose(session)
        self._num_numbers += 1
        session.owner, session.number, session.ends_s = self, self._num_numbers, None
        self.sessions[session.number] = session
        last_turn = session.turn.number if session.turn is not None else 0
        self.queue(Opened(message.request, session.number, session.secret, session.num_tokens, last_turn))
        if session.turn is not None and message.turn == last_turn:
            for token_id in session.turn.token_ids[message.received :]:
                session.turn.bytes_down += self.queue(Token(last_turn, token_id))
            if session.turn.done is not None:
                self.queue(session.turn.done)
        self.flush()

    def lose(self, session: HeldSession) -> None:
        """Another connection has resumed it."""
        del self.sessions[session.number]
        turn = session.turn.number if session.turn is not None and session.is_busy else 0
        text = f"session {session.number} was resumed by another connection"
        self.refuse(turn, Code.TAKEN, text)

    def _turn(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, Turn)
        session = self._idle_session(message.request, message.session)
        if session is None:
            return
        trouble = self._trouble(message)
        if trouble is not None:
            self.refuse(message.request, Code.BAD_REQUEST, trouble)
            return
        before, registry = session.turn, self._server.registry
        running = registry.begin(session, message, frame.num_bytes)
        wanted = EngineTurn(
            session.id, message.token_ids, message.max_new_tokens, message.want_logits, tuple(message.stop_ids)
        )

        def submit(engine: Engine) -> None:
            running.engine_turn = engine.submit(wanted)

        def submitted(_: Any) -> None:
            session.num_tokens += len(message.token_ids)
            if running.done is None and running.engine_turn is not None:
                registry.turns[running.engine_turn] = running

        def refused() -> None:
            session.turn = before

        self._call(message.request, submit, submitted, otherwise=refused)

    def _trouble(self, turn: Turn) -> str | None:
        """What is wrong with a turn."""
        limits, vocab_size = self._server.limits, self._server.info.vocab_size
        if not turn.request or self._runs(turn.request):
            return f"turn {turn.request}: choose a number ≥ 1 that no running turn has"
        counts = (
            ("token_ids", len(turn.token_ids), 1, limits.max_turn_tokens),
            ("max_new_tokens", turn.max_new_tokens, 1, limits.max_new_tokens),
            ("stop_ids", len(turn.stop_ids), 0, limits.max_stop_ids),
        )
        for name, num, least, most in counts:
            if not least <= num <= most:
                return f"turn {turn.request}: {name} {num}; give {least} to {most}"
        # Beyond the vocabulary a model reads outside its table.
        if max(turn.token_ids) >= vocab_size:
            return f"turn {turn.request}: token id {max(turn.token_ids)}; the model has {vocab_size}"
        return None

    def _cancel(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, Cancel)
        for session in self.sessions.values():
            if session.is_busy and session.turn is not None and session.turn.number == message.turn:
                self._server.cancel(session.turn)

    def _close(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, Close)
        session = self._session(message.request, message.session)
        if session is None:
            return
        del self.sessions[session.number]
        self._server.registry.remove(session)
        if session.is_busy and session.turn is not None:
            self.queue(self._server.cancelled(session.turn))
        self._call(
            message.request,
            lambda engine: engine.close(session.id),
            lambda _: self.reply(Ok(message.request)),
        )

    def _stats(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, Stats)

        def answer(counters: Any) -> None:
            own = {
                "connection_bytes_received": self.transport.bytes_received,
                "connection_bytes_sent": self.transport.bytes_sent,
            }
            stats = {**{f"engine_{name}": _plain(value) for name, value in counters.items()}}
            self.reply(StatsReply(message.request, stats | self._server.stats() | own))

        self._call(message.request, lambda engine: dict(engine.stats()), answer)

    def _put_kv(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, PutKv)
        session, request = self._idle_session(message.request, message.session), message.request
        trouble = self._kv_trouble(message.token_ids, frame.buffers) if session is not None else None
        if session is None or trouble is not None:
            self._release(frame)
            if trouble is not None:
                self.refuse(request, Code.BAD_REQUEST, trouble)
            return

        def written(_: Any) -> None:
            session.num_tokens = message.start + len(message.token_ids)
            self.reply(Ok(request))

        rows = KvRows(message.token_ids, frame.buffers[0])
        self._call_alone(
            request, frame, lambda engine: engine.write_kv(session.id, message.start, rows), written
        )

    def _kv_trouble(self, token_ids: list[int], buffers: tuple[memoryview, ...]) -> str | None:
        info = self._server.info
        needed = len(token_ids) * info.kv_token_bytes
        if len(buffers) != 1 or not token_ids or len(buffers[0]) != needed:
            sizes = [len(buffer) for buffer in buffers][:4]
            what = f"{len(token_ids)} tokens with buffers of {sizes} bytes"
            return f"keys and values: {what}; send one buffer of {info.kv_token_bytes} bytes per token"
        if max(token_ids) >= info.vocab_size:
            return f"keys and values: token id {max(token_ids)}; the model has {info.vocab_size}"
        return None

    def _get_kv(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, GetKv)
        session = self._idle_session(message.request, message.session)
        if session is None:
            return

        def read(kv: KvRows) -> None:
            header = Kv(message.request, message.start, list(kv.token_ids))
            self.reply(header, (kv.rows,) if kv.token_ids else ())

        self._call_alone(
            message.request, frame, lambda engine: engine.read_kv(session.id, message.start), read
        )

    def _put_weights(self, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, PutWeights)
        num = len(message.names)
        if not self._server.info.takes_weights:
            text = "this server takes no weights; start it with --allow-weights"
            code = Code.NOT_OFFERED
        else:
            text = f"{num} names and {len(frame.buffers)} buffers; send one buffer per name"
            code = Code.BAD_REQUEST
        if not self._server.info.takes_weights or num != len(frame.buffers):
            self._release(frame)
            self.refuse(message.request, code, text)
            return
        self._call_alone(
            message.request,
            frame,
            lambda engine: engine.write_weights(message.names, frame.buffers),
            lambda _: self.reply(Ok(message.request)),
        )

    def _ping(self, frame: Frame) -> None:
        assert isinstance(frame.message, Ping)
        self.reply(Ok(frame.message.request))

    def _runs(self, number: int) -> bool:
        """Whether a running turn of this connection has that number."""
        turns = [session.turn for session in self.sessions.values() if session.is_busy]
        return any(turn is not None and turn.number == number for turn in turns)

    def _session(self, request: int, number: int) -> HeldSession | None:
        session = self.sessions.get(number)
        if session is None:
            self.refuse(request, Code.NO_SESSION, f"no session {number} on this connection; open or resume it")
        return session

    def _idle_session(self, request: int, number: int) -> HeldSession | None:
        session = self._session(request, number)
        if session is not None and session.is_busy:
            self.refuse(request, Code.BUSY, f"a turn of session {number} runs; wait for its end or cancel it")
            return None
        return session


_HANDLERS: dict[type[Message], Callable[[Connection, Frame], None]] = {
    Open: Connection._open,
    Resume: Connection._resume,
    Turn: Connection._turn,
    Cancel: Connection._cancel,
    Close: Connection._close,
    Stats: Connection._stats,
    PutKv: Connection._put_kv,
    GetKv: Connection._get_kv,
    PutWeights: Connection._put_weights,
    Ping: Connection._ping,
}
