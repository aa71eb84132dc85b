"""The server's end of a connection: a non-blocking socket on an event loop, frames in, parts out.

It works on the socket itself, not on an asyncio transport: buffers are received where they stay and sent from
where they are, every byte is counted as the kernel takes or gives it, and reading stops whenever the server
wants it to, so that the kernel holds the peer back.

An end has two forms. `abort` closes at once. `finish` sends what is waiting, says that nothing follows, and
throws away what still comes for a moment: closing a socket with unread bytes would reset the connection, and
the peer might never see why.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from harness.errors import ProtocolError
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import Limits
from harness.sessions.protocol import Buffer

__all__ = ["Transport"]

_READS_PER_TURN = 16
_MAX_PARTS = 256
_DRAIN_S = 1.0
_DRAIN_BYTES = 2**18


class Transport:
    """One connection's socket. For the loop's thread."""

    def __init__(
        self,
        sock: socket.socket,
        parser: FrameParser,
        *,
        on_frames: Callable[[list[Frame | ProtocolError]], None],
        on_drained: Callable[[], None],
        on_end: Callable[[str], None],
        lock: threading.RLock | None = None,
    ) -> None:
        """Take over a connected socket and begin to read.

        Parameters
        ----------
        on_frames: called with what the parser found.
        on_drained: called when all that was waiting is sent.
        on_end: called once, with the reason, when the connection is over for the server.
        lock: held while the loop works here; another thread that holds it may `send_at_once`.
        """
        sock.setblocking(False)
        self.parser = parser
        self.bytes_received = self.bytes_sent = self.unsent_bytes = 0
        self.read_s = self.progress_s = monotonic()
        self._began_s: float | None = None
        self._lock = lock or threading.RLock()
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[memoryview] = deque()
        self._on_frames, self._on_drained, self._on_end = on_frames, on_drained, on_end
        self._is_over = self._is_reading = self._is_writing = False
        self._drain_until_s: float | None = None
        self.resume()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is read or taken for sending."""
        return self._is_over

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send parts, now or when the peer takes them; they must not change until then."""
        if self._is_over:
            return
        if not self._unsent:
            self.progress_s = monotonic()
        for part in parts:
            self._unsent.append(memoryview(part))
            self.unsent_bytes += len(part)
        if not self._is_writing:
            self._write()

    def send_at_once(self, parts: Sequence[Buffer]) -> bool:
        """Send parts from a thread that holds the lock, as far as the kernel takes them now.

        False when something is left that the loop is to `send`, or trouble that it is to find.
        """
        if self._is_over:
            return True
        is_first = not self._unsent
        for part in parts:
            self._unsent.append(memoryview(part))
            self.unsent_bytes += len(part)
        if not is_first:
            return False
        self.progress_s = monotonic()
        try:
            self._send_some()
        except OSError:
            return False
        return not self._unsent

    def pause(self) -> None:
        """Read nothing more for now."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock)

    def resume(self) -> None:
        """Read on."""
        if not self._is_reading and not self._is_over:
            self._is_reading = True
            self.read_s = monotonic()
            # The time that we did not read is not the peer's.
            self._began_s = self.read_s if self.parser.frame_bytes else None
            self._loop.add_reader(self._sock, self._read)

    def finish(self, reason: str, last_words: Sequence[Buffer] = ()) -> None:
        """Send what is waiting and these, then close."""
        if self._is_over:
            return
        self.pause()
        self.send(last_words)
        if self._is_over:
            return
        self._is_over = True
        self._drain_until_s = monotonic() + _DRAIN_S
        if not self._unsent:
            self._begin_draining()
        self._on_end(reason)

    def abort(self, reason: str) -> None:
        """Close at once."""
        is_first = not self._is_over
        self._is_over = True
        self.pause()
        self._stop_writing()
        self._unsent.clear()
        self.unsent_bytes = 0
        self._sock.close()
        self._drain_until_s = None
        if is_first:
            self._on_end(reason)

    @property
    def is_closed(self) -> bool:
        """Whether the socket is closed."""
        return self._sock.fileno() < 0

    def overdue(self, now_s: float, limits: Limits) -> str | None:
        """What the peer takes too long for, if there is such a thing; ends a `finish` that does not end."""
        if self._drain_until_s is not None:
            if now_s > self._drain_until_s:
                self.abort("")
            return None
        if self._unsent and now_s - self.progress_s > limits.write_timeout_s:
            return f"{self.unsent_bytes} bytes not taken for {limits.write_timeout_s:g} s; read what comes"
        if self._began_s is not None and self._is_reading:
            allowed_s = limits.frame_deadline_s(self.parser.frame_bytes)
            if now_s - self._began_s > allowed_s:
                return f"half a frame for {allowed_s:g} s; send frames whole"
        return None

    def _read(self) -> None:
        with self._lock:
            self._read_some()

    def _read_some(self) -> None:
        for _ in range(_READS_PER_TURN):
            room = self.parser.writable()
            try:
                num = self._sock.recv_into(room)
            except BlockingIOError:
                return
            except OSError as exc:
                self.abort(exc.strerror or str(exc))
                return
            if not num:
                self.abort("left in the middle of a frame" if self.parser.frame_bytes else "left")
                return
            self._received(num)
            if num < len(room) or not self._is_reading or self._is_over:
                return

    def _received(self, num: int) -> None:
        self.bytes_received += num
        self.read_s = monotonic()
        found = self.parser.wrote(num)
        if not self.parser.frame_bytes:
            self._began_s = None
        elif found or self._began_s is None:
            self._began_s = self.read_s
        if found:
            self._on_frames(found)

    def _on_writable(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        was_waiting = self._is_writing
        while self._unsent:
            try:
                self._send_some()
            except BlockingIOError:
                self._start_writing()
                return
            except OSError as exc:
                self.abort(exc.strerror or str(exc))
                return
        self._stop_writing()
        if self._is_over:
            self._begin_draining()
        elif was_waiting:
            self._on_drained()

    def _send_some(self) -> None:
        parts = [self._unsent[at] for at in range(min(len(self._unsent), _MAX_PARTS))]
        num = self._sock.sendmsg(parts)
        self.bytes_sent += num
        self.unsent_bytes -= num
        self.progress_s = monotonic()
        while self._unsent and num >= len(self._unsent[0]):
            num -= len(self._unsent.popleft())
        if num:
            self._unsent[0] = self._unsent[0][num:]

    def _start_writing(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._sock, self._on_writable)

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._sock)

    def _begin_draining(self) -> None:
        self._drained_bytes = 0
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort("")
            return
        self._is_reading = True
        self._loop.add_reader(self._sock, self._drain)

    def _drain(self) -> None:
        with self._lock:
            self._drain_some()

    def _drain_some(self) -> None:
        try:
            num = len(self._sock.recv(2**16))
        except BlockingIOError:
            return
        except OSError:
            num = 0
        self._drained_bytes += num
        if not num or self._drained_bytes > _DRAIN_BYTES:
            self.abort("")
