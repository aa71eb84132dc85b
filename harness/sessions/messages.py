"""What is said between client and server: one class per kind of frame, its fields in the order of the wire.

Versioning: within a version a header may grow at its end, by fields that have defaults: an older reader skips
them, a newer one fills them in. Everything else is a new version.

Traps: every list has a `max_length`. Without one, five hostile bytes make msgspec reserve 34 GB for a list of
2³² elements before it finds that they are not there.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from harness.errors import UnavailableError
from harness.sessions.sampling import Sampling

try:
    from msgspec import Meta, Struct
except ImportError as exc:
    raise UnavailableError("sessions need msgspec: pip install 'assay[sessions]'") from exc

__all__ = [
    "CLIENT_FRAMES",
    "SERVER_FRAMES",
    "VERSION",
    "Cancel",
    "Close",
    "Done",
    "Failed",
    "GetKv",
    "Hello",
    "Kv",
    "Message",
    "Ok",
    "Open",
    "Opened",
    "Ping",
    "PutKv",
    "PutWeights",
    "Resume",
    "Served",
    "Stats",
    "StatsReply",
    "Token",
    "Turn",
    "Welcome",
]

VERSION = 1

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
TokenIds = Annotated[list[U32], Meta(max_length=2**20)]
Name = Annotated[str, Meta(max_length=512)]
Text = Annotated[str, Meta(max_length=4096)]
Secret = Annotated[bytes, Meta(min_length=16, max_length=16)]


class Message(Struct, frozen=True, array_like=True):
    """A frame's header: a msgpack array of the fields in order."""

    kind: ClassVar[int]
    has_buffers: ClassVar[bool] = False


class Hello(Message, frozen=True):
    """First frame of a client."""

    kind = 1
    min_version: U32 = VERSION
    max_version: U32 = VERSION
    name: Name = ""
    """For the server's log."""


class Open(Message, frozen=True):
    """Make a session."""

    kind = 2
    request: U32
    max_tokens: U32
    """That it can hold, prompt and answers together."""
    linger_s: U32 = 0
    """How long it is kept when the connection ends; 0: it ends with it."""
    model: Name = ""
    """One of Welcome's `models`; empty: the first, or the only one."""


class Resume(Message, frozen=True):
    """Take a session over, by its secret, from a connection that ended or hangs."""

    kind = 3
    request: U32
    secret: Secret
    turn: U32 = 0
    """The turn whose tokens are to be sent again; 0: none."""
    received: U32 = 0
    """How many of them are there already."""


class Turn(Message, frozen=True):
    """New tokens up, tokens down."""

    kind = 4
    request: U32
    """≥ 1; the number under which tokens come back."""
    session: U32
    token_ids: TokenIds
    """New ones only; the session holds the earlier ones. Empty: it goes on by itself."""
    max_new_tokens: U32
    want_logits: bool = False
    stop_ids: TokenIds = []
    sampling: Sampling | None = None
    """None: the likeliest token each time."""


class Cancel(Message, frozen=True):
    """End a turn early; answered by its Done. A turn that is over is not an error."""

    kind = 5
    turn: U32


class Close(Message, frozen=True):
    """End a session."""

    kind = 6
    request: U32
    session: U32


class Stats(Message, frozen=True):
    """Ask for counters."""

    kind = 7
    request: U32


class PutKv(Message, frozen=True):
    """Set a session's keys and values from position `start` on, by one buffer; what stood there goes."""

    kind = 8
    has_buffers = True
    request: U32
    session: U32
    start: U32
    token_ids: TokenIds
    """Whose keys and values the buffer holds, a row each."""


class GetKv(Message, frozen=True):
    """Ask for a session's keys and values from position `start` on."""

    kind = 9
    request: U32
    session: U32
    start: U32 = 0
    most: U32 = 2**32 - 1
    """Tokens to send at most."""


