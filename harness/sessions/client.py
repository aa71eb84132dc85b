"""A plain client: blocking, for one thread, many sessions over one connection if need be.

    with SessionClient.connect(Address.parse("127.0.0.1:5556")) as client:
        session = client.open(max_tokens=256)
        for token in session.turn([1, 5, 9], max_new_tokens=50):
            print(token.token_id)

Frames of other sessions that arrive meanwhile wait for whoever asks for them. Every byte is counted where it
enters or leaves the socket.

Errors: BackendUnreachable (no server), BackendTimeout, BackendBroken (the connection ended; the message holds
the server's last words), BackendRejected (a request was refused), and BudgetError when that was for want of
memory there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Self, TypeVar, cast

from harness.errors import BackendBroken, HarnessError
from harness.sessions.address import Address, dial
from harness.sessions.channel import Arrived, Channel
from harness.sessions.framing import Frame
from harness.sessions.limits import FrameLimits
from harness.sessions.messages import (
    VERSION,
    Cancel,
    Close,
    Code,
    Done,
    Failed,
    GetKv,
    Hello,
    Kv,
    Message,
    Ok,
    Open,
    Opened,
    Ping,
    PutKv,
    PutWeights,
    Resume,
    Stats,
    StatsReply,
    Turn,
    Welcome,
)
from harness.sessions.protocol import Buffer
from harness.sessions.replies import (
    Generated,
    KvBlock,
    StreamedToken,
    answers,
    check_model,
    joined,
    kv_of,
    refused,
    token_of,
)
from harness.sessions.sampling import Sampling

__all__ = ["ClientSession", "SessionClient", "TurnStream"]

M = TypeVar("M", bound=Message)

PIECE_BYTES = 2**28
"""What is larger crosses in several frames: well below what a server takes in one."""


class SessionClient:
    """A connection to a session server; a context manager."""

    def __init__(self, channel: Channel, welcome: Welcome, where: Address) -> None:
        self.welcome = welcome
        self.address = where
        self._channel = channel
        self._last_request = 0
        self._waiting: dict[int, deque[Arrived]] = {}

    @classmethod
    def connect(
        cls,
        address: Address,
        *,
        timeout_s: float = 60.0,
        link_bps: int | None = None,
        limits: FrameLimits | None = None,
        name: str = "",
    ) -> Self:
        """Connect and say hello.

        Parameters
        ----------
        timeout_s: that any one frame may take to be sent, or to come.
        link_bps: the link to be as slow as, in bits per second; None for what the server says, 0 for none.
        limits: of what the server may send.
        """
        sock = dial(address, timeout_s=timeout_s)
        who = f"session server at {address}"
        channel = Channel(sock, who, limits=limits or FrameLimits(), timeout_s=timeout_s)
        try:
            channel.send(Hello(VERSION, VERSION, name))
            welcome = channel.receive().frame.message
            if isinstance(welcome, Failed):
                raise refused(who, welcome)
            if not isinstance(welcome, Welcome):
                raise BackendBroken(f"{who}: {type(welcome).__name__} instead of a welcome; is it one?")
            channel.pace(welcome.link_bps if link_bps is None else link_bps)
        except BaseException:
            channel.close()
            raise
        return cls(channel, welcome, address)

    @property
    def bytes_sent(self) -> int:
        """Taken by the kernel so far."""
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Given by the kernel so far."""
        return self._channel.bytes_received

    def open(self, max_tokens: int, *, linger_s: int = 0, model: str = "") -> ClientSession:
        """Make a session for so many tokens, that outlives its connection for so long.

        Arguments: `model`, one of `welcome.models`; the first by default.

        Raises
        ------
        BudgetError: the server's device budget has no room.
        UsageError: the server does not serve that model.
        """
        check_model(self.address, self.welcome, model)
        opened = self._ask(Opened, Open(self._next(), max_tokens, linger_s, model)).message
        return ClientSession(self, cast(Opened, opened))

    def resume(self, secret: bytes, *, turn: int = 0, received: int = 0) -> ClientSession:
        """Take a session over from a connection that ended.

        Parameters
        ----------
        turn: the turn whose tokens are to come again, after the first `received` of them; read them with
            `session.rest_of_turn()`.
        """
        opened = cast(Opened, self._ask(Opened, Resume(self._next(), secret, turn, received)).message)
        self._last_request = max(self._last_request, opened.last_turn)
        return ClientSession(self, opened)

    def stats(self) -> dict[str, int | float | str | None]:
        """The server's counters."""
        return cast(StatsReply, self._ask(StatsReply, Stats(self._next())).message).stats

    def ping(self) -> None:
        """Have the server answer."""
        self._ask(Ok, Ping(self._next()))

    def put_weights(self, weights: Mapping[str, Buffer]) -> None:
        """Replace some of the model's weights, for every session of the server; in frames of a fair size."""
        names: list[str] = []
        num_bytes = 0
        for name, buffer in weights.items():
            if names and num_bytes + memoryview(buffer).nbytes > PIECE_BYTES:
                self._put_weights({name: weights[name] for name in names})
                names, num_bytes = [], 0
            names.append(name)
            num_bytes += memoryview(buffer).nbytes
        self._put_weights({name: weights[name] for name in names})

    def close(self) -> None:
        """Leave; sessions that linger wait to be resumed. A second call does nothing."""
        self._channel.close()

    def fileno(self) -> int:
        """Of the socket, for `select`."""
        return self._channel.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _put_weights(self, weights: Mapping[str, Buffer]) -> None:
        self._ask(Ok, PutWeights(self._next(), list(weights)), tuple(weights.values()))

    def _next(self) -> int:
        self._last_request += 1
        return self._last_request

    def _send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> int:
        try:
            return self._channel.send(message, buffers)
        except BackendBroken:
            # Why it ended came before the end.
            while self._channel.has_frames:
                self._sort(self._channel.receive())
            raise

    def _ask(self, kind: type[M], message: Message, buffers: tuple[Buffer, ...] = ()) -> Frame:
        """Send a request, wait for the answer to it."""
        request: int = getattr(message, "request")  # noqa: B009
        self._waiting[request] = deque()
        try:
            self._send(message, buffers)
            frame = self._wait(request).frame
        finally:
            self._waiting.pop(request, None)
        if not isinstance(frame.message, kind):
            raise BackendBroken(f"{self.address}: {type(frame.message).__name__}, not {kind.__name__}")
        return frame

    def _wait(self, request: int) -> Arrived:
        """The next frame that answers this request, or belongs to this turn."""
        mine = self._waiting[request]
        while not mine:
            self._sort(self._channel.receive())
        arrived = mine.popleft()
        if isinstance(arrived.frame.message, Failed):
            raise refused(str(self.address), arrived.frame.message)
        return arrived

    def _sort(self, arrived: Arrived) -> None:
        """Put a frame where it is waited for; what nobody waits for is dropped."""
        message = arrived.frame.message
        number = answers(message)
        if isinstance(message, Failed) and message.code >= Code.MALFORMED:
            raise refused(str(self.address), message)
        if number in self._waiting:
            self._waiting[number].append(arrived)


