"""llama.cpp's server, over HTTP, with what it offers beyond the OpenAI API.

Its own defaults would change what is asked: sampling keeps only the 40 likeliest tokens, drops those below
5 % of the likeliest, and prompts profit from earlier ones. All of that is switched off unless asked for.
"""

from __future__ import annotations

from typing import Any

from harness.backends.base import Request
from harness.backends.openai import OpenAIBackend

__all__ = ["LlamaCppBackend"]

_COMPACT_JSON = {"whitespace_flexible": False}
"""A note in the schema to llguidance, the grammar engine: no blanks between tokens, of which small models
write without end. A build with another grammar engine ignores it."""


class LlamaCppBackend(OpenAIBackend):
    """A client of llama.cpp's server, embedded or elsewhere."""

    def _takes_schema_with(self, request: Request) -> bool:
        return True

    def _body(self, request: Request) -> dict[str, Any]:
        body = super()._body(request)
        body["cache_prompt"] = request.cache_prompt
        if request.temperature > 0:
            body |= {"top_k": 0, "min_p": 0.0, "top_p": 1.0 if request.top_p is None else request.top_p}
        if request.json_schema is not None:
            schema = {**request.json_schema, "x-guidance": _COMPACT_JSON}
            if request.messages:
                body["response_format"]["json_schema"]["schema"] = schema
            else:
                body["json_schema"] = schema
        return body
