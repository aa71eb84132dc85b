"""A backend that answers each greedy request once, and from memory after that.

Grading eight assignments of two models to three stages asks the same model the same question many times. A
greedy answer does not change, so it is generated once and shared: counts and engine seconds are those of the
one real generation. That it does not change is checked, not assumed (`repeat`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

from harness.backends.base import Backend, Completion, OnChunk, Request
from harness.errors import UsageError

__all__ = ["MemoBackend", "Repeat"]


class Repeat(NamedTuple):
    """How many remembered answers came out the same when asked again."""

    asked: int
    same: int


class _Known(NamedTuple):
    request: Request
    answer: asyncio.Task[Completion]


class MemoBackend:
    """Wraps a backend; implements the same protocol."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.name = inner.name
        self.model = inner.model
        self.num_generated = 0
        self.num_recalled = 0
        self._answers: dict[Hashable, _Known] = {}

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """The remembered answer, or a new one.

        Raises
        ------
        UsageError: the request samples (its temperature is above 0), so that its answer may change.
        """
        if request.temperature > 0:
            raise UsageError(
                f"{self.name}: temperature is {request.temperature}; only greedy answers are remembered"
            )
        key = _key(request)
        known = self._answers.get(key)
        if known is None:
            self.num_generated += 1
            known = self._answers[key] = _Known(request, asyncio.create_task(self.inner.generate(request)))
        else:
            self.num_recalled += 1
        try:
            return await known.answer
        except BaseException:
            self._answers.pop(key, None)
            raise

    async def repeat(self, at_most: int) -> Repeat:
        """Ask `at_most` remembered questions again, evenly spread, and count the equal answers."""
        every: Sequence[_Known] = list(self._answers.values())
        chosen = every[:: max(1, len(every) // at_most)][:at_most]
        same = 0
        for known in chosen:
            again = await self.inner.generate(known.request)
            same += again.text == (await known.answer).text
        return Repeat(len(chosen), same)

    async def ready(self) -> None:
        """As the wrapped backend."""
        await self.inner.ready()

    async def aclose(self) -> None:
        """Forget every answer and release the wrapped backend."""
        self._answers.clear()
        await self.inner.aclose()


def _key(request: Request) -> Hashable:
    """The request with its schema, which is a mapping, as text."""
    if request.json_schema is None:
        return request
    return replace(request, json_schema=None), json.dumps(request.json_schema, sort_keys=True)
