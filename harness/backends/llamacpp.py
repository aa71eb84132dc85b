"""llama.cpp's server, over HTTP, with what it offers beyond the OpenAI API.

Its own defaults would change what is asked: sampling keeps only the 40 likeliest tokens, drops those below
5 % of the likeliest, and prompts profit from earlier ones. All of that is switched off unless asked for.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

from harness.backends.base import Completion, OnChunk, Request
from harness.backends.openai import OpenAIBackend

__all__ = ["LlamaCppBackend", "wait_until"]

_TIMER_GRAIN_S = 0.002
"""An event loop's timer may fire this much late; the last stretch of a wait is spent yielding instead."""


class LlamaCppBackend(OpenAIBackend):
    """A client of llama.cpp's server, embedded or elsewhere."""

    def __init__(self, url: str, *, slowdown: float = 0.0, **options: Any) -> None:
        """As `OpenAIBackend`; `slowdown` keeps the caller waiting that share of each answer's time longer.

        The slowed arm is how the suite proves that its own gate notices a regression.
        """
        if slowdown < 0:
            raise ValueError(f"slowdown is {slowdown}, and must not be negative")
        super().__init__(url, **options)
        self.slowdown = slowdown

    async def generate(self, request: Request, on_chunk: OnChunk | None = None) -> Completion:
        """Answer one request; see `Backend.generate`."""
        completion = await super().generate(request, on_chunk)
        if not self.slowdown:
            return completion
        await wait_until(completion.done_s + self.slowdown * completion.e2e_latency_s)
        return dataclasses.replace(completion, done_s=time.perf_counter())

    def _body(self, request: Request) -> dict[str, Any]:
        body = super()._body(request)
        body["cache_prompt"] = request.cache_prompt
        if request.temperature > 0:
            body |= {"top_k": 0, "min_p": 0.0, "top_p": 1.0 if request.top_p is None else request.top_p}
        if request.json_schema is not None and not request.messages:
            body["json_schema"] = body.pop("response_format")["json_schema"]["schema"]
        return body


async def wait_until(deadline_s: float) -> None:
    """Return at this time of `time.perf_counter`, and not a timer's grain later."""
    remaining_s = deadline_s - time.perf_counter()
    if remaining_s > _TIMER_GRAIN_S:
        await asyncio.sleep(remaining_s - _TIMER_GRAIN_S)
    while time.perf_counter() < deadline_s:
        await asyncio.sleep(0)