class ClientSession:
    """A session on the server."""

    def __init__(self, client: SessionClient, opened: Opened) -> None:
        self.secret = opened.secret
        """Whoever has it can `resume` the session."""
        self.num_tokens_at_start = opened.num_tokens
        self.last_turn = opened.last_turn
        self._client = client
        self._number = opened.session
        if opened.last_turn:
            client._waiting.setdefault(opened.last_turn, deque())

    def turn(
        self,
        token_ids: Sequence[int],
        *,
        max_new_tokens: int,
        want_logits: bool = False,
        stop_ids: Sequence[int] = (),
        sampling: Sampling | None = None,
    ) -> TurnStream:
        """Send new tokens; what comes of them, as it comes."""
        client = self._client
        number = self.last_turn = client._next()
        message = Turn(
            number, self._number, list(token_ids), max_new_tokens, want_logits, list(stop_ids), sampling
        )
        client._waiting[number] = deque()
        sent_s = perf_counter()
        return TurnStream(client, number, sent_s, client._send(message))

    def generate(
        self,
        token_ids: Sequence[int],
        *,
        max_new_tokens: int,
        want_logits: bool = False,
        stop_ids: Sequence[int] = (),
        sampling: Sampling | None = None,
    ) -> Generated:
        """As `turn`, all at once."""
        return self.turn(
            token_ids, max_new_tokens=max_new_tokens, want_logits=want_logits, stop_ids=stop_ids,
            sampling=sampling,
        ).whole()  # fmt: skip

    def rest_of_turn(self) -> TurnStream:
        """What a resumed session's latest turn still gives."""
        return TurnStream(self._client, self.last_turn, perf_counter(), 0)

    def put_kv(self, start: int, token_ids: Sequence[int], rows: Buffer) -> None:
        """Set keys and values from position `start` on; the session ends behind them."""
        client, row_bytes = self._client, self._client.welcome.kv_token_bytes
        view, piece = memoryview(rows).cast("B"), self._piece
        for at in range(0, max(1, len(token_ids)), piece):
            ids = list(token_ids[at : at + piece])
            # The last piece takes all that is left: what is too much is the server's to refuse.
            end = (at + piece) * row_bytes if at + piece < len(token_ids) else len(view)
            message = PutKv(client._next(), self._number, start + at, ids)
            client._ask(Ok, message, (view[at * row_bytes : end],))

    def get_kv(self, start: int = 0) -> KvBlock:
        """Keys and values from position `start` to the last token computed."""
        client = self._client
        blocks: list[KvBlock] = []
        while not blocks or len(blocks[-1].token_ids) == self._piece:
            at = start + len(blocks) * self._piece
            message = GetKv(client._next(), self._number, at, self._piece)
            blocks.append(kv_of(client._ask(Kv, message)))
        return joined(blocks)

    @property
    def _piece(self) -> int:
        """Tokens whose keys and values cross at once."""
        return max(1, PIECE_BYTES // max(1, self._client.welcome.kv_token_bytes))

    def close(self, *, waits: bool = True) -> None:
        """End the session. Arguments: `waits`, for the answer; what is asked next comes after it anyway."""
        client, message = self._client, Close(self._client._next(), self._number)
        if waits:
            client._ask(Ok, message)
        else:
            client._send(message)


class TurnStream:
    """The tokens of a turn, as they come; iterate, or take the `whole`."""

    def __init__(self, client: SessionClient, number: int, sent_s: float, bytes_up: int) -> None:
        self.number = number
        self.done: Done | None = None
        """How it ended, once it has."""
        self.bytes_up = bytes_up
        self.bytes_down = 0
        self._sent_s = sent_s
        self._client = client

    def __iter__(self) -> Iterator[StreamedToken]:
        while (token := self.next()) is not None:
            yield token

    def next(self) -> StreamedToken | None:
        """The next token, or None at the end."""
        if self.done is not None:
            return None
        try:
            arrived = self._client._wait(self.number)
        except HarnessError:
            self._client._waiting.pop(self.number, None)
            raise
        self.bytes_down += arrived.frame.num_bytes
        message = arrived.frame.message
        if isinstance(message, Done):
            self.done = message
            self._client._waiting.pop(self.number, None)
            return None
        return token_of(arrived)

    def whole(self) -> Generated:
        """All that is still to come, and the end."""
        tokens = tuple(self)
        assert self.done is not None
        return Generated(tokens, self.done, self._sent_s, perf_counter(), self.bytes_up, self.bytes_down)

    def cancel(self) -> None:
        """Ask for an early end; the tokens that came before it are still to be read."""
        self._client._send(Cancel(self.number))
