"""Reads frames out of a stream of bytes, however it is cut, without copying what is large.

The parser is pure: bytes go in by `feed`, or are received into what `writable` gives and told by `wrote`
(`recv_into`, so that the kernel fills a buffer where it stays). Out come frames, and at most
one `ProtocolError`, always last: then the stream has no next frame, and the connection is to be closed.

Lengths are checked as they are declared, before memory is taken. A frame's buffers stand in one piece of it,
which is there in fact only as far as bytes have come: many pieces would each be given back to the kernel and
taken again, page by page, with every frame of weights.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Mapping
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from harness.errors import ProtocolError
from harness.sessions.codes import Code
from harness.sessions.limits import FrameLimits
from harness.sessions.messages import VERSION, Message
from harness.sessions.protocol import MAGIC, PREFIX, Buffer, decode_header

__all__ = ["Frame", "FrameParser"]

_ALIGNED_BYTES = 64
_SCRATCH_BYTES = 2**16
"""Prefixes, tables and headers are read from here; what is larger gets memory of its own."""


class Frame(NamedTuple):
    """What was received."""

    message: Message
    buffers: tuple[memoryview, ...]
    """In memory of the frame's own, each aligned for any element."""
    num_bytes: int
    """On the wire, prefix included."""


class _Want(NamedTuple):
    num_bytes: int
    place: memoryview | None = None
    """Of a buffer, which the frame keeps: it must not be in the scratch."""


