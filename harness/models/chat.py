"""The one conversation format of the pocket models, as text and as a template."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CHAT_TEMPLATE", "END_OF_TURN", "SPECIAL_TOKENS", "opening", "transcript"]

END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", END_OF_TURN)
"""Padding, start of a turn, end of a turn: ids 0, 1 and 2."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Jinja source; `opening` writes the same text for a conversation of user turns."""


def opening(prompt: str) -> str:
    """The text up to where the model starts to answer a user's message."""
    return f"<|im_start|>user\n{prompt}{END_OF_TURN}\n<|im_start|>assistant\n"


def transcript(turns: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of (text not learnt, text learnt) for a conversation of (prompt, target) turns."""
    pieces = []
    for number, (prompt, target) in enumerate(turns):
        pieces.append((("\n" if number else "") + opening(prompt), target + END_OF_TURN))
    return pieces
