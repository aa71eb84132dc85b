"""What the engine is asked, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Job", "Outcome", "Piece", "Refusal", "Row"]


class Refusal(ValueError):
    """The engine cannot do this as asked; the message says why, and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One prompt to be answered."""

    turns: tuple[tuple[str, str], ...] = ()
    """A chat as (role, content), rendered by the model's template; or else"""
    prompt: str | None = None
    """raw text."""
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    """Never choose a token that ends the answer, so that exactly `max_tokens` come."""
    logprobs: bool = False
    reuse_prefix: bool = False
    num: int = 1
    """Answers, decoded as one batch."""
    pieces: bool = False
    """Whether the text is wanted as it comes."""


class Piece(NamedTuple):
    """Text as it came, and when its last token was chosen."""

    text: str
    time_s: float


class Row(NamedTuple):
    """One answer."""

    text: str
    finish_reason: str
    """`stop` (the model's own end, or a stop string) or `length`."""
    num_tokens: int
    """Tokens chosen, the one that ended the answer among them."""
    logprobs: tuple[float, ...] | None
    """One per token of text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All answers to a job."""

    rows: tuple[Row, ...]
    prompt_tokens: int
    cached_tokens: int
    """Tokens of the prompt that were not computed again."""
    prefill_s: float
    """From the prompt's text to the first token chosen."""
    decode_s: float
    """From the first token to the last."""
