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
from collections.abc import Mapping
from typing import Self, TypeVar, cast

from harness.errors import BackendBroken
from harness.sessions.address import Address, dial
from harness.sessions.channel import Arrived, Channel
from harness.sessions.client_session import PIECE_BYTES, ClientSession, TurnStream
from harness.sessions.codes import Code
from harness.sessions.framing import Frame
from harness.sessions.limits import FrameLimits
from harness.sessions.messages import (
    VERSION,
    Failed,
    Hello,
    Message,
    Ok,
    Open,
    Opened,
    Ping,
    PutWeights,
    Resume,
    Stats,
    StatsReply,
    Welcome,
)
from harness.sessions.protocol import Buffer
from harness.sessions.replies import answers, check_model, refused

__all__ = ["ClientSession", "SessionClient", "TurnStream"]

M = TypeVar("M", bound=Message)


class SessionClient:
    """A connection to a session server; a context manager."""

    def __init__(self, channel: Channel, welcome: Welcome, where: Address) -> None:
        self.welcome = welcome
        self.address = where
        self._channel = channel
        self._last_request = 0
        self.waiting: dict[int, deque[Arrived]] = {}
        """Frames that came for a request or turn before it asked, by its number; others are dropped."""

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
        opened = self.ask(Opened, Open(self.next_request(), max_tokens, linger_s, model)).message
        return ClientSession(self, cast(Opened, opened))

    def resume(self, secret: bytes, *, turn: int = 0, received: int = 0) -> ClientSession:
        """Take a session over from a connection that ended.

        Parameters
        ----------
        turn: the turn whose tokens are to come again, after the first `received` of them; read them with
            `session.rest_of_turn()`.
        """
        opened = cast(Opened, self.ask(Opened, Resume(self.next_request(), secret, turn, received)).message)
        self._last_request = max(self._last_request, opened.last_turn)
        return ClientSession(self, opened)

    def stats(self) -> dict[str, int | float | str | None]:
        """The server's counters."""
        return cast(StatsReply, self.ask(StatsReply, Stats(self.next_request())).message).stats

    def ping(self) -> None:
        """Have the server answer."""
        self.ask(Ok, Ping(self.next_request()))

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

    def next_request(self) -> int:
        """The number of the next request or turn, one more than the last."""
        self._last_request += 1
        return self._last_request

    def send(self, message: Message, buffers: tuple[Buffer, ...] = ()) -> int:
        """Send a message and the buffers behind it; returns how many bytes that were."""
        try:
            return self._channel.send(message, buffers)
        except BackendBroken:
            # Why it ended came before the end.
            while self._channel.has_frames:
                self._sort(self._channel.receive())
            raise

    def ask(self, kind: type[M], message: Message, buffers: tuple[Buffer, ...] = ()) -> Frame:
        """Send a request, wait for the answer to it."""
        request: int = getattr(message, "request")  # noqa: B009
        self.waiting[request] = deque()
        try:
            self.send(message, buffers)
            frame = self.wait(request).frame
        finally:
            self.waiting.pop(request, None)
        if not isinstance(frame.message, kind):
            raise BackendBroken(f"{self.address}: {type(frame.message).__name__}, not {kind.__name__}")
        return frame

    def wait(self, request: int) -> Arrived:
        """The next frame that answers this request, or belongs to this turn."""
        mine = self.waiting[request]
        while not mine:
            self._sort(self._channel.receive())
        arrived = mine.popleft()
        if isinstance(arrived.frame.message, Failed):
            raise refused(str(self.address), arrived.frame.message)
        return arrived

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
        self.ask(Ok, PutWeights(self.next_request(), list(weights)), tuple(weights.values()))

    def _sort(self, arrived: Arrived) -> None:
        """Put a frame where it is waited for; what nobody waits for is dropped."""
        message = arrived.frame.message
        number = answers(message)
        if isinstance(message, Failed) and message.code >= Code.MALFORMED:
            raise refused(str(self.address), message)
        if number in self.waiting:
            self.waiting[number].append(arrived)
