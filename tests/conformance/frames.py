"""Requests and streamed answers, byte for byte, for the tests against a canned server."""

from __future__ import annotations

import json
from typing import Any

from harness.backends import Message, Request

CHAT = Request(messages=(Message("user", "hello"),), max_tokens=3)
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}}


def event(**frame: Any) -> bytes:
    """A streamed event."""
    return b"data: " + json.dumps(frame, ensure_ascii=False).encode() + b"\n\n"


def piece(text: str, finish_reason: str | None = None) -> bytes:
    """An event that bears text."""
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


STREAM = piece("Grüße, ") + piece("世界 🙂") + piece("", "stop") + b"data: [DONE]\n\n"
TEXT = "Grüße, 世界 🙂"
