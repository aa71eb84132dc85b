"""What the frames of a client ask for: sessions, turns, counters; `crossing` has keys, values and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.sessions import crossing, turns
from harness.sessions.codes import Code
from harness.sessions.contract import Engine, Info
from harness.sessions.contract import Turn as EngineTurn
from harness.sessions.framing import Frame
from harness.sessions.messages import (
    VERSION,
    Cancel,
    Close,
    GetKv,
    Hello,
    Message,
    Ok,
    Open,
    Opened,
    Ping,
    PutKv,
    PutWeights,
    Resume,
    Served,
    Stats,
    StatsReply,
    Token,
    Turn,
    Welcome,
)
from harness.sessions.registry import HeldSession

if TYPE_CHECKING:
    from harness.sessions.connection import Connection

__all__ = ["greet", "handle"]

_MAX_TEXT = 4000


def greet(connection: Connection, hello: Message) -> None:
    """Answer the first frame of a connection, or end it: hello comes first, and once."""
    if not isinstance(hello, Hello) or connection.has_greeted:
        order = "hello comes once" if connection.has_greeted else "hello comes first"
        connection.fail(Code.UNEXPECTED, f"{type(hello).__name__}: {order}")
        return
    if not hello.min_version <= VERSION <= hello.max_version:
        spoken = f"versions {hello.min_version} to {hello.max_version}"
        connection.fail(Code.VERSION, f"{spoken} are spoken there, {VERSION} here; use a client for it")
        return
    connection.has_greeted = True
    if hello.name:
        connection.name += f" ({hello.name!r:.60})"
    server = connection.server
    connection.transport.parser.limits = server.limits.frame
    info = server.info
    welcome = Welcome(
        VERSION,
        info.model,
        info.vocab_size,
        info.max_session_tokens,
        info.kv_token_bytes,
        info.kv_dtype,
        info.takes_weights,
        server.link_bps,
        [Served(*one) for one in info.models],
    )
    connection.reply(welcome)


def handle(connection: Connection, frame: Frame) -> None:
    """Do what a frame asks for, or refuse it."""
    _HANDLERS[type(frame.message)](connection, frame)


def _open(connection: Connection, frame: Frame) -> None:
    message, server = frame.message, connection.server
    assert isinstance(message, Open)
    model = server.info.served(message.model)
    if model is None:
        connection.refuse(message.request, Code.BAD_REQUEST, _unknown(message.model, server.info))
        return
    if _has_too_many(connection, message.request):
        return
    session_id = server.registry.new_id()
    connection.num_opening += 1

    def opened(_: Any) -> None:
        connection.num_opening -= 1
        if connection.transport.is_over:
            # Nobody knows its secret.
            server.engine.call(lambda engine: engine.close(session_id), lambda *_: None)
            return
        linger_s = min(message.linger_s, server.limits.max_linger_s)
        session = server.registry.add(session_id, linger_s, model)
        connection.adopt(session)
        connection.reply(Opened(message.request, session.number, session.secret, 0))

    def refused() -> None:
        connection.num_opening -= 1

    connection.call(
        message.request,
        lambda engine: engine.open(session_id, message.max_tokens, model=model.name),
        opened,
        otherwise=refused,
    )


def _unknown(model: str, info: Info) -> str:
    names = [one.name for one in info.models] or [info.model]
    return f"model {model!r:.80} is not served here; ask for {', '.join(names)}"


def _resume(connection: Connection, frame: Frame) -> None:
    message = frame.message
    assert isinstance(message, Resume)
    session = connection.server.registry.find(message.secret)
    if session is None or session.owner is connection:
        text = "no session has that secret: it has ended, or is on this connection already"
        connection.refuse(message.request, Code.NO_SESSION, text)
        return
    if _has_too_many(connection, message.request):
        return
    if session.turn is not None and connection.runs(session.turn.number):
        text = f"turn {session.turn.number} runs here; resume on another connection"
        connection.refuse(message.request, Code.BAD_REQUEST, text)
        return
    if session.owner is not None:
        session.owner.lose(session)
    connection.adopt(session)
    last_turn = session.turn.number if session.turn is not None else 0
    connection.queue(Opened(message.request, session.number, session.secret, session.num_tokens, last_turn))
    if message.turn == last_turn or session.is_busy:
        _tell_again(connection, session, message.received if message.turn == last_turn else 0)
    connection.flush()


def _tell_again(connection: Connection, session: HeldSession, received: int) -> None:
    """Queue what the latest turn has given, but for the tokens that are there already."""
    turn = session.turn
    if turn is not None:
        for token_id in turn.token_ids[received:]:
            turn.bytes_down += connection.queue(Token(turn.number, token_id))
        if turn.error is not None:
            connection.queue_refusal(turn.number, turn.error)
        elif turn.done is not None:
            connection.queue(turn.done)


def _turn(connection: Connection, frame: Frame) -> None:
    message, registry = frame.message, connection.server.registry
    assert isinstance(message, Turn)
    session = connection.idle_session(message.request, message.session)
    if session is None:
        return
    trouble = _trouble(connection, message, session.model.vocab_size)
    if trouble is not None:
        connection.refuse(message.request, Code.BAD_REQUEST, f"turn {message.request}: {trouble}")
        return
    before = session.turn
    running = registry.begin(session, message, frame.num_bytes)
    wanted = EngineTurn(
        session.id, message.token_ids, message.max_new_tokens, message.want_logits, tuple(message.stop_ids),
        message.sampling,
    )  # fmt: skip

    def submit(engine: Engine) -> None:
        running.engine_turn = engine.submit(wanted)

    def submitted(_: Any) -> None:
        session.num_tokens += len(message.token_ids)
        if running.done is None and running.engine_turn is not None:
            registry.turns[running.engine_turn] = running

    def refused() -> None:
        session.turn = before

    # Who resumed the session meanwhile was told of this turn, and waits for it.
    connection.call(message.request, submit, submitted, otherwise=refused, session=session)


def _trouble(connection: Connection, turn: Turn, vocab_size: int) -> str | None:
    """What is wrong with a turn."""
    limits = connection.server.limits
    if not turn.request or connection.runs(turn.request):
        return "choose a number ≥ 1 that no running turn has"
    counts = (
        ("token_ids", len(turn.token_ids), 0, limits.max_turn_tokens),
        ("max_new_tokens", turn.max_new_tokens, 1, limits.max_new_tokens),
        ("stop_ids", len(turn.stop_ids), 0, limits.max_stop_ids),
    )
    for name, num, least, most in counts:
        if not least <= num <= most:
            return f"{name} {num}; give {least} to {most}"
    # Beyond the vocabulary a model would read outside its table.
    if max(turn.token_ids, default=0) >= vocab_size:
        return f"token id {max(turn.token_ids)}; the model has {vocab_size}"
    return None if turn.sampling is None else turn.sampling.trouble()


def _cancel(connection: Connection, frame: Frame) -> None:
    message = frame.message
    assert isinstance(message, Cancel)
    for session in connection.sessions.values():
        if session.is_busy and session.turn is not None and session.turn.number == message.turn:
            turns.cancel(connection.server, session.turn)


def _close(connection: Connection, frame: Frame) -> None:
    message = frame.message
    assert isinstance(message, Close)
    request = message.request
    session = connection.session(request, message.session)
    if session is None:
        return
    del connection.sessions[session.number]
    connection.server.registry.remove(session)
    if session.is_busy and session.turn is not None:
        connection.reply(turns.cancelled(connection.server, session.turn))
    connection.call(request, lambda engine: engine.close(session.id), lambda _: connection.reply(Ok(request)))


def _stats(connection: Connection, frame: Frame) -> None:
    request = frame.message
    assert isinstance(request, Stats)

    def answer(counters: Mapping[str, Any]) -> None:
        stats = {f"engine_{name}": _plain(value) for name, value in counters.items()}
        stats.update(connection.server.stats())
        stats["connection_bytes_received"] = connection.transport.bytes_received
        stats["connection_bytes_sent"] = connection.transport.bytes_sent
        connection.reply(StatsReply(request.request, stats))

    connection.call(request.request, lambda engine: dict(engine.stats()), answer)


def _ping(connection: Connection, frame: Frame) -> None:
    assert isinstance(frame.message, Ping)
    connection.reply(Ok(frame.message.request))


def _has_too_many(connection: Connection, request: int) -> bool:
    """Whether the connection may have no more sessions, which is then said."""
    limit = connection.server.limits.max_sessions_per_connection
    if len(connection.sessions) + connection.num_opening < limit:
        return False
    text = f"{limit} sessions on this connection; close one, or open another connection"
    connection.refuse(request, Code.TOO_MANY, text)
    return True


def _plain(value: Any) -> int | float | str | None:
    if value is None or isinstance(value, int | float):
        return value
    return str(value)[:_MAX_TEXT]


_HANDLERS: dict[type[Message], Callable[[Connection, Frame], None]] = {
    Open: _open,
    Resume: _resume,
    Turn: _turn,
    Cancel: _cancel,
    Close: _close,
    Stats: _stats,
    PutKv: crossing.put_kv,
    GetKv: crossing.get_kv,
    PutWeights: crossing.put_weights,
    Ping: _ping,
}
