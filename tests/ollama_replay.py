"""Ollama's answers, byte for byte: those of its documentation, and lines composed as it writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.backends import Message, Request
from harness.backends.ollama import OllamaBackend
from harness.launchers.canned import Behaviour, CannedServer, replaying

CHAT = Request(messages=(Message("user", "why is the sky blue?"),), max_tokens=300)
_TOLD = json.loads((Path(__file__).parent / "data" / "ollama" / "transcripts.json").read_text())


class Transcript(NamedTuple):
    """What Ollama's documentation shows of one answer."""

    body: bytes
    content_type: str
    status: int

    def cut(self, size: int) -> Behaviour:
        """Replayed in pieces of this many bytes."""
        pieces = (self.body[i : i + size] for i in range(0, len(self.body), size))
        return replaying(*pieces, content_type=self.content_type, status=self.status)


def transcript(name: str) -> Transcript:
    """A transcript by its name."""
    told = _TOLD[name]
    return Transcript(told["body"].encode(), told["content_type"], told["status"])


def line(**frame: Any) -> bytes:
    """A frame as Ollama writes it."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def streamed(*lines: bytes, size: int = 10_000) -> Behaviour:
    """These lines, cut into pieces of this many bytes."""
    return Transcript(b"".join(lines), "application/x-ndjson", 200).cut(size)


@pytest.fixture
def ollama() -> Iterator[CannedServer]:
    """A canned server, in Ollama's place."""
    with CannedServer() as server:
        yield server


def client(server: CannedServer, **options: Any) -> OllamaBackend:
    """A client of it."""
    return OllamaBackend(server.url, model="llama3.2", name="small", timeout_s=5, **options)
