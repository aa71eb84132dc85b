"""A client's end of a connection: frames out, frames in, within a deadline; bytes counted at the socket.

What the server sends is taken in while a large frame is being sent, so that the two cannot wait for each
other. Buffers go from the caller's memory to the kernel and from the kernel into the frame's own memory.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from time import monotonic, perf_counter
from typing import NamedTuple

from harness.errors import BackendBroken, BackendTimeout, ProtocolError
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import FrameLimits
from harness.sessions.link import CHUNK_BYTES, Pacer
from harness.sessions.messages import SERVER_FRAMES, Message
from harness.sessions.protocol import Buffer, encode

__all__ = ["Arrived", "Channel"]

_MAX_PARTS = 256
"""Handed to the kernel at once; it takes at most 1024."""


class Arrived(NamedTuple):
    """A frame, and when the last of it was here, on `perf_counter`'s clock."""

    frame: Frame
    came_s: float


class Channel:
    """A connected socket and the parser of what comes from it. For one thread."""

    def __init__(self, sock: socket.socket, who: str, *, limits: FrameLimits, timeout_s: float) -> None:
        """Take over a connected socket.

        Parameters
        ----------
        who: the server, for messages.
        timeout_s: that a frame may take to be sent, or to come.
        """
        sock.setblocking(False)
        self.timeout_s = timeout_s
        self.bytes_sent = self.bytes_received = 0
        self._sock = sock
        self._who = who
        self._parser = FrameParser(SERVER_FRAMES, limits)
        self._frames: deque[Arrived] = deque()
        self._trouble: ProtocolError | BackendBroken | None = None
        self._up = self._down = Pacer(0)
        self._readable, self._either = select.poll(), select.poll()
        self._readable.register(sock, select.POLLIN)
        self._either.register(sock, select.POLLIN | select.POLLOUT)

    def pace(self, link_bps: int) -> None:
        """From now on be as slow as such a link, both ways; 0 is as fast as it goes."""
        self._up, self._down = Pacer(link_bps), Pacer(link_bps)

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> int:
        """Send a frame; its length in bytes.

        Raises
        ------
        BackendTimeout: the server did not take it in time.
        BackendBroken: the connection ended.
        """
        parts = deque(memoryview(part) for part in encode(message, buffers))
        num_bytes = sum(map(len, parts))
        deadline_s = monotonic() + self.timeout_s
        self._up.begin()
        while parts:
            if self._up.is_paced:
                self._up.carry(min(len(parts[0]), CHUNK_BYTES))
                self._send_all([parts[0][:CHUNK_BYTES]], deadline_s)
                parts[0] = parts[0][CHUNK_BYTES:]
                if not parts[0]:
                    parts.popleft()
            else:
                self._send_all([parts.popleft() for _ in range(min(len(parts), _MAX_PARTS))], deadline_s)
        return num_bytes

    def receive(self) -> Arrived:
        """The next frame.

        Raises
        ------
        BackendTimeout: none came in time.
        BackendBroken: the connection ended, or what came is no frame.
        """
        if not self._frames:
            deadline_s = monotonic() + self.timeout_s
            while not self._frames:
                if self._trouble is not None:
                    raise BackendBroken(f"{self._who}: {self._trouble}") from self._trouble
                if not self._readable.poll(_left_ms(deadline_s)):
                    raise BackendTimeout(f"{self._who}: nothing within {self.timeout_s:g} s; raise timeout_s")
                self._take_in()
        return self._frames.popleft()

    def fileno(self) -> int:
        """Of the socket, for `select`."""
        return self._sock.fileno()

    @property
    def has_frames(self) -> bool:
        """Whether `receive` would return at once."""
        return bool(self._frames)

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        self._sock.close()

    def _send_all(self, views: list[memoryview], deadline_s: float) -> None:
        while views:
            try:
                num = self._sock.sendmsg(views)
            except BlockingIOError:
                self._wait_for_room(deadline_s)
                continue
            except OSError as exc:
                raise self._ended(exc) from exc
            self.bytes_sent += num
            while views and num >= len(views[0]):
                num -= len(views.pop(0))
            if num:
                views[0] = views[0][num:]

    def _wait_for_room(self, deadline_s: float) -> None:
        if self._trouble is not None:
            raise BackendBroken(f"{self._who}: {self._trouble}") from self._trouble
        ready = self._either.poll(_left_ms(deadline_s))
        if not ready:
            raise BackendTimeout(f"{self._who}: takes nothing for {self.timeout_s:g} s; raise timeout_s")
        if ready[0][1] & select.POLLIN:
            self._take_in()

    def _take_in(self) -> None:
        if not self._parser.frame_bytes:
            self._down.begin()
        room = self._parser.writable()
        try:
            num = self._sock.recv_into(room, min(len(room), CHUNK_BYTES) if self._down.is_paced else 0)
        except BlockingIOError:
            return
        except OSError as exc:
            self._trouble = BackendBroken(exc.strerror or str(exc))
            return
        if not num:
            self._trouble = BackendBroken("the connection ended; is the server still there?")
            return
        self.bytes_received += num
        if self._down.is_paced:
            self._down.carry(num)
        came_s = perf_counter()
        for one in self._parser.wrote(num):
            if isinstance(one, Frame):
                self._frames.append(Arrived(one, came_s))
            else:
                self._trouble = one

    def _ended(self, exc: OSError) -> BackendBroken:
        # The server's last words came before it closed, and say why.
        while self._trouble is None and self._readable.poll(0):
            self._take_in()
        return BackendBroken(f"{self._who}: the connection ended ({exc.strerror or exc}); connect again")


def _left_ms(deadline_s: float) -> float:
    return max(0.0, deadline_s - monotonic()) * 1000
