"""A client that says well-formed things without sense, for the tests of the session server."""

from __future__ import annotations

import contextlib
import random

from harness.sessions.address import Address, dial
from harness.sessions.framing import Frame, FrameParser
from harness.sessions.limits import FrameLimits
from harness.sessions.messages import (
    SERVER_FRAMES,
    Cancel,
    Close,
    Failed,
    GetKv,
    Hello,
    Message,
    Ok,
    Open,
    Ping,
    PutKv,
    PutWeights,
    Resume,
    Stats,
    Turn,
)
from harness.sessions.protocol import encode

__all__ = ["talk_nonsense"]

LAST = 2**20
"""The number of the last request."""


def talk_nonsense(address: Address, seed: int, *, num: int, kv_token_bytes: int) -> set[int]:
    """Say `num` well-formed things, then leave; the codes of the refusals that came.

    Sessions and turns have small numbers, so that many of them are there; answers are awaited last.
    """
    rnd = random.Random(seed)
    sock = dial(address, timeout_s=60)
    parser = FrameParser(SERVER_FRAMES, FrameLimits())
    codes: set[int] = set()
    answered: set[int] = set()
    sock.sendall(b"".join(encode(Hello())))
    parser.feed(sock.recv(2**16))
    with contextlib.suppress(OSError):
        for _ in range(num):
            message, buffers = _nonsense(rnd, kv_token_bytes)
            sock.sendall(b"".join(bytes(part) for part in encode(message, buffers)))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while data := sock.recv(2**16):
                    found = [one for one in parser.feed(data) if isinstance(one, Frame)]
                    codes |= {one.message.code for one in found if isinstance(one.message, Failed)}
            sock.settimeout(60)
        # What is still to come: a slow server has not answered yet.
        sock.sendall(b"".join(encode(Ping(LAST))))
        while LAST not in answered and (data := sock.recv(2**16)):
            for one in parser.feed(data):
                if isinstance(one, Frame) and isinstance(one.message, Failed):
                    codes.add(one.message.code)
                if isinstance(one, Frame) and isinstance(one.message, Ok):
                    answered.add(one.message.request)
    sock.close()
    return codes


def _nonsense(rnd: random.Random, kv_token_bytes: int) -> tuple[Message, list[bytes]]:
    request, session = rnd.randrange(1, 20), rnd.randrange(5)
    number = rnd.choice([0, 1, 2, 5, 30, 2**32 - 1])
    token_ids = [rnd.choice([0, 1, 7, 96, 2**32 - 1]) if rnd.random() < 0.05 else rnd.randrange(97)
                 for _ in range(rnd.choice([0, 1, 2, 20]))]  # fmt: skip
    size = len(token_ids) * kv_token_bytes
    rows = rnd.randbytes(max(0, size + rnd.choice([0, 0, 0, -1, 8])))
    return rnd.choice(
        [
            (Open(request, rnd.choice([0, 1, 40, 60, number])), []),
            (Turn(request, session, token_ids, number, rnd.random() < 0.3, token_ids[:1]), []),
            (Turn(request, session, token_ids, rnd.randrange(1, 10)), []),
            (Cancel(request), []),
            (Close(request, session), []) if rnd.random() < 0.3 else (Ping(request), []),
            (Stats(request), []),
            (PutKv(request, session, rnd.choice([0, 0, 1, number]), token_ids), [rows]),
            (PutKv(request, session, 0, token_ids), [rows] * rnd.randrange(3)),
            (GetKv(request, session, rnd.choice([0, 1, number])), []),
            (PutWeights(request, ["x"] * rnd.randrange(3)), [rows]),
            (Resume(request, rnd.randbytes(16), number, number), []),
        ]
    )
