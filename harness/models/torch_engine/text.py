"""Text from tokens as they come: whole characters only, and nothing that a stop string may yet swallow.

A token of a byte-level vocabulary may hold a part of a character, so a token is not a piece of text. A piece
is given out when the text decoded so far ends in a whole character; what a model writes that is no UTF-8
stays as U+FFFD, and is given out with the next whole character or at the end. The pieces join to what the
tokenizer makes of all tokens at once; only where a tokenizer falls back to bytes and these are no UTF-8 may
a character differ, since it then takes back what stood before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

__all__ = ["TextStream"]

_BROKEN = "\ufffd"


class TextStream:
    """The text of one answer.

    Arguments: `decode`, the tokenizer's text of some tokens; `stop`, strings before which the text ends.
    """

    __slots__ = (
        "_decode", "_given", "_ids", "_known", "_read", "_starts", "_stop", "_text", "_window", "is_stopped",
    )  # fmt: skip

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Iterable[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(filter(None, stop))
        self._ids: list[int] = []
        self._starts: list[int] = []
        self._text = ""
        self._given = 0
        # Tokens before `_window` are done with. Those up to `_read` are in the text, and are decoded again
        # for context only (a tokenizer may treat the first token of a text differently): `_known` is theirs.
        self._window = self._read = 0
        self._known = ""
        self.is_stopped = False
        """Whether a stop string was met."""

    @property
    def text(self) -> str:
        """The text so far, ending before the stop string if one was met."""
        return self._text

    @property
    def num_tokens_of_text(self) -> int:
        """Tokens that begin within the text: fewer than were pushed when a stop string was met."""
        if not self.is_stopped:
            return len(self._ids)
        return sum(start < len(self._text) for start in self._starts)

    def push(self, token: int) -> str:
        """Add a token; the piece of text that can be given out now, often empty."""
        self._starts.append(len(self._text))
        self._ids.append(token)
        grown = self._decode(self._ids[self._window :])
        if len(grown) <= len(self._known) or grown.endswith(_BROKEN):
            return ""
        self._append(grown[len(self._known) :])
        self._window, self._read = self._read, len(self._ids)
        self._known = self._decode(self._ids[self._window : self._read])
        return self._give(len(self._text) - self._held_len())

    def finish(self) -> str:
        """Give out what was held back."""
        if not self.is_stopped and self._read < len(self._ids):
            self._append(self._decode(self._ids[self._window :])[len(self._known) :])
            self._read = len(self._ids)
        return self._give(len(self._text))

    def _append(self, piece: str) -> None:
        longest = max(map(len, self._stop), default=0)
        begin = max(0, len(self._text) - longest + 1)
        self._text += piece
        found = [at for at in (self._text.find(s, begin) for s in self._stop) if at >= 0]
        if found:
            self.is_stopped = True
            self._text = self._text[: min(found)]

    def _held_len(self) -> int:
        """Length of the text's longest end with which a stop string begins."""
        if self.is_stopped:
            return 0
        lens = (n for s in self._stop for n in range(1, len(s)) if self._text.endswith(s[:n]))
        return max(lens, default=0)

    def _give(self, end: int) -> str:
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        return piece