class PutWeights(Message, frozen=True):
    """Set some of the model's weights, a buffer per name."""

    kind = 10
    has_buffers = True
    request: U32
    names: Annotated[list[Name], Meta(max_length=2**16)]


class Ping(Message, frozen=True):
    """Answered by Ok."""

    kind = 11
    request: U32


class Served(Struct, frozen=True, array_like=True):
    """One of several models."""

    name: Name
    vocab_size: U32
    max_session_tokens: U32


class Welcome(Message, frozen=True):
    """The answer to Hello."""

    kind = 65
    version: U32
    """Spoken from now on."""
    model: Name
    vocab_size: U32
    max_session_tokens: U32
    kv_token_bytes: U32
    """Keys and values of a token, all layers; 0: they do not cross."""
    kv_dtype: Name
    takes_weights: bool
    link_bps: Annotated[int, Meta(ge=0, le=2**53)]
    """Bits per second that this connection is to be paced to, both ways; 0: not."""
    models: Annotated[list[Served], Meta(max_length=2**10)] = []
    """Among which Open chooses, the first being `model`; empty: there is `model` alone."""


class Opened(Message, frozen=True):
    """The answer to Open and Resume."""

    kind = 66
    request: U32
    session: U32
    """Its number in this connection."""
    secret: Secret
    """Whoever has it may resume the session."""
    num_tokens: U32
    """Taken in or generated so far."""
    last_turn: U32 = 0
    """The latest turn; 0: none."""


class Token(Message, frozen=True):
    """A token of a turn; with a buffer of float32 logits if they were wanted."""

    kind = 67
    has_buffers = True
    turn: U32
    token_id: U32


class Done(Message, frozen=True):
    """The end of a turn."""

    kind = 68
    turn: U32
    reason: Annotated[str, Meta(max_length=16)]
    """`length`, `stop`, or `cancelled`: then the session is as it was before the turn."""
    num_tokens: U32
    """Generated by the turn."""
    queue_s: float
    """Sum over the turn's tokens, as the next two: waiting for its turn, for memory, for other sessions."""
    compute_s: float
    """Of the steps that it took part in, each in full."""
    transfer_s: float
    """Bringing its keys and values back from the host."""
    first_queue_s: float
    """Of these, until the first token; as the next two."""
    first_compute_s: float
    first_transfer_s: float
    reused_tokens: U32 | None
    """Whose keys and values were there when the turn was admitted; None for a cancelled turn, as the next."""
    prefilled_tokens: U32 | None
    """Computed before the first token."""
    restored_tokens: U32 | None
    """Of the reused ones: brought back from the host."""
    recomputed_tokens: U32 | None
    """Of the prefilled ones: computed before, and dropped since."""
    bytes_up: Annotated[int, Meta(ge=0)]
    """Of the Turn frame."""
    bytes_down: Annotated[int, Meta(ge=0)]
    """Of its Token frames; this frame is not in it."""


class Ok(Message, frozen=True):
    """It is done."""

    kind = 69
    request: U32


class Kv(Message, frozen=True):
    """The answer to GetKv: one buffer, a row of `kv_token_bytes` per token."""

    kind = 70
    has_buffers = True
    request: U32
    start: U32
    token_ids: TokenIds


class StatsReply(Message, frozen=True):
    """Counters by name."""

    kind = 71
    request: U32
    stats: Annotated[dict[Name, int | float | Text | None], Meta(max_length=512)]


class Failed(Message, frozen=True):
    """A refusal, or the end of the connection."""

    kind = 72
    request: U32
    """What it answers; 0: nothing in particular."""
    code: U32
    message: Text


CLIENT_FRAMES: dict[int, type[Message]] = {
    kind.kind: kind
    for kind in (Hello, Open, Resume, Turn, Cancel, Close, Stats, PutKv, GetKv, PutWeights, Ping)
}
SERVER_FRAMES: dict[int, type[Message]] = {
    kind.kind: kind for kind in (Welcome, Opened, Token, Done, Ok, Kv, StatsReply, Failed)
}
