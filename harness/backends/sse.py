"""Server-sent events, incrementally: bytes in as the network cut them, whole events out.

Only the `data` field matters to completions, so other fields and comments are dropped. Splitting happens on
bytes, before decoding, so that a character cut in two by the network is whole again when it is decoded.
"""

from __future__ import annotations

__all__ = ["EventParser"]


class EventParser:
    """Split a byte stream into the payloads of its events."""

    __slots__ = ("_data", "_held_cr", "_line")

    def __init__(self) -> None:
        self._line = b""
        self._data: list[bytes] = []
        self._held_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the events they complete, in order, each without its `data:` prefix."""
        if self._held_cr or b"\r" in data:
            data = self._unify_line_ends(data)
        *lines, self._line = (self._line + data).split(b"\n")
        events: list[bytes] = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(self._flush())
        return events

    def close(self) -> list[bytes]:
        """Return the event that the end of the stream cut off from its blank line, if there is one."""
        if self._line:
            self._take(self._line)
            self._line = b""
        return [self._flush()] if self._data else []

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data: "):
            self._data.append(line[6:])
        elif line.startswith(b"data:"):
            self._data.append(line[5:])

    def _flush(self) -> bytes:
        event = b"\n".join(self._data)
        self._data.clear()
        return event

    def _unify_line_ends(self, data: bytes) -> bytes:
        if self._held_cr:
            data = b"\r" + data
        # A carriage return at the cut may be half of a CRLF: which one, only the next bytes tell.
        self._held_cr = data.endswith(b"\r")
        if self._held_cr:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
