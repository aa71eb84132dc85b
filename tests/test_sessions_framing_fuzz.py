"""Any bytes at all to the frame parser: frames or one error, the same however they are cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ProtocolError
from harness.sessions.framing import Frame
from harness.sessions.messages import (
    VERSION,
)
from harness.sessions.protocol import MAGIC, PREFIX
from tests.framed import (
    ALL_FRAMES,
    comparable,
    in_pieces,
    plain,
    u32,
    wire,
)

# What a fuzzer would hit by chance only: the beginning of a real prefix, and a header of the right shape.
prefixes = st.builds(
    PREFIX.pack,
    st.sampled_from([MAGIC, b"kv"]),
    st.sampled_from([VERSION, VERSION, VERSION, 0, 255]),
    st.one_of(st.sampled_from(sorted(ALL_FRAMES)), st.integers(0, 255)),
    st.one_of(st.integers(0, 3), st.integers(0, 2**16 - 1)),
    st.one_of(st.integers(0, 40), u32),
)
tables = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1)), max_size=3).map(
    lambda lens: struct.pack(f"<{len(lens)}Q", *lens)
)
msgpack_heads = st.sampled_from(
    [0x90, 0x91, 0x92, 0x93, 0x96, 0x9A, 0xDC, 0xDD, 0xDF, 0xC6, 0xDB, 0xCF, 0xCB]
)
headers = st.builds(lambda head, rest: bytes([head]) + rest, msgpack_heads, st.binary(max_size=40))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Real frames in which some bytes were changed, and an end cut off."""
    data = bytearray(b"".join(wire(*one) for one in draw(st.lists(plain, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))])


hostile = st.one_of(
    st.binary(max_size=64),
    damaged(),
    st.lists(st.one_of(prefixes, tables, headers, st.binary(max_size=20)), max_size=5).map(b"".join),
)


def survive(data: bytes, cuts: list[int]) -> None:
    """Only frames and one last error come out, the same however the bytes are cut, and never too large."""
    found = in_pieces(data, cuts)
    assert comparable(found) == comparable(in_pieces(data, []))
    assert not any(isinstance(one, ProtocolError) for one in found[:-1])
    sizes = [one.num_bytes for one in found if isinstance(one, Frame)]
    assert sum(sizes) <= len(data)
    for one in found:
        if isinstance(one, Frame):
            assert (
                wire(one.message, list(one.buffers))[:4] == PREFIX.pack(MAGIC, 1, one.message.kind, 0, 0)[:4]
            )


cut_points = st.lists(st.integers(0, 200), max_size=4)


@settings(max_examples=400, deadline=None)
@given(hostile, cut_points)
def test_any_bytes_give_frames_or_one_error(data: bytes, cuts: list[int]) -> None:
    """Nothing else is raised, whatever comes."""
    survive(data, cuts)


@pytest.mark.nightly
@settings(max_examples=100_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(hostile, cut_points)
def test_a_hundred_thousand_inputs_give_frames_or_one_error(data: bytes, cuts: list[int]) -> None:
    """The same, at the number that the parser is held to."""
    survive(data, cuts)
