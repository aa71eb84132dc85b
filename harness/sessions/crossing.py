"""What crosses the wire in the modes that leave less on the server: keys and values, and weights.

The server is the same in all modes, and so is the session: `partially_aware` puts its keys and values back
before each turn and takes them out after it, `semantic_blind` puts the weights too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.sessions.codes import Code
from harness.sessions.contract import Info, KvRows
from harness.sessions.framing import Frame
from harness.sessions.messages import GetKv, Kv, Ok, PutKv, PutWeights

if TYPE_CHECKING:
    from harness.sessions.connection import Connection

__all__ = ["get_kv", "put_kv", "put_weights"]


def put_kv(connection: Connection, frame: Frame) -> None:
    """Give a session the keys and values of a frame."""
    message = frame.message
    assert isinstance(message, PutKv)
    request = message.request
    session = connection.idle_session(request, message.session)
    trouble = _trouble(connection.server.info, message.token_ids, frame.buffers)
    if session is None or trouble is not None:
        connection.release(frame)
        if session is not None and trouble is not None:
            connection.refuse(request, Code.BAD_REQUEST, f"keys and values: {trouble}")
        return

    def written(_: Any) -> None:
        session.num_tokens = message.start + len(message.token_ids)
        connection.reply(Ok(request))

    rows = KvRows(message.token_ids, frame.buffers[0])
    connection.call_alone(
        request, frame, lambda engine: engine.write_kv(session.id, message.start, rows), written
    )


def get_kv(connection: Connection, frame: Frame) -> None:
    """Send a session's keys and values."""
    message = frame.message
    assert isinstance(message, GetKv)
    session = connection.idle_session(message.request, message.session)
    if session is None:
        return

    def read(kv: KvRows) -> None:
        header = Kv(message.request, message.start, list(kv.token_ids))
        connection.reply(header, (kv.rows,) if kv.token_ids else ())

    connection.call_alone(
        message.request, frame, lambda engine: engine.read_kv(session.id, message.start, message.most), read
    )


def put_weights(connection: Connection, frame: Frame) -> None:
    """Give the model the weights of a frame."""
    message = frame.message
    assert isinstance(message, PutWeights)
    request, num_names, num_buffers = message.request, len(message.names), len(frame.buffers)
    if not connection.server.info.takes_weights:
        connection.release(frame)
        text = "this server takes no weights; start it with --allow-weights"
        connection.refuse(request, Code.NOT_OFFERED, text)
    elif num_names != num_buffers:
        connection.release(frame)
        text = f"weights: {num_names} names and {num_buffers} buffers; send a buffer per name"
        connection.refuse(request, Code.BAD_REQUEST, text)
    else:
        connection.call_alone(
            request,
            frame,
            lambda engine: engine.write_weights(message.names, frame.buffers),
            lambda _: connection.reply(Ok(request)),
        )


def _trouble(info: Info, token_ids: list[int], buffers: tuple[memoryview, ...]) -> str | None:
    """What is wrong with keys and values."""
    if not info.kv_token_bytes:
        return "they do not cross on this server"
    needed = len(token_ids) * info.kv_token_bytes
    if len(buffers) != 1 or not token_ids or len(buffers[0]) != needed:
        sizes = [len(buffer) for buffer in buffers][:4]
        remedy = f"send one buffer of {info.kv_token_bytes} bytes per token"
        return f"{len(token_ids)} tokens with buffers of {sizes} bytes; {remedy}"
    if max(token_ids) >= info.vocab_size:
        return f"token id {max(token_ids)}; the model has {info.vocab_size}"
    return None
