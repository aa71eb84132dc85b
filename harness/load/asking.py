"""What each request of a load asks: made-up prompts of a length, or those of a file.

Made-up prompts differ from their first word on, so that no server's prefix cache answers for it. Only the
server can count its tokens, so a length is asked for in words, and `words_for` finds how many words make so
many tokens by asking the server twice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.backends.base import Backend, Message, Request
from harness.errors import BackendBroken, UsageError

__all__ = ["Asking", "Listed", "MadeUp", "read_prompts", "words_for"]

_WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "flint",
    "grove",
    "heron",
    "inlet",
    "larch",
    "maple",
    "north",
    "otter",
    "pearl",
    "quartz",
    "river",
    "stone",
    "thorn",
    "under",
    "valley",
    "willow",
    "yarrow",
    "about",
    "before",
    "corner",
    "distant",
    "evening",
    "forward",
    "garden",
    "harvest",
    "island",
    "kettle",
]
_FEW, _MANY = 8, 72
_LEAST_PER_WORD = 0.5
"""Tokens: a tokenizer that makes fewer of a word than this is none."""


class Asking(Protocol):
    """Says what the request of each index asks."""

    def request(self, index: int) -> Request:
        """The request of this place in the load, the same at each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp:
    """Prompts of words without sense."""

    num_words: Sequence[int] = (64,)
    """By index, around again at the end."""
    output_tokens: Sequence[int] = (64,)
    """Likewise."""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further fields of each `Request`."""

    def request(self, index: int) -> Request:
        """See `Asking.request`."""
        draw = random.Random(self.seed * 1_000_003 + index)
        words = draw.choices(_WORDS, k=self.num_words[index % len(self.num_words)])
        text = f"{draw.randrange(10**6)} {' '.join(words)}"
        max_tokens = self.output_tokens[index % len(self.output_tokens)]
        return Request(messages=(Message("user", text),), max_tokens=max_tokens, **self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Requests that are given, around again at the end."""

    requests: Sequence[Request]

    def request(self, index: int) -> Request:
        """See `Asking.request`."""
        return self.requests[index % len(self.requests)]


def read_prompts(path: Path | str, *, output_tokens: int, options: Mapping[str, Any] | None = None) -> Listed:
    """Read prompts from a file: `.jsonl` with objects of prompt and maybe output_tokens, else a line each.

    Arguments: `output_tokens`, of prompts that name none; `options`, further fields of each `Request`.

    Raises
    ------
    UsageError: the file cannot be read, or a line is no prompt; the message names file and line.
    """
    path = Path(path)
    try:
        # Not splitlines: a line of JSON may hold U+2028, and a prompt a form feed.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"prompts {path}: cannot be read ({reason}); give a text or .jsonl file") from exc
    requests = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row: Mapping[str, Any] = {"prompt": line}
        if path.suffix == ".jsonl":
            row = _row(f"prompts {path}, line {number}", line)
        max_tokens: int = row.get("output_tokens", output_tokens)
        message = Message("user", row["prompt"])
        requests.append(Request(messages=(message,), max_tokens=max_tokens, **(options or {})))
    if not requests:
        raise UsageError(f"prompts {path}: holds no prompt; give at least one")
    return Listed(requests=tuple(requests))


async def words_for(backend: Backend, num_tokens: Sequence[int]) -> tuple[int, ...]:
    """How many made-up words make prompts of so many tokens, the template's own included.

    Asks the server twice, for one token each, and takes its counts for a straight line. A server whose count
    does not grow with the prompt is canned: it gets a word per token.

    Raises
    ------
    BackendError: as `Backend.generate`, or the server does not count prompt tokens.
    """
    counts = []
    for num_words in (_FEW, _MANY):
        answer = await backend.generate(MadeUp(num_words=(num_words,), output_tokens=(1,)).request(0))
        if answer.prompt_tokens is None:
            raise BackendBroken(
                f"{backend.name}: does not count the tokens of a prompt; give prompts with --prompts FILE"
            )
        counts.append(answer.prompt_tokens)
    per_word = (counts[1] - counts[0]) / (_MANY - _FEW)
    if per_word < _LEAST_PER_WORD:
        return tuple(num_tokens)
    return tuple(max(1, round(_FEW + (wanted - counts[0]) / per_word)) for wanted in num_tokens)


def _row(where: str, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as exc:
        raise UsageError(f"{where}: no JSON ({exc}); give an object with a prompt") from exc
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"]:
        raise UsageError(f"{where}: holds no prompt; give an object with a text under prompt")
    if unknown := sorted(row.keys() - {"prompt", "output_tokens"}):
        raise UsageError(f"{where}: unknown key {unknown[0]!r}; known are prompt and output_tokens")
    tokens = row.get("output_tokens", 1)
    if type(tokens) is not int or tokens < 1:
        raise UsageError(f"{where}: output_tokens is {tokens!r}; give a whole number of at least 1")
    return row
