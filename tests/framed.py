"""Frames drawn at random, and a parser to read them, for the tests of the wire format."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from harness.errors import ProtocolError
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import FrameLimits
from harness.sessions.messages import (
    CLIENT_FRAMES,
    SERVER_FRAMES,
    Hello,
    Message,
    Open,
    Ping,
    PutKv,
    PutWeights,
    Token,
    Turn,
)
from harness.sessions.protocol import Buffer, encode

__all__ = [
    "ALL_FRAMES",
    "SMALL",
    "comparable",
    "frames",
    "in_pieces",
    "only_error",
    "parser",
    "plain",
    "u32",
    "wire",
]

ALL_FRAMES = CLIENT_FRAMES | SERVER_FRAMES
SMALL = FrameLimits(max_header_bytes=4096, max_buffers=8, max_buffer_bytes=200_000, max_frame_bytes=400_000)

u32 = st.integers(0, 2**32 - 1)
token_ids = st.lists(u32, max_size=20)
buffers = st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 150_000).map(bytes)), max_size=2)
plain = st.one_of(
    st.builds(Turn, u32, u32, token_ids, u32, st.booleans(), token_ids),
    st.builds(Open, u32, u32, u32, st.text(max_size=20)),
    st.builds(Ping, u32),
    st.builds(Hello, name=st.text(max_size=20)),
).map(lambda message: (message, []))
carrying = st.tuples(
    st.one_of(
        st.builds(PutKv, u32, u32, u32, token_ids),
        st.builds(Token, u32, u32),
        st.builds(PutWeights, u32, st.lists(st.text(max_size=9), max_size=3)),
    ),
    buffers,
)
frames = st.one_of(plain, carrying)


def wire(message: Message, buffers: list[Buffer] | None = None) -> bytes:
    return b"".join(bytes(part) for part in encode(message, buffers or []))


def parser(limits: FrameLimits = SMALL) -> FrameParser:
    return FrameParser(ALL_FRAMES, limits)


def only_error(found: list[Frame | ProtocolError]) -> ProtocolError:
    assert len(found) == 1
    assert isinstance(found[0], ProtocolError)
    return found[0]


def comparable(found: list[Frame | ProtocolError]) -> list[object]:
    return [
        (one.code, str(one)) if isinstance(one, ProtocolError)
        else (one.message, [bytes(buffer) for buffer in one.buffers], one.num_bytes)
        for one in found
    ]  # fmt: skip


def in_pieces(data: bytes, cuts: list[int]) -> list[Frame | ProtocolError]:
    """What the parser finds when the stream is cut there."""
    reading, found = parser(), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        try:
            found += reading.feed(data[begin:end])
        except ProtocolError:
            assert isinstance(found[-1], ProtocolError)
    return found
