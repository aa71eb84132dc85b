"""The frame parser and the writer: what one writes the other reads, however it is cut, and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ProtocolError
from harness.sessions.codes import Code
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import HELLO_LIMITS, FrameLimits
from harness.sessions.messages import (
    VERSION,
    Message,
    Open,
    Ping,
    PutKv,
    Token,
    Turn,
)
from harness.sessions.protocol import MAGIC, PREFIX, Buffer, encode
from tests.framed import (
    ALL_FRAMES,
    SMALL,
    comparable,
    frames,
    in_pieces,
    only_error,
    parser,
    wire,
)


class TestWhatIsWrittenIsRead:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(frames, max_size=4), st.lists(st.integers(0, 10**6), max_size=12))
    def test_any_frames_come_back_whole_however_the_stream_is_cut(
        self, sent: list[tuple[Message, list[Buffer]]], cuts: list[int]
    ) -> None:
        """Messages, buffers and lengths are those that were sent, in their order."""
        stream = b"".join(wire(*one) for one in sent)
        found = in_pieces(stream, cuts)
        expected = [
            (message, [bytes(b) for b in parts], len(wire(message, parts))) for message, parts in sent
        ]
        assert comparable(found) == expected

    def test_the_example_of_the_documentation_is_what_is_written(self) -> None:
        """The bytes of one turn and one token, by hand."""
        assert wire(Turn(7, 1, [10, 300], 2)).hex(" ") == (
            "4b 56 01 04 00 00 0c 00 00 00 97 07 01 92 0a cd 01 2c 02 c2 90 c0"
        )
        assert wire(Token(7, 42)).hex(" ") == "4b 56 01 43 00 00 03 00 00 00 92 07 2a"

    def test_a_token_takes_less_than_64_bytes_with_the_largest_numbers(self) -> None:
        """A prefix of ten bytes and a header of eleven."""
        assert len(wire(Token(2**32 - 1, 2**32 - 1))) == 21

    def test_a_buffer_is_received_where_it_stays(self) -> None:
        """Behind the table and the header, the parser gives out the frame's own memory."""
        data = bytes(range(256)) * 1000
        stream = wire(PutKv(1, 1, 0, [5]), [data])
        head = len(stream) - len(data)
        reading = parser(FrameLimits())
        assert reading.feed(stream[:head]) == []
        room = reading.writable()
        assert len(room) == len(data)
        room[:] = data
        (frame,) = reading.wrote(len(data))
        assert isinstance(frame, Frame)
        room[0] = 77
        assert frame.buffers[0][0] == 77

    def test_a_field_appended_by_a_later_minor_reader_is_skipped(self) -> None:
        """A header may grow at its end; one that lacks what has a default is filled in."""
        grown = bytes([0x96, 1, 2, 3]) + b"\xa1m" + bytes([4]) + b"\xa1x"
        without_models = bytes([0x93, 1, 2, 3])
        short = bytes([0x92, 1, 2])
        found = {grown: Open(1, 2, 3, "m"), without_models: Open(1, 2, 3), short: Open(1, 2, 0, "")}
        for header, message in found.items():
            stream = PREFIX.pack(MAGIC, VERSION, Open.kind, 0, len(header)) + header
            (frame,) = parser().feed(stream)
            assert isinstance(frame, Frame)
            assert frame.message == message

    def test_an_unfinished_frame_says_how_long_it_will_be(self) -> None:
        """So that a deadline can be set for it; between frames there is none."""
        stream = wire(PutKv(1, 1, 0, [5]), [bytes(1000)])
        reading = parser()
        assert reading.frame_bytes == 0
        reading.feed(stream[:3])
        assert reading.frame_bytes == 3
        reading.feed(stream[3:40])
        assert reading.frame_bytes == len(stream)
        reading.feed(stream[40:])
        assert reading.frame_bytes == 0

    def test_a_buffer_with_gaps_is_not_sent(self) -> None:
        """Sending every second byte would need a copy that nobody asked for."""
        with pytest.raises(ProtocolError, match="contiguous"):
            encode(Token(1, 1), [memoryview(bytes(10))[::2]])

    def test_a_message_without_buffers_is_not_sent_with_some(self) -> None:
        """The reader would refuse it."""
        with pytest.raises(ProtocolError, match="Ping with 1 buffers"):
            encode(Ping(1), [b"x"])


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("stream", "code", "says"),
        [
            (b"GET / HTTP/1.1\r\n", Code.MALFORMED, "begins with b'GE'"),
            (PREFIX.pack(MAGIC, 9, 1, 0, 1), Code.VERSION, "version 9; spoken here is 1"),
            (PREFIX.pack(MAGIC, VERSION, 200, 0, 1), Code.MALFORMED, "kind 200"),
            (
                PREFIX.pack(MAGIC, VERSION, 4, 0, 2**32 - 1),
                Code.TOO_LARGE,
                "4294967295 bytes; the limit is 4096",
            ),
            (PREFIX.pack(MAGIC, VERSION, 8, 9, 1), Code.TOO_LARGE, "9 buffers; the limit is 8"),
            (PREFIX.pack(MAGIC, VERSION, 4, 1, 1), Code.MALFORMED, "Turn with 1 buffers"),
            (
                PREFIX.pack(MAGIC, VERSION, 8, 1, 1) + struct.pack("<Q", 2**64 - 1),
                Code.TOO_LARGE,
                "buffer of 18446744073709551615",
            ),
            (
                PREFIX.pack(MAGIC, VERSION, 8, 3, 1) + struct.pack("<3Q", *[150_000] * 3),
                Code.TOO_LARGE,
                "frame of 450035",
            ),
            (PREFIX.pack(MAGIC, VERSION, 4, 0, 0), Code.MALFORMED, "truncated"),
            (PREFIX.pack(MAGIC, VERSION, 11, 0, 3) + b"\x91\x01\x01", Code.MALFORMED, "trailing"),
            (PREFIX.pack(MAGIC, VERSION, 11, 0, 2) + b"\x91\xff", Code.MALFORMED, "Ping"),
            (PREFIX.pack(MAGIC, VERSION, 1, 0, 6) + b"\x93\x01\x01\xa2\xff\xfe", Code.MALFORMED, "utf-8"),
            (PREFIX.pack(MAGIC, VERSION, 11, 0, 4000) + b"\x92\x01" + b"\x91" * 3998, Code.MALFORMED, "Ping"),
        ],
        ids=[
            "http",
            "version",
            "kind",
            "header-len",
            "num-buffers",
            "buffers-unasked",
            "buffer-len",
            "frame-len",
            "no-header",
            "trailing",
            "type",
            "text",
            "nested",
        ],
    )
    def test_a_malformed_or_oversized_frame_ends_the_stream_with_its_reason(
        self, stream: bytes, code: Code, says: str
    ) -> None:
        """The error names the culprit and its value."""
        error = only_error(parser().feed(stream))
        assert error.code == code
        assert says in str(error)
        assert "\n" not in str(error)

    def test_a_list_of_billions_is_refused_before_memory_is_taken(self) -> None:
        """Five bytes that declare 2³² - 1 token ids."""
        header = b"\x94\x01\x01\xdd\xff\xff\xff\xff\x01"
        error = only_error(parser().feed(PREFIX.pack(MAGIC, VERSION, Turn.kind, 0, len(header)) + header))
        assert "length <= 1048576" in str(error)

    def test_frames_before_the_malformed_one_are_delivered(self) -> None:
        """In one piece or in two, the outcome is the same."""
        stream = wire(Ping(1)) + wire(Ping(2)) + b"garbage that is long enough"
        found = parser().feed(stream)
        assert [type(one) for one in found] == [Frame, Frame, ProtocolError]
        assert comparable(found) == comparable(in_pieces(stream, list(range(0, len(stream), 3))))

    def test_nothing_is_read_behind_a_malformed_frame(self) -> None:
        """A parser that has lost its place stays lost."""
        reading = parser()
        reading.feed(b"not a frame at all")
        with pytest.raises(ProtocolError, match="open a new connection"):
            reading.feed(wire(Ping(1)))

    def test_before_hello_only_small_frames_without_buffers_are_taken(self) -> None:
        """A stranger cannot have memory reserved."""
        stream = PREFIX.pack(MAGIC, VERSION, PutKv.kind, 1, 10) + struct.pack("<Q", 10)
        assert only_error(parser(HELLO_LIMITS).feed(stream)).code == Code.TOO_LARGE

    def test_who_reserves_can_refuse(self) -> None:
        """The bytes of the buffers are told before they come, and a refusal ends the stream."""
        asked: list[int] = []

        def reserve(num_bytes: int) -> None:
            asked.append(num_bytes)
            raise ProtocolError("full", code=Code.OVERLOADED)

        reading = FrameParser(ALL_FRAMES, SMALL, reserve=reserve)
        head = wire(PutKv(1, 1, 0, [5]), [bytes(1000), bytes(24)])[:-1024]
        assert only_error(reading.feed(head)).code == Code.OVERLOADED
        assert asked == [1024]
