"""Many sessions of one server at once, and the same ones one after the other.

Only decoding is timed: before it each session has its prompt's keys and values put back, and the first token
is known. So both ways begin at the same point, however often they are run.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from harness.sessions.client import SessionClient

__all__ = ["Batch", "Batched"]


class Batched(NamedTuple):
    """What one pass over all sessions gave."""

    token_ids: tuple[tuple[int, ...], ...]
    """Of each session, without its first token."""
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        """Of all sessions together."""
        return sum(map(len, self.token_ids)) / self.total_s


class Batch:
    """Sessions over one connection, each with a prompt that is computed once."""

    def __init__(self, client: SessionClient, prompts: Sequence[Sequence[int]], num_new: int) -> None:
        """Open them. Raises BudgetError when the server has no room for all."""
        self.num_new = num_new
        self._prompts = prompts
        self._sessions = [client.open(len(prompt) + num_new + 1) for prompt in prompts]
        self._firsts: list[int] = []
        self._rows: list[memoryview] = []
        for session, prompt in zip(self._sessions, prompts, strict=True):
            self._firsts += session.generate(prompt, max_new_tokens=1).token_ids
            self._rows.append(session.get_kv().rows)

    @property
    def firsts(self) -> list[int]:
        """The first token after each prompt."""
        return list(self._firsts)

    def rewind(self) -> None:
        """Have every session hold its prompt alone."""
        for session, prompt, rows in zip(self._sessions, self._prompts, self._rows, strict=True):
            session.put_kv(0, prompt, rows)

    def together(self) -> Batched:
        """Decode all at once."""
        began_s = perf_counter()
        streams = [
            session.turn([first], max_new_tokens=self.num_new)
            for session, first in zip(self._sessions, self._firsts, strict=True)
        ]
        found = tuple(tuple(token.token_id for token in stream) for stream in streams)
        return Batched(found, perf_counter() - began_s)

    def one_by_one(self) -> Batched:
        """Decode one after the other."""
        began_s = perf_counter()
        found = tuple(
            tuple(session.generate([first], max_new_tokens=self.num_new).token_ids)
            for session, first in zip(self._sessions, self._firsts, strict=True)
        )
        return Batched(found, perf_counter() - began_s)

    def close(self) -> None:
        """End the sessions."""
        for session in self._sessions:
            session.close()
