"""Streams of JSON lines, incrementally: bytes in as the network cut them, whole lines out.

Lines are split before decoding, so that a character cut in two by the network is whole again when it is
decoded. A line feed inside a JSON string is always written as an escape, so every one ends a line.
"""

from __future__ import annotations

__all__ = ["LineParser"]


class LineParser:
    """Split a byte stream into its lines that are not blank."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the lines that they complete, in order."""
        *lines, self._line = (self._line + data).split(b"\n")
        return [line for line in lines if line.strip()]

    def close(self) -> list[bytes]:
        """Return the last line, when it came without its line feed."""
        line, self._line = self._line, b""
        return [line] if line.strip() else []
