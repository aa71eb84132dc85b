"""llama.cpp's server, over HTTP, with what it offers beyond the OpenAI API.

Its own defaults would change what is asked: sampling keeps only the 40 likeliest tokens, drops those below
5 % of the likeliest, and prompts profit from earlier ones. A model's file may hold other defaults still
(`general.sampling.*`). All of that is switched off unless asked for.

Spoken to as any OpenAI server (`http://` instead of `llamacpp+http://`), it reuses prompts by default: with
several requests at once on one slot, those that happen to follow their like do so, a fifth of all tokens or
four fifths, as it comes. This client's requests never do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.backends.base import Request
from harness.backends.openai import OpenAIBackend, untruncated

__all__ = ["LlamaCppBackend"]

_COMPACT_JSON = {"whitespace_flexible": False}
"""A note in the schema to llguidance, the grammar engine: no blanks between tokens, of which small models
write without end. A build with another grammar engine ignores it."""


class LlamaCppBackend(OpenAIBackend):
    """A client of llama.cpp's server, embedded or elsewhere."""

    async def metrics(self) -> Mapping[str, float]:
        """The server's counters; see `Metered`. Raises `BackendRejected` without `--metrics`."""
        return await self._samples("start llama-server with --metrics")

    def _takes_schema_with(self, request: Request) -> bool:
        return True

    def _body(self, request: Request) -> dict[str, Any]:
        body = super()._body(request)
        body |= {"cache_prompt": request.cache_prompt, "repeat_penalty": 1.0}
        body |= untruncated(request, every_token=0)
        if request.json_schema is not None:
            schema = {**request.json_schema, "x-guidance": _COMPACT_JSON}
            if request.messages:
                body["response_format"]["json_schema"]["schema"] = schema
            else:
                body["json_schema"] = schema
        return body
