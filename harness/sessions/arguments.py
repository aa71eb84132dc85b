"""What the values of a command line may be; each takes the text, and raises as argparse wants it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

__all__ = ["names", "not_negative", "port", "positive", "shares"]

T = TypeVar("T", int, float)


def port(text: str) -> int:
    """Of a listener; 0 for any free one."""
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"{text!r}: give 0 to 65535")
    return int(text)


def positive(kind: type[T]) -> Callable[[str], T]:
    """A finite number above 0."""

    def parse(text: str) -> T:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        # Written so that NaN fails.
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r}: give a number > 0")
        return value

    return parse


def not_negative(text: str) -> float:
    """The same, or 0."""
    return 0.0 if text in ("0", "0.0") else positive(float)(text)


def names(text: str) -> list[str]:
    """Several, with commas between."""
    found = [name.strip() for name in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: give names with commas between, each once")
    return found


def shares(text: str) -> list[float]:
    """Several positive numbers, with commas between."""
    return [positive(float)(part) for part in text.split(",")]