class FrameParser:
    """Bytes in, frames out; one per connection and direction."""

    def __init__(
        self,
        kinds: Mapping[int, type[Message]],
        limits: FrameLimits,
        *,
        reserve: Callable[[int], None] | None = None,
    ) -> None:
        """Begin at the start of a frame.

        Parameters
        ----------
        kinds: that the peer may send, by number.
        limits: replaced by assigning `limits`, from the next frame on.
        reserve: called with the bytes of a frame's buffers before they come; refuses by a ProtocolError.
        """
        self.limits = limits
        self._kinds = kinds
        self._reserve = reserve
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0
        self._target: memoryview | None = None
        self._filled = 0
        self._found: list[Frame | ProtocolError] = []
        self._frame_bytes = 0
        self._steps = self._parse()
        self._want = next(self._steps)
        self._is_broken = False

    @property
    def frame_bytes(self) -> int:
        """Length of the frame that is half here, as far as it is declared; 0 between frames."""
        return max(self._frame_bytes, self._end - self._start)

    def feed(self, data: Buffer) -> list[Frame | ProtocolError]:
        """Take bytes; the frames they complete, and last the error if they are none.

        Raises
        ------
        ProtocolError: there was an error before.
        """
        found, rest = [], memoryview(data).cast("B")
        while len(rest):
            room = self.writable()
            num = min(len(room), len(rest))
            room[:num] = rest[:num]
            found += self.wrote(num)
            rest = rest[num:] if not self._is_broken else rest[:0]
        return found

    def writable(self) -> memoryview:
        """Where the next bytes are to be received; never empty.

        Raises
        ------
        ProtocolError: there was an error before.
        """
        if self._is_broken:
            raise ProtocolError("bytes behind a malformed frame; open a new connection", code=Code.MALFORMED)
        return self._scratch[self._end :] if self._target is None else self._target[self._filled :]

    def wrote(self, num_bytes: int) -> list[Frame | ProtocolError]:
        """Tell that so many bytes were received there; what they complete, as `feed`."""
        if self._target is None:
            self._end += num_bytes
        else:
            self._filled += num_bytes
        try:
            while (piece := self._piece()) is not None:
                self._want = self._steps.send(piece)
        except ProtocolError as exc:
            self._is_broken = True
            self._found.append(exc)
        found, self._found = self._found, []
        return found

    def _piece(self) -> memoryview | None:
        """What the parser wants next, if it is all here."""
        if self._target is not None:
            if self._filled < len(self._target):
                return None
            piece, self._target = self._target, None
            return piece
        want, have = self._want.num_bytes, self._end - self._start
        if self._want.place is not None or want > _SCRATCH_BYTES:
            return self._begin_target(want, min(want, have))
        if want <= have:
            self._start += want
            return self._scratch[self._start - want : self._start]
        if self._start + want > _SCRATCH_BYTES or not have:
            self._scratch[:have] = self._scratch[self._start : self._end]
            self._start, self._end = 0, have
        return None

    def _begin_target(self, want: int, have: int) -> memoryview | None:
        place = self._want.place
        self._target = _memory(want) if place is None else place
        self._target[:have] = self._scratch[self._start : self._start + have]
        self._start += have
        self._filled = have
        if self._start == self._end:
            self._start = self._end = 0
        return self._piece() if have == want else None

    def _parse(self) -> Generator[_Want, memoryview, None]:
        while True:
            self._frame_bytes = 0
            prefix = yield _Want(PREFIX.size)
            kind, num_buffers, header_len = self._check_prefix(*PREFIX.unpack(prefix))
            self._frame_bytes = PREFIX.size + 8 * num_buffers + header_len
            lens: tuple[int, ...] = ()
            if num_buffers:
                lens = struct.unpack(f"<{num_buffers}Q", (yield _Want(8 * num_buffers)))
                self._check_lens(kind, lens)
            message = decode_header(kind, (yield _Want(header_len)))
            if self._reserve is not None and lens:
                self._reserve(sum(lens))
            buffers = []
            for place in _places(lens):
                buffers.append((yield _Want(len(place), place)))
            self._found.append(Frame(message, tuple(buffers), self._frame_bytes))

    def _check_prefix(
        self, magic: bytes, version: int, kind_id: int, num_buffers: int, header_len: int
    ) -> tuple[type[Message], int, int]:
        limits = self.limits
        if magic != MAGIC:
            raise _malformed(f"a frame begins with {magic!r}, not {MAGIC!r}; this port speaks only sessions")
        if version != VERSION:
            raise ProtocolError(f"version {version}; spoken here is {VERSION}", code=Code.VERSION)
        kind = self._kinds.get(kind_id)
        if kind is None:
            raise _malformed(f"kind {kind_id}; known here are {', '.join(map(str, self._kinds))}")
        if header_len > limits.max_header_bytes:
            raise _too_large(f"{kind.__name__}: header of {header_len} bytes", limits.max_header_bytes)
        if num_buffers and not kind.has_buffers:
            raise _malformed(f"{kind.__name__} with {num_buffers} buffers; it has none")
        if num_buffers > limits.max_buffers:
            raise _too_large(f"{kind.__name__}: {num_buffers} buffers", limits.max_buffers)
        return kind, num_buffers, header_len

    def _check_lens(self, kind: type[Message], lens: tuple[int, ...]) -> None:
        if max(lens) > self.limits.max_buffer_bytes:
            raise _too_large(f"{kind.__name__}: buffer of {max(lens)} bytes", self.limits.max_buffer_bytes)
        self._frame_bytes += sum(lens)
        if self._frame_bytes > self.limits.max_frame_bytes:
            what = f"{kind.__name__}: frame of {self._frame_bytes} bytes"
            raise _too_large(what, self.limits.max_frame_bytes)


def _places(lens: tuple[int, ...]) -> list[memoryview]:
    """Room for buffers of these lengths."""
    steps = [-num_bytes // _ALIGNED_BYTES * -_ALIGNED_BYTES for num_bytes in lens]
    area, ends = _memory(sum(steps)), accumulate(steps)
    return [area[end - step : end - step + num] for num, step, end in zip(lens, steps, ends, strict=True)]


def _memory(num_bytes: int) -> memoryview:
    # Not a bytearray: that would write zeros over all of it before the first byte comes. From 4 MiB on, numpy
    # asks for large pages.
    return np.empty(num_bytes, np.uint8).data


def _malformed(text: str) -> ProtocolError:
    return ProtocolError(text, code=Code.MALFORMED)


def _too_large(what: str, limit: int) -> ProtocolError:
    return ProtocolError(f"{what}; the limit is {limit}", code=Code.TOO_LARGE)
