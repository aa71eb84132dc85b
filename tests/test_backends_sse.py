from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.backends.sse import EventParser

PAYLOAD = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1).map(
    lambda text: text.encode()
)


def events_of(pieces: list[bytes]) -> list[bytes]:
    """All events of a stream cut into these pieces."""
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


@given(
    payloads=st.lists(PAYLOAD, max_size=5),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 300), max_size=20),
    ends=st.booleans(),
)
def test_any_cut_gives_the_same_events(
    payloads: list[bytes], line_end: bytes, cuts: list[int], ends: bool
) -> None:
    """Events do not depend on line ends, on how the network cuts them, or on a last blank line."""
    stream = b"".join(b": note" + line_end + b"data: " + each + line_end * 2 for each in payloads)
    if not ends:
        stream = stream.removesuffix(line_end)
    marks = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(marks)]
    assert events_of(pieces) == payloads


def test_data_over_several_lines_is_one_event() -> None:
    """Lines of one event are joined by a line feed, and only the first blank after the colon is dropped."""
    assert events_of([b"data: a\ndata:  b\ndata:c\n\n"]) == [b"a\n b\nc"]


def test_an_event_is_given_as_soon_as_its_blank_line_came() -> None:
    """No event waits for the next."""
    parser = EventParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [b"a"]
    assert parser.feed(b"data: b\r\n\r\n") == [b"b"]


def test_a_stream_of_comments_has_no_events() -> None:
    """Keep-alive comments and unknown fields are dropped."""
    assert events_of([b": ping\n\nevent: x\nid: 3\n\n: ping\n\n"]) == []
