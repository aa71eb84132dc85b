"""A session client that sends whatever it likes, and who sits beside it, for tests of the server."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator

from harness.sessions.address import dial
from harness.sessions.client import SessionClient
from harness.sessions.counting import continuation
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import MIB, FrameLimits, Limits
from harness.sessions.messages import (
    SERVER_FRAMES,
    VERSION,
    Failed,
    Hello,
    Message,
    Welcome,
)
from harness.sessions.protocol import MAGIC, PREFIX, encode
from harness.sessions.server import SessionServer

__all__ = ["PATIENT", "Raw", "bystander", "prefix"]

PATIENT = Limits(
    frame=FrameLimits(max_header_bytes=4096, max_buffers=2, max_buffer_bytes=MIB, max_frame_bytes=2 * MIB),
    max_connections=8,
    max_sessions_per_connection=3,
    max_turn_tokens=500,
    max_receiving_bytes=MIB,
    max_unsent_bytes=MIB,
    hello_timeout_s=60,
    frame_timeout_s=60,
    min_bytes_per_s=1e9,
    write_timeout_s=60,
    idle_timeout_s=60,
)
"""Takes little at once, and has all the time that a loaded machine may need."""

NUM_BESIDE = 50


class Raw:
    """A client that sends whatever it likes."""

    def __init__(self, server: SessionServer, *, greets: bool = True) -> None:
        self.sock = dial(server.address, timeout_s=60)
        self._parser = FrameParser(SERVER_FRAMES, FrameLimits())
        self._frames: list[Frame] = []
        if greets:
            self.send(Hello())
            assert isinstance(self.receive(), Welcome)

    def send(self, message: Message, *buffers: bytes) -> None:
        self.sock.sendall(b"".join(encode(message, buffers)))

    def receive(self) -> Message | None:
        """The next message, None at the end of the connection."""
        while not self._frames:
            try:
                data = self.sock.recv(2**16)
            except ConnectionResetError:
                # It closed with bytes of ours unread; its own are all here.
                return None
            if not data:
                return None
            for one in self._parser.feed(data):
                assert isinstance(one, Frame)
                self._frames.append(one)
        return self._frames.pop(0).message

    def has_news(self, wait_s: float) -> bool:
        """Whether something came, or comes within that time; or the connection ended."""
        return bool(self._frames) or bool(select.select([self.sock], [], [], wait_s)[0])

    def last_words(self) -> Failed:
        """What the server said before it closed."""
        while not isinstance(message := self.receive(), Failed):
            assert message is not None
        assert self.receive() is None
        self.sock.close()
        return message


@contextlib.contextmanager
def bystander(server: SessionServer) -> Iterator[None]:
    """Another client, in the middle of a turn while something happens; its tokens are right."""
    with SessionClient.connect(server.address, timeout_s=60) as client:
        stream = client.open(4000).turn([7], max_new_tokens=NUM_BESIDE)
        first = stream.next()
        yield
        tokens = [first, *stream]
        assert [token.token_id for token in tokens if token is not None] == continuation([7], NUM_BESIDE)


def prefix(kind: int, num_buffers: int = 0, header_len: int = 1) -> bytes:
    return PREFIX.pack(MAGIC, VERSION, kind, num_buffers, header_len)
