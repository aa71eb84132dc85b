"""The weights stay; keys and values belong to the client, in a session that is new for each token.

Before a token all keys and values go up; after it either the new ones come back, or all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from harness.sessions.client import ClientSession, SessionClient
from harness.sessions.modes.base import Crossed, Decoded

__all__ = ["PartiallyAware"]


class PartiallyAware:
    """Keys and values cross for each token.

    Arguments: `both_ways`, whether all of them come back, and not just the new ones.
    """

    def __init__(self, client: SessionClient, *, both_ways: bool = False) -> None:
        self.client = client
        self._both_ways = both_ways

    def decode(self, prompt: Sequence[int], num_new: int) -> Decoded:
        """Decode, each token in a fresh session.

        Raises
        ------
        BackendError: the server is gone, or refused; BudgetError where that was for want of memory.
        """
        client, crossed, held = self.client, Crossed(), _Held(self.client, len(prompt) + num_new)
        found: list[int] = []
        queue_s = compute_s = 0.0
        first_s, remote = None, 0
        up, down = client.bytes_sent, client.bytes_received
        began_s = perf_counter()
        for at in range(num_new):
            session = client.open(len(prompt) + num_new)
            self._send_state(crossed)
            held.put(session, crossed)
            step = session.generate(found[-1:] if at else prompt, max_new_tokens=1)
            found += step.token_ids
            queue_s += step.done.queue_s
            compute_s += step.done.compute_s + step.done.transfer_s
            remote += step.done.num_tokens
            first_s = first_s or step.tokens[0].came_s
            held.get(session, crossed, start=0 if self._both_ways else held.num_tokens)
            done_s = perf_counter()
            session.close(waits=at == num_new - 1)
        return Decoded(
            token_ids=tuple(found), began_s=began_s, first_s=first_s, done_s=done_s, queue_s=queue_s,
            compute_s=compute_s, bytes_up=client.bytes_sent - up, bytes_down=client.bytes_received - down,
            crossed=crossed, remote_tokens=remote,
        )  # fmt: skip

    def _send_state(self, crossed: Crossed) -> None:
        """Send what else does not stay on the server: nothing."""


class _Held:
    """Keys and values at the client, a row per token, in memory that is taken once."""

    def __init__(self, client: SessionClient, max_tokens: int) -> None:
        self._row_bytes = client.welcome.kv_token_bytes
        self._rows = memoryview(bytearray(max_tokens * self._row_bytes))
        self._token_ids: list[int] = []

    @property
    def num_tokens(self) -> int:
        return len(self._token_ids)

    def put(self, session: ClientSession, crossed: Crossed) -> None:
        if not self._token_ids:
            return
        rows = self._rows[: self.num_tokens * self._row_bytes]
        began_s = perf_counter()
        session.put_kv(0, self._token_ids, rows)
        crossed.crossing_s += perf_counter() - began_s
        crossed.kv_up_bytes += rows.nbytes

    def get(self, session: ClientSession, crossed: Crossed, *, start: int) -> None:
        began_s = perf_counter()
        block = session.get_kv(start)
        crossed.crossing_s += perf_counter() - began_s
        crossed.kv_down_bytes += block.rows.nbytes
        at = start * self._row_bytes
        self._rows[at : at + block.rows.nbytes] = block.rows
        self._token_ids[start:] = block.token_ids
