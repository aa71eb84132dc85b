"""A session as its client has it: turns, their tokens as they come, keys and values up and down."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.sessions.messages import Cancel, Close, Done, GetKv, Kv, Ok, Opened, PutKv, Turn
from harness.sessions.protocol import Buffer
from harness.sessions.replies import Generated, KvBlock, StreamedToken, joined, kv_of, token_of
from harness.sessions.sampling import Sampling

if TYPE_CHECKING:
    from harness.sessions.client import SessionClient

__all__ = ["PIECE_BYTES", "ClientSession", "TurnStream"]

PIECE_BYTES = 2**28
"""What is larger crosses in several frames: well below what a server takes in one."""


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
            client.waiting.setdefault(opened.last_turn, deque())

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
        number = self.last_turn = client.next_request()
        message = Turn(
            number, self._number, list(token_ids), max_new_tokens, want_logits, list(stop_ids), sampling
        )
        client.waiting[number] = deque()
        sent_s = perf_counter()
        return TurnStream(client, number, sent_s, client.send(message))

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
            message = PutKv(client.next_request(), self._number, start + at, ids)
            client.ask(Ok, message, (view[at * row_bytes : end],))

    def get_kv(self, start: int = 0) -> KvBlock:
        """Keys and values from position `start` to the last token computed."""
        client = self._client
        blocks: list[KvBlock] = []
        while not blocks or len(blocks[-1].token_ids) == self._piece:
            at = start + len(blocks) * self._piece
            message = GetKv(client.next_request(), self._number, at, self._piece)
            blocks.append(kv_of(client.ask(Kv, message)))
        return joined(blocks)

    @property
    def _piece(self) -> int:
        """Tokens whose keys and values cross at once."""
        return max(1, PIECE_BYTES // max(1, self._client.welcome.kv_token_bytes))

    def close(self, *, waits: bool = True) -> None:
        """End the session. Arguments: `waits`, for the answer; what is asked next comes after it anyway."""
        client, message = self._client, Close(self._client.next_request(), self._number)
        if waits:
            client.ask(Ok, message)
        else:
            client.send(message)


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
            arrived = self._client.wait(self.number)
        except HarnessError:
            self._client.waiting.pop(self.number, None)
            raise
        self.bytes_down += arrived.frame.num_bytes
        message = arrived.frame.message
        if isinstance(message, Done):
            self.done = message
            self._client.waiting.pop(self.number, None)
            return None
        return token_of(arrived)

    def whole(self) -> Generated:
        """All that is still to come, and the end."""
        tokens = tuple(self)
        assert self.done is not None
        return Generated(tokens, self.done, self._sent_s, perf_counter(), self.bytes_up, self.bytes_down)

    def cancel(self) -> None:
        """Ask for an early end; the tokens that came before it are still to be read."""
        self._client.send(Cancel(self.number))
