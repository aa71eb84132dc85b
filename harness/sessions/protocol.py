"""How a frame is written: a prefix of ten bytes, a table of buffer lengths, a header and raw buffers.

`docs/sessions-protocol.md` is the whole of it on one page; `messages` says what the headers hold, and
`framing` reads what this writes. The first four bytes (magic, version, kind) are the same in every version.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from harness.errors import ProtocolError
from harness.sessions.codes import Code
from harness.sessions.messages import CLIENT_FRAMES, SERVER_FRAMES, VERSION, Message

__all__ = ["MAGIC", "PREFIX", "Buffer", "decode_header", "encode"]

MAGIC = b"KV"
PREFIX = struct.Struct("<2sBBHI")
"""Magic, version, kind, number of buffers, bytes of the header."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_DECODERS: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (*CLIENT_FRAMES.values(), *SERVER_FRAMES.values())
}
_encoder = msgspec.msgpack.Encoder()


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """A frame, as parts to be sent one after the other; the buffers are not copied.

    Raises
    ------
    ProtocolError: the message carries no buffers and some are given, or a buffer is not contiguous.
    """
    header = _encoder.encode(message)
    if not buffers:
        return [PREFIX.pack(MAGIC, VERSION, message.kind, 0, len(header)) + header]
    if not message.has_buffers or len(buffers) > 0xFFFF:
        raise ProtocolError(
            f"{type(message).__name__} with {len(buffers)} buffers; send it without, or with fewer",
            code=Code.MALFORMED,
        )
    views = [_flat(buffer) for buffer in buffers]
    table = struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))
    prefix = PREFIX.pack(MAGIC, VERSION, message.kind, len(views), len(header))
    return [prefix + table + header, *(view for view in views if view.nbytes)]


def decode_header(kind: type[Message], header: Buffer) -> Message:
    """A header.

    Raises
    ------
    ProtocolError: it is no msgpack, or not what this kind of frame has.
    """
    try:
        message: Message = _DECODERS[kind].decode(header)
    # Nesting without end, and text that is no UTF-8, come as Python's own errors.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        reason = " ".join(str(exc).split())[:200]
        text = f"header of {kind.__name__}: {reason}; see docs/sessions-protocol.md"
        raise ProtocolError(text, code=Code.MALFORMED) from exc
    return message


def _flat(buffer: Buffer) -> memoryview:
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise ProtocolError("a buffer that is not contiguous; send a contiguous copy", code=Code.MALFORMED)
    # A view without elements cannot be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")
